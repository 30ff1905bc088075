#!/usr/bin/env python3
"""Every command and every piece of C in the documents runs.

Taken from a document: blocks (indented by four spaces, or fenced), and code in a line of text that begins like a command.
A block is shell, C, C++, Python or a picture; one that is none of these fails, so that no command hides. Commands run in order, in
a folder that looks like a checkout with a build in it, and `export` lasts until the end of the document. Pieces of C
without a main() are put into one that has opened a model and a session.

usage: test_commands.py SOURCE_DIR BUILD_DIR MODEL.gguf
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

SOURCE, BUILD, MODEL = map(os.path.abspath, sys.argv[1:4])

DOCUMENTS = ["README.md", "docs/*.md", "docs/notes/*.md", "bindings/*/README.md"]

# Whose blocks are for another folder than the checkout.
FOLDERS = {"bindings/rust/README.md": "bindings/rust"}

# What a reader puts in the place of a name, and runs that are made short. First of a pair: a regular expression.
SUBSTITUTIONS = [
    (r"\bpath/to/checkpoint\b|\bCHECKPOINT\b", "examples/models/fable-14m"),
    (r"\bMODEL\b", "model.gguf"),
    (r"(examples/)?calibrate model\.gguf predictor\.gguf", r"\g<0> --tokens 128 --window-tokens 64 --kinds sketch"),
    (r"(examples/)?fidelity model\.gguf own predictor\.gguf", r"\g<0> --window-tokens 32 --limit 2"),
    (r"(examples/)?perplexity model\.gguf", r"\g<0> --limit 1"),
    (r"(examples/)?probe (\.|model\.gguf)", r"\g<0> --seconds 1 --size 8M"),
    (r"--limit 1 (.*)--limit [18]\b", r"--limit 1 \1"),
    # half of so small a file holds no cache beside the whole context
    (r"cache_replay t\b", r"\g<0> --context 96"),
    (r"--skip 256 --tokens 200\b", "--skip 4 --tokens 8"),
    # the build under test keeps its prefix; what is installed lies below $DESTDIR, where pkg-config is told to look
    (r"^make install( PREFIX=/usr/local)?$", "meson install -C build --no-rebuild --quiet"),
    (r"^cc app\.c \$\(pkg-config .*", r"\g<0> && LD_LIBRARY_PATH=$DESTDIR/usr/local/lib/$MULTIARCH ./a.out"),
    (r"(lib)/x86_64-linux-gnu\b", r"\1/${MULTIARCH}"),
    (r"^export PKG_CONFIG_PATH=.*", r"\g<0> && pkg-config --exists flashinfer"),
]

# A document whose commands run as they are printed: of the substitutions only those that keep installing in here.
VERBATIM = "README.md"
INSTALLING = ("make install", "cc app.c $(pkg-config")

# Commands that are not run: a regular expression at the beginning of the command, and why. Each must be met.
EXCEPTIONS = {
    r"make check($| )|meson test |meson setup($| build -Dtests)": "runs this test, or others beside it",
    r"make peer|PEER=|pip install ": "fetches from the network; tests of their own do it, or look at its parts",
    r"make (bench|ablation)\b": "takes minutes to hours, and up to 14 GB",
    r"make abi-baseline": "would accept what the abi test is there to find",
    r"make uninstall": "would take away what the reader installed",
    r"make check-platforms": "downloads compilers of 0.5 GB",
    r"export PATH=\$NDK": "needs Android's NDK",
    r"bindings/python/train_predictor\.py": "needs torch, see above",
    r"make($| +#)": "is what made the build that all this runs in",
    r"cargo (test|doc --open)$": "bindings/rust/check.py tests and documents the crates",
    r"meson setup build-android": "as above; make check-platforms runs it with another compiler",
}

# Commands of programs that need not be there: not run without.
OPTIONAL = {"cargo"}

# Blocks for the eye: how they begin, per document.
PICTURES = {
    "docs/format.md": None,  # bytes only
    # the binding's own tests run these two
    "bindings/python/README.md": ["from libflashinfer import Error", "with model.session() as session"],
}

COMMAND = re.compile(r"(\$ )?(build/|bindings/|tests/|(make|cc|c\+\+|export|pip|python3|cargo|meson|ninja|cmake|sudo|apt|"
                     r"printf|perplexity|pack|generate|ablation|inspect|calibrate|fidelity|probe|docker)(?![\w:-]))")
INLINE = re.compile(r"`((?:make|cc|export|build/\w+|pip|python3|cargo|meson) [^`]+|make)`")
C_LINE = re.compile(r"#include|.*[;{}]\s*(/[*/].*)?$")

MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>
#include <flashinfer_backend.h>
%s
int main(void)
{
    flashinfer_options options;
    flashinfer_error error;
    flashinfer_model *model = NULL;
    flashinfer_session *session = NULL;
    flashinfer_predictor *predictor = NULL;
    int32_t tokens[64] = {2, 300};
    size_t count = 2;
    int code = 0;

    (void)tokens, (void)count, (void)predictor;
    flashinfer_options_init(&options, sizeof options);
    flashinfer_error_init(&error, sizeof error);
    code = flashinfer_model_open("model.gguf", &options, &model, &error);
    if (code == 0) code = flashinfer_session_create(model, &session, &error);
    if (code != 0) return printf("%%s", error.text), 1;
    {
%s
    }
    flashinfer_predictor_destroy(predictor);
    flashinfer_session_destroy(session);
    return flashinfer_model_close(model) != 0;
}
"""


