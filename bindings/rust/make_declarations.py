#!/usr/bin/env python3
"""Writes the declarations of libflashinfer-sys from the C headers, and the table its layout test compares with a C compiler.

usage: make_declarations.py [--check]      --check: write nothing, fail if a file is not what would be written

Reads the two public headers as they are written here (one declaration a line or two, comments before or beside it); a
line it does not understand is an error, never left out. Whether the result is right is not for this script to say:
tests/layout compiles a C program that prints sizes, offsets and numbers, and compares.
"""
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
INCLUDE = os.path.join(HERE, "..", "..", "include")
HEADERS = ["flashinfer.h", "flashinfer_backend.h"]
DECLARATIONS = os.path.join(HERE, "libflashinfer-sys", "src", "declarations.rs")
TABLE = os.path.join(HERE, "libflashinfer-sys", "tests", "layout", "table.rs")

TYPES = {"uint32_t": "u32", "int32_t": "i32", "uint64_t": "u64", "int64_t": "i64", "size_t": "usize", "float": "f32",
         "double": "f64", "char": "c_char", "int": "c_int", "void": "c_void"}
SIGNED = ("FLASHINFER_LOG_",)  # constants the interface passes as int; all others are stored in uint32_t
KEYWORDS = {"type"}
WIDTH = 100


class Header:
    """What the headers declare, in their order: (kind, name, documentation, what it has)."""

    def __init__(self):
        self.items = []
        self.structs = {}    # name -> field names
        self.constants = []  # names
        self.functions = []


def fail(text):
    sys.exit(f"make_declarations.py does not understand: {text.strip()[:200]}")


# -------------------------------------------------------------------------------------------------- C to Rust

def rust_name(name):
    return f"r#{name}" if name in KEYWORDS else name


def rust_type(base, const, stars):
    """base with the const of what the first star points to, and stars such as "*" or "*const *", each with its own."""
    text = TYPES.get(base, base)
    for star in re.findall(r"\*(?:const )?", stars):
        text = ("*const " if const else "*mut ") + text
        const = star != "*"
    return text


def declarator(text):
    """'const char **key' -> ('key', '*mut *const c_char'); arrays and pointers to functions too."""
    text = " ".join(text.split())
    pointer = re.fullmatch(r"(\w+) \(\*(\w+)\)\((.*)\)", text)
    if pointer:
        return pointer[2], function_pointer(pointer[1], pointer[3])
    match = re.fullmatch(r"(const )?(?:struct )?(\w+) ((?:\*(?:const )?)*)(\w+)((?:\[\w+\])*)", text)
    if not match:
        fail(text)
    kind = rust_type(match[2], bool(match[1]), match[3])
    for bound in reversed(re.findall(r"\[(\w+)\]", match[5])):
        kind = f"[{kind}; {bound if bound.isdigit() else bound + ' as usize'}]"
    return match[4], kind


def parameters(text):
    text = " ".join(text.split())
    return [] if text == "void" else [declarator(part) for part in text.split(",")]


def result(kind):
    return "" if kind == "void" else f" -> {TYPES[kind]}"


def function_pointer(kind, arguments):
    inner = ", ".join(f"{rust_name(name)}: {what}" for name, what in parameters(arguments))
    return f"Option<unsafe extern \"C\" fn({inner}){result(kind)}>"


# -------------------------------------------------------------------------------------------------- documentation

def comment_text(comment):
    """The words of a comment, line by line, without its frame. Banners have none."""
    lines = [re.sub(r"^\s*(?:/\*\*?|\*(?!/))? ?", "", line) for line in comment.strip()[:-2].split("\n")]
    lines = [line.rstrip() for line in lines]
    while lines and not lines[0].strip():
        lines.pop(0)
    while lines and not lines[-1].strip():
        lines.pop()
    if lines and lines[0].startswith("-----"):
        return []
    return lines


def markdown(lines):
    """As rustdoc wants it: brackets that are none of its own are escaped, arguments become a list."""
    out = []
    for line in lines:
        line = re.sub(r"([\[\]<>*`])", r"\\\1", line)
        argument = re.match(r"@(\w+(?:, @\w+)*): ?(.*)", line)
        if argument:
            names = ", ".join(f"`{name.strip('@ ')}`" for name in argument[1].split(","))
            if out and out[-1] and not out[-1].startswith(("- ", "  ")):
                out.append("")
            line = f"- {names}: {argument[2]}"
        elif out and out[-1].startswith(("- ", "  ")) and line.strip():
            line = "  " + line.strip()
        out.append(re.sub(r"@(\w+)", r"`\1`", line).rstrip())
    return out


def documented(lines, indent=""):
    return [f"{indent}/// {line}".rstrip() for line in markdown(lines)]


# -------------------------------------------------------------------------------------------------- reading

