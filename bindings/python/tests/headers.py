"""Where libflashinfer/_ffi.py differs from the C headers: one line for each difference, saying what to write.

Names and types come from the preprocessed headers, numbers from a C program compiled against them.
"""
from __future__ import annotations

import ctypes
import os
import re
import shlex
import subprocess
import tempfile
from pathlib import Path

from libflashinfer import _ffi

COMPILER = shlex.split(os.environ.get("CC", "cc"))
SAME = {"int": "int32_t", "unsigned": "uint32_t", "size_t": "uint64_t"}  # on every machine with 64 bits
SCALARS = {ctypes.c_int32: "int32_t", ctypes.c_uint32: "uint32_t", ctypes.c_int64: "int64_t", ctypes.c_uint64: "uint64_t",
           ctypes.c_float: "float", ctypes.c_double: "double", ctypes.c_char: "char", ctypes.c_char_p: "char*",
           ctypes.c_void_p: "void*", None: "void"}
NUMBERS = {"int32_t", "uint32_t", "int64_t", "uint64_t", "float", "double"}
assert ctypes.sizeof(ctypes.c_size_t) == 8 and ctypes.sizeof(ctypes.c_int) == 4


# ------------------------------------------------------------------------------------------------ what _ffi.py says

CALLBACK_NAMES = {getattr(_ffi, name): name for name in _ffi.CALLBACKS}


def signature(returned, taken) -> str:
    """Numbers that functions take have their names with them: errors tell them."""
    return f"{of_ctypes(returned)}({','.join(map(of_parameter, taken))})"


def of_parameter(kind) -> str:
    return f"{of_ctypes(kind[1])} {kind[0]}" if isinstance(kind, tuple) else of_ctypes(kind)


def of_ctypes(kind) -> str:
    """A ctypes type as C writes it, without const."""
    if kind in SCALARS:
        return SCALARS[kind]
    if kind in CALLBACK_NAMES:
        return CALLBACK_NAMES[kind]
    if hasattr(kind, "_length_"):
        lengths = ""
        while hasattr(kind, "_length_"):
            lengths += f"[{kind._length_}]"
            kind = kind._type_
        return of_ctypes(kind) + lengths
    if hasattr(kind, "_argtypes_"):
        return signature(kind._restype_, kind._argtypes_)
    if issubclass(kind, ctypes._Pointer):
        return of_ctypes(kind._type_) + "*"
    return kind.__name__


def constants_of_ffi() -> dict[str, int]:
    named = {name: value for name, value in vars(_ffi).items() if name.startswith("FLASHINFER_")}
    for prefix, members in _ffi.PREFIXES.items():
        named.update((prefix + member.name, int(member)) for member in members)
    return named


# --------------------------------------------------------------------------------------------- what the headers say


def of_c(text: str) -> str:
    """A parameter's or field's type, without const and without its name."""
    text = re.sub(r"\b(const|struct)\b", "", text)
    pointer = re.match(r"\s*(.+?)\(\s*\*\s*\w+\s*\)\s*\((.*)\)\s*$", text, flags=re.S)
    if pointer:
        return f"{of_c(pointer[1] + ' _')}({parameters(pointer[2])})"
    base, stars, _name, lengths = re.match(r"\s*(\w+)\s*([\s*]*?)\s*(\w*)\s*((?:\[\w+\])*)\s*$", text).groups()
    return SAME.get(base, base) + stars.replace(" ", "") + lengths


def parameters(text: str) -> str:
    return "" if text.strip() == "void" else ",".join(map(of_c, text.split(",")))


def named_parameters(text: str) -> str:
    """As parameters(), and the names of numbers."""
    def one(parameter: str) -> str:
        kind = of_c(parameter)
        return f"{kind} {parameter.split()[-1]}" if kind in NUMBERS else kind
    return "" if text.strip() == "void" else ",".join(map(one, text.split(",")))