class Piece:
    def __init__(self, kind, text, line, inline=False):
        self.kind, self.text, self.line, self.inline = kind, text, line, inline


def blocks(lines):
    """(language or "", text, line number), fenced or indented."""
    number = 0
    while number < len(lines):
        line = lines[number]
        first = number
        if line.startswith("```"):
            number += 1
            while number < len(lines) and not lines[number].startswith("```"):
                number += 1
            yield line[3:].strip(), "\n".join(lines[first + 1:number]), first + 1
        elif line.startswith("    ") and (first == 0 or not lines[first - 1].strip()):
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number].strip()):
                number += 1
            text = "\n".join(entry[4:] for entry in lines[first:number]).rstrip()
            yield "", text, first + 1
            continue
        number += 1


def kind_of(language, text, pictures):
    if language:
        return {"sh": "shell", "bash": "shell", "shell": "shell", "console": "shell", "c": "c", "cpp": "cpp",
                "c++": "cpp", "python": "python"}.get(language, "picture")
    if pictures is None or any(text.startswith(words) for words in pictures):
        return "picture"
    if COMMAND.match(text):
        return "shell"
    first = next(line for line in text.split("\n") if line.strip())
    return "c" if C_LINE.match(first) else None


def pieces_of(document, text):
    lines = text.split("\n")
    pictures = PICTURES.get(document, [])
    found = []
    in_block = set()
    for language, block, number in blocks(lines):
        in_block |= set(range(number, number + block.count("\n") + 3 if language else number + block.count("\n") + 1))
        kind = kind_of(language, block, pictures)
        if kind == "shell":
            joined = block.replace("\\\n", " ")
            found += [Piece("shell", line.strip().removeprefix("$ "), number) for line in joined.split("\n")
                      if line.strip() and not line.lstrip().startswith("#")]
        else:
            found.append(Piece(kind, block, number))
    if pictures is not None:
        prose = "\n".join("" if number in in_block else line for number, line in enumerate(lines, 1))
        for match in INLINE.finditer(prose):
            found.append(Piece("shell", match.group(1).replace("\n", " "), prose.count("\n", 0, match.start()) + 1,
                               True))
    return sorted(found, key=lambda piece: piece.line)


def checkout(folder):
    """A folder like a checkout after `make`: everything links to the real one, but what commands write stays here."""
    for name in os.listdir(SOURCE):
        if name not in (".git", "build", "bindings") and not name.startswith("build-"):
            os.symlink(os.path.join(SOURCE, name), os.path.join(folder, name))
    shutil.copytree(os.path.join(SOURCE, "bindings"), os.path.join(folder, "bindings"),
                    ignore=shutil.ignore_patterns("target", "build", "__pycache__", "*.so", "*.egg-info"))
    os.symlink(BUILD, os.path.join(folder, "build"))
    shutil.copyfile(MODEL, os.path.join(folder, "model.gguf"))
    for inner in FOLDERS.values():
        for name in ("examples", "model.gguf"):
            if not os.path.exists(os.path.join(folder, inner, name)):
                os.symlink(os.path.join(folder, name), os.path.join(folder, inner, name))
    with open(os.path.join(SOURCE, "docs/architecture.md"), encoding="utf8") as file:
        text = file.read()
    for number, name in enumerate(("book.txt", "text.txt", "other.txt", "test.txt", "a.txt", "b.txt")):
        with open(os.path.join(folder, name), "w", encoding="utf8") as file:
            file.write(text[number * 100:number * 100 + 6000])