def tokens(text):
    """Comments and declarations one after the other: (comment lines, '') or ([], declaration without its ';').
    A comment at the end of a declaration's line is given before it."""
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
        elif text.startswith("/*", at):
            end = text.index("*/", at) + 2
            yield "comment", text[at:end]
            at = end
        elif text[at] == "#":
            end = at
            while True:
                end = text.find("\n", end)
                if text[end - 1] != "\\":
                    break
                end += 1
            yield "directive", text[at:end]
            at = end
        else:
            end, depth = at, 0
            while depth > 0 or text[end] != ";":
                depth += {"{": 1, "}": -1}.get(text[end], 0)
                end = text.index("*/", end) + 2 if text.startswith("/*", end) else end + 1
            yield "declaration", text[at:end]
            at = end + 1


def members(body, separator):
    """Parts of a struct's or an enum's body: (documentation, text). A comment belongs to what follows it, or, begun on
    the same line, to what is before it."""
    parts, pending = [], []
    pattern = re.compile(r"/\*.*?\*/|#[^\n]*|[^/#" + separator + r"]+|" + separator + "|/", re.S)
    text = ""
    for piece in pattern.findall(body):
        if piece.startswith("/*"):
            words = comment_text(piece)
            if parts and not text.strip() and "\n" not in text:
                parts[-1][0].extend(words)
            elif text.strip():  # the last of an enum, without a comma
                parts.append([pending + words, text.strip()])
                pending, text = [], ""
            else:
                pending = words
            if not text.strip():
                text = ""
        elif piece == separator:
            parts.append([pending, text.strip()])
            pending, text = [], ""
        elif not piece.startswith("#"):
            text += piece
    if text.strip():
        parts.append([pending, text.strip()])
    return parts


def add_struct(header, name, body, docs):
    fields = [(docs_, *declarator(text)) for docs_, text in members(body, ";")]
    header.items.append(("struct", name, docs, fields))
    header.structs[name] = [field[1] for field in fields]


def add_constant(header, name, value, docs, kind):
    header.items.append(("constant", name, docs, (kind, value)))
    header.constants.append(name)


def add_enum(header, body, docs):
    if "FLASHINFER_ERRORS" in body:
        return  # read from the macro
    parts = members(body, ",")
    if not docs:
        docs = []
    for number, (words, text) in enumerate(parts):
        match = re.fullmatch(r"(FLASHINFER_\w+) = (.+)", " ".join(text.split()))
        if not match:
            fail(text)
        value = re.sub(r"\b(\d+)u\b", r"\1", match[2])
        kind = "c_int" if match[1].startswith(SIGNED) else "u32"
        lead = docs + [""] if docs and number == 0 and words else docs if number == 0 else []
        add_constant(header, match[1], value, lead + words, kind)


def add_errors(header, text):
    entries = re.findall(r"X\((\w+), (-?\d+),\s*\"(.*?)\"\)", text)
    for name, number, words in entries:
        add_constant(header, f"FLASHINFER_{name}", number, [words], "c_int")
    add_constant(header, "FLASHINFER_ERROR_COUNT_", str(len(entries)), ["How many errors there are, OK included."], "c_int")


def add_directive(header, text, docs):
    if text.startswith("#define FLASHINFER_ERRORS"):
        add_errors(header, text)
        return
    number = re.match(r"#define (FLASHINFER_\w+) (\d+)(?:\s*/\*\s*(.*?)\s*\*/)?\s*$", text)
    if number:
        add_constant(header, number[1], number[2], docs + ([number[3]] if number[3] else []), "u32")


def add_declaration(header, text, docs):
    flat = " ".join(re.sub(r"/\*.*?\*/", " ", text, flags=re.S).split())
    struct = re.match(r"(?:typedef )?struct (\w+) \{", flat)
    opaque = re.fullmatch(r"typedef struct (\w+) (\w+)", flat)
    callback = re.fullmatch(r"typedef (\w+) \(\*(\w+)\)\((.*)\)", flat)
    function = re.fullmatch(r"FLASHINFER_API (const \w+ \*|\w+ )(\w+)\((.*)\)", flat)
    if re.match(r"enum \{", flat):
        add_enum(header, text[text.index("{") + 1:text.rindex("}")], docs)
    elif struct:
        add_struct(header, struct[1], text[text.index("{") + 1:text.rindex("}")], docs)
    elif opaque:
        header.items.append(("opaque", opaque[1], docs, None))
    elif callback:
        header.items.append(("callback", callback[2], docs, function_pointer(callback[1], callback[3])))
    elif function:
        gives = function[1].strip()
        pointer = re.fullmatch(r"const (\w+) \*", gives)
        gives = f" -> *const {TYPES[pointer[1]]}" if pointer else result(gives)
        header.items.append(("function", function[2], docs, (parameters(function[3]), gives)))
        header.functions.append(function[2])
    elif not re.fullmatch(r"struct \w+", flat):
        fail(flat)