class Headers:
    def __init__(self, include: Path) -> None:
        flags = ["-E", "-P", "-DFLASHINFER_STATIC=", "-I", str(include), "-include", "flashinfer_backend.h", "-xc", "/dev/null"]
        self.include = include
        self.text = subprocess.run([*COMPILER, *flags], check=True, capture_output=True, text=True).stdout
        macros = subprocess.run([*COMPILER, "-dM", *flags], check=True, capture_output=True, text=True).stdout
        self.macros = re.findall(r"^#define (FLASHINFER_\w+) \d+$", macros, flags=re.M)

    def constants(self) -> list[str]:
        bodies = re.findall(r"\benum\s*\w*\s*\{(.*?)\}", self.text, flags=re.S)
        return self.macros + [name for body in bodies for name in re.findall(r"\b(FLASHINFER_\w+)\s*[=,}\s]", body)]

    def structs(self) -> dict[str, list[tuple[str, str]]]:
        """name: (field, type) in order"""
        found = re.findall(r"\bstruct (flashinfer_\w+)\s*\{(.*?)\}", self.text, flags=re.S)
        name = re.compile(r"\(\s*\*\s*(\w+)\s*\)|(\w+)\s*(?:\[\w+\]\s*)*$")
        return {struct: [(next(filter(None, name.search(field.strip()).groups())), of_c(field))
                         for field in body.split(";") if field.strip()] for struct, body in found}

    def handles(self) -> set[str]:
        return set(re.findall(r"typedef struct (flashinfer_\w+) \1;", self.text)) - set(self.structs())

    def functions(self) -> dict[str, str]:
        found = re.findall(r"^\s*((?:const )?\w+ \*?)(flashinfer_\w+)\(([^;]*?)\);", self.text, flags=re.M | re.S)
        return {name: f"{of_c(returned + '_')}({named_parameters(taken)})" for returned, name, taken in found}

    def callbacks(self) -> dict[str, str]:
        found = re.findall(r"typedef (\w+ \(\*(flashinfer_\w+)\)\([^;]*\));", self.text, flags=re.S)
        return {name: of_c(text) for text, name in found}

    def numbers(self, constants: list[str]) -> dict[str, list[int]]:
        """Constants, and [size] of structs and [offset, size] of their fields, as the compiler has them."""
        lines = [f'printf("{name} %lld\\n", (long long)({name}));' for name in constants]
        for struct, members in self.structs().items():
            lines.append(f'printf("{struct} %zu\\n", sizeof(struct {struct}));')
            lines += [f'printf("{struct}.{field} %zu %zu\\n", offsetof(struct {struct}, {field}), '
                      f'sizeof(((struct {struct} *)0)->{field}));' for field, _ in members]
        source = "#include <flashinfer_backend.h>\n#include <stdio.h>\nint main(void)\n{\n" + "\n".join(lines) + "\n}\n"
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder, "numbers")
            subprocess.run([*COMPILER, "-std=c11", "-I", str(self.include), "-xc", "-", "-o", str(program)], input=source,
                           text=True, check=True)
            printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
        return {line.split()[0]: [int(word) for word in line.split()[1:]] for line in printed.splitlines()}


# ------------------------------------------------------------------------------------------------------ differences


def compare(what: str, ours: dict, theirs: dict) -> list[str]:
    return ([f"{what} {name} is {theirs[name]} in the headers: add it to _ffi.py" for name in theirs if name not in ours] +
            [f"{what} {name} is not in the headers: take it out of _ffi.py" for name in ours if name not in theirs] +
            [f"{what} {name} is {theirs[name]} in the headers and {ours[name]} in _ffi.py"
             for name in ours if name in theirs and ours[name] != theirs[name]])


def struct_of_ffi(struct) -> dict[str, str]:
    return {f"{struct.__name__}.{name}": f"{of_ctypes(kind)} at {getattr(struct, name).offset}"
            for name, kind in struct._fields_}


def differences(include: Path, map_file: Path) -> list[str]:
    headers = Headers(include)
    structs, constants = headers.structs(), headers.constants()
    numbers = headers.numbers(constants)
    fields = {f"{struct}.{field}": f"{kind} at {numbers[f'{struct}.{field}'][0]}"
              for struct, members in structs.items() for field, kind in members}
    ours = {name: place for struct in _ffi.STRUCTS for name, place in struct_of_ffi(struct).items()}
    found = compare("constant", constants_of_ffi(), {name: numbers[name][0] for name in constants})
    found += compare("field", ours, fields)
    found += compare("size of struct", {struct.__name__: ctypes.sizeof(struct) for struct in _ffi.STRUCTS},
                     {name: numbers[name][0] for name in structs})
    found += compare("handle", {handle.__name__: "opaque" for handle in _ffi.HANDLES},
                     dict.fromkeys(headers.handles(), "opaque"))
    found += compare("callback", {name: signature(kind._restype_, kind._argtypes_) for kind, name in CALLBACK_NAMES.items()},
                     headers.callbacks())
    found += compare("function", {name: signature(*kind) for name, kind in _ffi.FUNCTIONS.items()}, headers.functions())
    exported = re.findall(r"\b(flashinfer_\w+);", map_file.read_text(encoding="utf8"))
    return found + compare("function of the version script", dict.fromkeys(_ffi.FUNCTIONS, ""), dict.fromkeys(exported, ""))
