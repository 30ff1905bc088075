#!/usr/bin/env python3
"""What the shared library shows and what it may use. usage: check_library.py LIBRARY.so INCLUDE_DIR MAP_FILE

1. Exported symbols, the version script and the functions declared in the headers are the same set.
2. Nothing that prints or ends the process is called.
3. There is no writable global: all state hangs on handles.
"""
import re
import subprocess
import sys

# __assert_fail: test builds keep their assertions, release builds have none
PRINTS_OR_EXITS = set("""printf vprintf fprintf vfprintf puts fputs putchar fputc putc fwrite perror stdout stderr dprintf
    vdprintf write exit _exit _Exit abort quick_exit raise kill syslog vsyslog warn warnx err errx error psignal
    __printf_chk __fprintf_chk __vfprintf_chk __vprintf_chk""".split())
MADE_BY_COMPILER = {"completed.0", "__TMC_END__", "__dso_handle", "__cpu_model", "__cpu_features2", "_edata", "_end",
                    "__bss_start", "__data_start", "data_start"}


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def declared(include):
    names = set()
    for header in ("flashinfer.h", "flashinfer_backend.h"):
        with open(f"{include}/{header}", encoding="utf8") as file:
            text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
        names |= set(re.findall(r"FLASHINFER_API[^;]*?\b(flashinfer_\w+)\s*\(", text, flags=re.S))
    return names


def exported(library):
    lines = output("nm", "-D", "--defined-only", library).splitlines()
    fields = [line.split() for line in lines]
    return {field[2].split("@")[0] for field in fields if field[1] != "A"}


def scripted(map_file):
    with open(map_file, encoding="utf8") as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
    return set(re.findall(r"(flashinfer_\w+);", text))


def imported(library):
    lines = output("nm", "-D", "-u", library).splitlines()
    return {line.split()[-1].split("@")[0] for line in lines}


def writable(library):
    names = set()
    for line in output("objdump", "-t", library).splitlines():
        match = re.match(r"[0-9a-f]+ .{7} (\.data|\.bss|\.tdata|\.tbss)\s+([0-9a-f]+)\s+(\S+)$", line)
        if match and int(match[2], 16) > 0:
            names.add(match[3])
    return names - MADE_BY_COMPILER


def main():
    library, include, map_file = sys.argv[1:]
    header, map_names, symbols = declared(include), scripted(map_file), exported(library)
    problems = []
    for what, first, second in (("declared but not exported", header, symbols),
                                ("exported but not declared", symbols, header),
                                ("in the version script but not declared", map_names, header),
                                ("declared but not in the version script", header, map_names),
                                ("calls what prints or ends the process", imported(library) & PRINTS_OR_EXITS, set()),
                                ("writable global", writable(library), set())):
        problems += [f"{what}: {name}" for name in sorted(first - second)]
    if len(header) < 30:
        problems.append(f"only {len(header)} functions found in the headers: this test no longer reads them")
    print("\n".join(problems) if problems else f"{len(symbols)} functions, all declared, exported and versioned")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