def read(header, path):
    with open(path, encoding="utf8") as file:
        text = file.read()
    # what only a C++ compiler sees, and the frame of the header
    text = re.sub(r"#ifdef __cplusplus\n.*?#endif\n", "", text, flags=re.S)
    docs, line = [], 0
    for kind, part in tokens(text):
        line = text.index(part, line)
        if kind == "comment":
            docs = comment_text(part) if line != 0 else []
            # a comment with an empty line behind it is about no declaration
            if text[line + len(part):].startswith("\n\n"):
                docs = []
            continue
        if kind == "directive":
            add_directive(header, part, docs)
        else:
            add_declaration(header, part, docs)
        docs = []


# -------------------------------------------------------------------------------------------------- writing

def write_struct(name, docs, fields):
    out = ["", *documented(docs), "#[repr(C)]", "#[derive(Clone, Copy, Debug)]", f"pub struct {name} {{"]
    for words, field, kind in fields:
        out += documented(words, "    ")
        out += wrapped_field(f"    pub {rust_name(field)}: ", kind)
    return out + ["}"]


def wrapped_field(head, kind):
    """One line, or a pointer to a function with its arguments below each other, as rustfmt writes it."""
    if len(head) + len(kind) + 1 <= WIDTH:
        return [f"{head}{kind},"]
    if kind.startswith("["):
        return [head.rstrip(), f"        {kind},"]
    match = re.fullmatch(r"Option<(unsafe extern \"C\" fn)\((.*)\)(.*)>", kind)
    one = f"        {match[1]}({match[2]}){match[3]},"
    if len(one) <= WIDTH:
        return [f"{head}Option<", one, "    >,"]
    arguments = [f"            {argument}," for argument in match[2].split(", ")]
    return [f"{head}Option<", f"        {match[1]}(", *arguments, f"        ){match[3]},", "    >,"]


def write_opaque(name, docs):
    return ["", *documented(docs), "#[repr(C)]", f"pub struct {name} {{", "    _data: [u8; 0],",
            "    _marker: PhantomData<(*mut u8, PhantomPinned)>,", "}"]


def write_function(name, docs, arguments, gives):
    arguments = [f"{rust_name(argument)}: {kind}" for argument, kind in arguments]
    out = documented(docs, "    ")
    one = f"    pub fn {name}({', '.join(arguments)}){gives};"
    if len(one) <= WIDTH:
        return out + [one]
    return out + [f"    pub fn {name}(", *(f"        {argument}," for argument in arguments), f"    ){gives};"]


def declarations(header):
    out = ["// Written by make_declarations.py from include/flashinfer.h and include/flashinfer_backend.h: change those, run it.",
           "", "use std::marker::{PhantomData, PhantomPinned};", "use std::os::raw::{c_char, c_int, c_void};"]
    whole = set(header.structs)
    for kind, name, docs, what in header.items:
        if kind == "constant":
            documentation = documented(docs)
            out += ([""] if documentation else []) + documentation + [f"pub const {name}: {what[0]} = {what[1]};"]
        elif kind == "struct":
            out += write_struct(name, docs, what)
        elif kind == "opaque" and name not in whole:
            out += write_opaque(name, docs)
        elif kind == "callback":
            line = f"pub type {name} ="
            joined = f"{line} {what};"
            out += ["", *documented(docs)] + ([joined] if len(joined) <= WIDTH else [line, f"    {what};"])
    out += ["", "extern \"C\" {"]
    first = True
    for kind, name, docs, what in header.items:
        if kind == "function":
            out += ([] if first else [""]) + write_function(name, docs, *what)
            first = False
    return "\n".join(out + ["}"]) + "\n"


def table(header):
    out = ["// Written by make_declarations.py: what tests/layout/main.rs compares with a C compiler's idea of the headers.", "",
           "structs! {"]
    for name, fields in header.structs.items():
        out.append(f"    {name} {{")
        out += [f"        {rust_name(field)}," for field in fields]
        out.append("    }")
    out += ["}", "", "constants! {", *(f"    {name}," for name in header.constants), "}", "", "functions! {",
            *(f"    {name}," for name in header.functions), "}"]
    return "\n".join(out) + "\n"


def main():
    header = Header()
    for name in HEADERS:
        read(header, os.path.join(INCLUDE, name))
    stale = []
    for path, text in ((DECLARATIONS, declarations(header)), (TABLE, table(header))):
        if sys.argv[1:] != ["--check"]:
            with open(path, "w", encoding="utf8") as file:
                file.write(text)
            continue
        with open(path, encoding="utf8") as file:
            if file.read() != text:
                stale.append(os.path.relpath(path, HERE))
    if stale:
        sys.exit(f"{' and '.join(stale)} differ from the C headers: run bindings/rust/make_declarations.py")
    print(f"{len(header.structs)} structs, {len(header.constants)} constants, {len(header.functions)} functions")


if __name__ == "__main__":
    main()