class Runner:
    def __init__(self, folder):
        self.folder = folder
        self.state = os.path.join(folder, ".state")
        self.root = os.path.join(folder, "root")
        self.working = folder
        self.used = set()
        multiarch = subprocess.run(["cc", "-print-multiarch"], capture_output=True, text=True, check=False).stdout
        multiarch = multiarch.strip()
        home = os.path.expanduser("~")
        self.environment = dict(
            os.environ, HOME=os.path.join(folder, "home"), DESTDIR=self.root, PKG_CONFIG_SYSROOT_DIR=self.root,
            MULTIARCH=multiarch, PATH=f"{BUILD}/examples:{BUILD}/tests/bench:{os.environ['PATH']}",
            PKG_CONFIG_PATH=f"{self.root}/usr/local/lib/{multiarch}/pkgconfig",
            # what cargo makes stays here too
            PYTHONPATH=os.path.join(folder, "bindings/python"),
            FLASHINFER_LIBRARY=os.path.join(BUILD, "libflashinfer.so"), CARGO_TARGET_DIR=os.path.join(folder, "cargo"),
            CARGO_NET_OFFLINE="true", FLASHINFER_LIB_DIR=BUILD,
            RUSTUP_HOME=os.environ.get("RUSTUP_HOME", f"{home}/.rustup"),
            CARGO_HOME=os.environ.get("CARGO_HOME", f"{home}/.cargo"))
        os.mkdir(self.environment["HOME"])
        os.symlink(os.path.join(self.root, "usr/local"), os.path.join(folder, "home/opt"))

    def begin(self):
        with open(self.state, "w", encoding="ascii"):
            pass

    def shell(self, command, verbatim):
        """None if it ran, "" if it is an exception, else what went wrong."""
        for pattern in EXCEPTIONS:
            if re.match(pattern, command):
                self.used.add(pattern)
                return ""
        if command.split()[0] in OPTIONAL and not shutil.which(command.split()[0]):
            return ""
        printed = command
        for pattern, replacement in SUBSTITUTIONS:
            command = re.sub(pattern, replacement, command)
        if verbatim and command != printed and not printed.startswith(INSTALLING):
            return f"does not run as it is printed, but as {command}"
        script = f"source {self.state}\n{command}\ncode=$?\nexport -p >{self.state}\nexit $code\n"
        return self.check(["bash", "-c", script])

    def c(self, text, cpp):
        name = "app.cpp" if cpp else "app.c"
        if "main(" not in text:
            includes = "\n".join(line for line in text.split("\n") if line.startswith("#include"))
            rest = "\n".join(line for line in text.split("\n") if not line.startswith("#include"))
            functions = rest if re.match(r"(static|int|void) [^=;]*\)\s*\{", rest.lstrip()) else ""
            text = MAIN % (includes + "\n" + functions, "" if functions else rest)
        with open(os.path.join(self.folder, name), "w", encoding="utf8") as file:
            file.write(text)
        compiler = ["c++", "-std=c++17"] if cpp else ["cc", "-std=c11", "-D_GNU_SOURCE"]
        problem = self.check([*compiler, "-Wall", "-Wno-unused", "-Werror", "-Iinclude", name, "-o", "app", "-Lbuild",
                              "-lflashinfer", "-pthread", f"-Wl,-rpath,{BUILD}"])
        return problem if problem is not None else self.check(["./app"])

    def check(self, command):
        done = subprocess.run(command, cwd=self.working, env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=300)
        return None if done.returncode == 0 else f"exit code {done.returncode}\n{done.stdout.decode(errors='replace')}"


def main():
    documents = {os.path.relpath(path, SOURCE) for pattern in DOCUMENTS
                 for path in glob.glob(os.path.join(SOURCE, pattern))}
    # the bindings last: they go on from what docs/ made
    documents = sorted(documents, key=lambda path: (path.startswith("bindings"), path))
    failed, ran = 0, 0
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        checkout(folder)
        runner = Runner(folder)
        for document in documents:
            runner.begin()
            with open(os.path.join(SOURCE, document), encoding="utf8") as file:
                pieces = pieces_of(document, file.read())
            for piece in pieces:
                started = time.monotonic()
                if piece.kind == "picture":
                    continue
                runner.working = os.path.join(folder, "." if piece.inline else FOLDERS.get(document, "."))
                if piece.kind is None:
                    problem = "neither a command nor C nor a picture that PICTURES knows"
                elif piece.kind == "shell":
                    problem = runner.shell(piece.text, document == VERBATIM)
                elif piece.kind == "python":
                    problem = runner.check([sys.executable, "-c", piece.text])
                else:
                    problem = runner.c(piece.text, piece.kind == "cpp")
                words = "ok" if problem is None else "not run" if problem == "" else "FAILED"
                summary = piece.text.split("\n")[0][:80]
                print(f"{time.monotonic() - started:5.1f} s  {words:8}{document}:{piece.line}: {summary}", flush=True)
                ran += problem is None
                if problem:
                    failed += 1
                    print(problem)
    for pattern in EXCEPTIONS.keys() - runner.used:
        failed += 1
        print("an exception that no document needs:", pattern)
    print(f"{ran} ran, {failed} failed, of {len(documents)} documents")
    return 1 if failed or ran == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
