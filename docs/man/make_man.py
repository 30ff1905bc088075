#!/usr/bin/env python3
"""Man pages from the comments in include/flashinfer.h and the usage texts in examples/: what is not said there is missing
here, and a function or parameter without a word of explanation is an error.

usage: make_man.py ROOT OUT PROGRAM...      writes OUT/man1, OUT/man3 and OUT/man5; PROGRAM: names without flashinfer-
"""
import datetime
import os
import re
import shutil
import sys

# Parameters that mean the same wherever they have no words of their own.
STANDARD = {
    "flashinfer_error *error": "NULL, or the caller's record, which says what went wrong, where, and what to do",
    "flashinfer_model *model": "an open model",
    "flashinfer_session *session": "a session of an open model",
    "flashinfer_decoder *decoder": "made by flashinfer_decoder_create()",
    "flashinfer_sampler *sampler": "made by flashinfer_sampler_create()",
    "flashinfer_predictor *predictor": "made by flashinfer_predictor_create() or flashinfer_predictor_copy()",
    "flashinfer_order *order": "made by flashinfer_order_create()",
    "flashinfer_probe_result *result": "measured by flashinfer_probe(), or read by flashinfer_probe_load()",
    "flashinfer_options *options": "NULL for defaults",
    "flashinfer_model **model": "receives the handle; NULL on failure",
    "flashinfer_predictor **predictor": "receives the handle; NULL on failure",
    "uint32_t layer": "number of the layer, from 0",
}
RETURNS_INT = "0, or a negative FLASHINFER_E... code: see libflashinfer(3)."


class Problem(Exception):
    pass


class Function:
    def __init__(self, comment, declaration, section):
        lines = [re.sub(r"^ ?\* ?", "", line.strip()) for line in comment.strip().splitlines()]
        self.section = section
        self.name, self.summary = re.match(r"(\w+) - (.*)", lines[0]).groups()
        declaration = " ".join(declaration.split())
        match = re.match(r"(.*?)\b(flashinfer_\w+)\s*\((.*)\)$", declaration)
        if match is None or match[2] != self.name:
            raise Problem(f"the comment of {self.name} stands before another declaration: {declaration}")
        self.type, self.parameters = match[1].strip(), [part.strip() for part in match[3].split(",")]
        self.described, self.paragraphs = self.sort(lines[1:])

    def sort(self, lines):
        """@name: texts and paragraphs."""
        described, paragraphs, into = {}, [[]], None
        for line in lines:
            match = re.match(r"((?:@\w+(?:, )?)+): (.*)", line)
            if match:
                into = [match[2]]
                for name in re.findall(r"\w+", match[1]):
                    described[name] = into
            elif not line.strip():
                into = None
                paragraphs.append([])
            elif into is not None:
                into.append(line.strip())
            else:
                paragraphs[-1].append(line.strip())
        return ({name: " ".join(text) for name, text in described.items()},
                [" ".join(text) for text in paragraphs if text])

    def words_for(self, parameter):
        name = re.search(r"(\w+)$", parameter)[1]
        plain = re.sub(r"^(const|struct) ", "", re.sub(r"^const ", "", parameter))
        if name in self.described:
            return name, self.described[name]
        if name == "options" and self.name.endswith("_options_init"):
            return name, "struct to fill"
        if name == "size" and self.name.endswith("_init"):
            return name, "bytes of the struct as the caller compiled it"
        if plain in STANDARD:
            return name, STANDARD[plain]
        raise Problem(f"include/flashinfer.h says nothing about {self.name}'s parameter {name}")


class Header:
    def __init__(self, path):
        with open(path, encoding="utf8") as file:
            self.text = file.read()
        self.functions, self.structs, self.enums, section = [], {}, [], ""
        pattern = (r"/\* -{20,} (?P<section>[^\n]*?) \*/|/\*\*\n(?P<comment>.*?)\*/\s*FLASHINFER_API (?P<declaration>.*?);|"
                   r"(?P<struct>(?:/\*(?:(?!\*/).)*\*/\n)?(?:typedef )?struct (?P<name>\w+) \{.*?\n\}[^;]*;)|"
                   r"(?P<enum>(?:/\*(?:(?!\*/).)*\*/\n)?enum \{.*?\};)")
        for match in re.finditer(pattern, self.text, flags=re.S):
            if match["section"]:
                section = match["section"]
            elif match["comment"]:
                self.functions.append(Function(match["comment"], match["declaration"], section))
            elif match["struct"]:
                self.structs[match["name"]] = match["struct"]
            elif "FLASHINFER_ERROR_ENUM" not in match["enum"]:
                self.enums.append(match["enum"])
        self.errors = re.findall(r'^    X\((\w+), (-?\d+), "(.*)"\)', self.text, flags=re.M)
        declared = set(re.findall(r"FLASHINFER_API[^;]*?\b(flashinfer_\w+)\s*\(", self.text))
        missing = declared - {function.name for function in self.functions}
        if missing:
            raise Problem(f"include/flashinfer.h: functions without a comment: {sorted(missing)}")

    def conventions(self):
        body = re.search(r" \* Conventions\n(.*?) \*/", self.text, flags=re.S)[1]
        items = []
        for line in body.splitlines():
            match = re.match(r" \*   (\w+)\s+(.*)", line)
            if match and not line.startswith(" *    "):
                items.append([match[1], match[2]])
            else:
                items[-1][1] += " " + line.lstrip(" *")
        return items

    def structs_of(self, function):
        names = re.findall(r"flashinfer_\w+", " ".join(function.parameters))
        return [self.structs[name] for name in dict.fromkeys(names) if name in self.structs and name != "flashinfer_error"]


# ---- mdoc


def plain(text):
    """One line of text, safe at the beginning of a line and within it."""
    text = re.sub(r"@(\w+)", r"\1", text.replace("\\", "\\e"))
    return "\\&" + text if text[:1] in (".", "'") else text


def sentences(text, width=74):
    """Lines of at most 78 bytes. mdoc ends a sentence where a line ends; functions become references."""
    lines = []
    for sentence in re.sub(r"([.!?]) (?=[A-Z])", r"\1\n", text).split("\n"):
        running = ""
        for word in sentence.split():
            function = re.fullmatch(r"(flashinfer_\w+)\(\)([.,:;)]*)", word)
            if function is None and len(running) + len(word) < width:
                running = f"{running} {word}".strip()
                continue
            lines += [plain(running)] if running else []
            running = "" if function else word
            if function:
                lines.append(" ".join([f".Xr {function[1]} 3", *function[2]]))
        lines += [plain(running)] if running else []
    return "\n".join(lines)


def literal(text):
    lines = [plain(line.rstrip().replace("\t", "    ")) for line in text.splitlines()]
    return ".Bd -literal\n" + "\n".join(lines) + "\n.Ed\n"


def head(name, section, summary, date):
    return f".Dd {date}\n.Dt {name.upper()} {section}\n.Os libflashinfer\n.Sh NAME\n.Nm {name}\n.Nd {plain(summary)}\\&\n"


def listed(items, width="Ds"):
    return f".Bl -tag -width {width}\n" + "".join(f".It {term}\n{sentences(text)}\n" for term, text in items) + ".El\n"


def see_also(names):
    names = list(dict.fromkeys(names))
    return ".Sh SEE ALSO\n" + " ,\n".join(f".Xr {name} {section}" for name, section in names) + "\n"


def function_page(function, header, date):
    parameters = [] if function.parameters == ["void"] else function.parameters
    page = head(function.name, 3, function.summary, date)
    page += f".Sh LIBRARY\nlibflashinfer (libflashinfer, \\-lflashinfer)\n.Sh SYNOPSIS\n.In flashinfer.h\n.Ft {function.type}\n"
    page += f".Fo {function.name}\n" + "".join(f'.Fa "{part}"\n' for part in parameters or ["void"]) + ".Fc\n"
    page += ".Sh DESCRIPTION\n" + listed([(f".Fa {name}".replace(".Fa", "Fa"), text)
                                         for name, text in map(function.words_for, parameters)]) if parameters else ""
    returns = [text for text in function.paragraphs if text.startswith("Returns ")]
    told = [text for text in function.paragraphs if text not in returns]
    if not parameters:
        page += ".Sh DESCRIPTION\n" + sentences(function.summary[0].upper() + function.summary[1:] + ".") + "\n"
    page += "".join(".Pp\n" + sentences(text) + "\n" for text in told)
    for struct in header.structs_of(function):
        page += literal(struct)
    if function.type != "void":
        texts = [text[len("Returns "):] for text in returns] or [RETURNS_INT if function.type == "int" else function.summary + "."]
        page += ".Sh RETURN VALUES\n" + "\n".join(sentences(text[0].upper() + text[1:]) for text in texts) + "\n"
    else:
        page += "".join(".Pp\n" + sentences(text) + "\n" for text in returns)
    others = sorted(other.name for other in header.functions if other.section == function.section and other is not function)
    return page + see_also([(name, 3) for name in others] + [("libflashinfer", 3)])


def library_page(header, date):
    page = head("libflashinfer", 3, "run language models that do not fit in memory, from flash", date)
    page += ".Sh LIBRARY\nlibflashinfer (libflashinfer, \\-lflashinfer)\n.Sh SYNOPSIS\n.In flashinfer.h\n"
    page += ".Sh DESCRIPTION\n" + sentences(
        "Weights stay on flash; for every token the neurons that will fire are predicted, read in direct reads and kept in "
        "a bounded cache. Programs are compiled with what pkg-config says about flashinfer.") + "\n"
    page += listed(header.conventions(), "Returns")
    section = None
    for function in header.functions:
        if function.section != section:
            page += (".El\n" if section else "") + f".Ss {function.section.capitalize()}\n.Bl -tag -width Ds\n"
            section = function.section
        page += f".It Xr {function.name} 3\n{sentences(function.summary)}\n"
    page += ".El\n.Sh ERRORS\n" + listed([(f"FLASHINFER_{name} ({number})", text) for name, number, text in header.errors])
    page += ".Sh CONSTANTS\n" + "".join(map(literal, header.enums))
    return page + see_also([("flashinfer-generate", 1), ("flashinfer-pack", 1), ("flashinfer_model_open", 3),
                            ("flashinfer_model_file", 5)])


# ---- programs


def strings_of(source):
    """The text of adjacent C string literals."""
    return "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', source)).replace("\\n", "\n").replace('\\"', '"')


def usage_of(root, name):
    with open(f"{root}/examples/program.h", encoding="utf8") as file:
        macros = dict(re.findall(r"#define (PROGRAM_MODEL_(?:USAGE|HELP))\s*\\\n((?:.*\\\n)*.*\n)", file.read()))
    with open(f"{root}/examples/{name}.c", encoding="utf8") as file:
        source = file.read()
    usage = re.search(r"static const char usage\[\] =(.*?);\n", source, flags=re.S)
    if usage is None:
        raise Problem(f"examples/{name}.c has no usage text")
    text = usage[1]
    for macro, value in macros.items():
        text = re.sub(rf"\b{macro}\b", lambda _, value=value: value, text)
    summary, usage = strings_of(text).split("\n", 1)
    if not summary.endswith("."):
        raise Problem(f"the usage of examples/{name}.c does not begin with a sentence")
    return summary[0].lower() + summary[1:-1], usage


def parts_of(usage):
    """Synopsis lines, (term, text) pairs, remarks."""
    synopsis, terms, remarks = [], [], []
    for line in usage.splitlines():
        match = re.match(r"  (-?-?[\w.-]+(?:, --[\w-]+)*) {2,}(\S.*)", line)
        if match and not synopsis:
            raise Problem(line)
        if match:
            terms.append([match[1], match[2]])
        elif not terms and not remarks:
            synopsis.append(line.strip())
        elif line.startswith("   ") and not remarks:
            terms[-1][1] += " " + line.strip()
        else:
            remarks.append(line.strip())
    return synopsis, terms, remarks


def program_page(root, name, date):
    summary, usage = usage_of(root, name)
    synopsis, terms, remarks = parts_of(usage)
    terms += [["-h, --help", "print a summary of this page"], ["--version", "print the library's version"]]
    told = set(re.findall(r"--[a-z-]+", " ".join(term for term, _ in terms)))
    for option in re.findall(r"--[a-z-]+", " ".join(synopsis)):
        if option not in told:
            raise Problem(f"the usage of examples/{name}.c does not explain {option}")
    page = head(f"flashinfer-{name}", 1, summary, date) + ".Sh SYNOPSIS\n.Nm\n"
    page += sentences(re.sub(r"^\w+ ", "", " ".join(synopsis)), 60).replace("-", "\\-") + "\n"
    page += ".Sh DESCRIPTION\n" + listed([(term.replace("-", "\\-"), text) for term, text in terms])
    page += ".Pp\n" + sentences(" ".join(remarks)) + "\n" if remarks else ""
    page += ".Sh EXIT STATUS\n" + sentences("0 when all went well, 1 when something failed, 2 when the command line is wrong. "
                                            "What went wrong is a line on standard error.") + "\n"
    return page + see_also([("libflashinfer", 3), ("flashinfer_model_file", 5)])


# ---- all of them


def date_of(root):
    """SOURCE_DATE_EPOCH, for builds that must come out the same; else the header's age."""
    stamp = os.environ.get("SOURCE_DATE_EPOCH") or os.path.getmtime(f"{root}/include/flashinfer.h")
    day = datetime.datetime.fromtimestamp(int(stamp), datetime.timezone.utc)
    return f"{day:%B} {day.day}, {day.year}"


def main():
    root, out, programs = sys.argv[1], sys.argv[2], sys.argv[3:]
    date = date_of(root)
    header = Header(f"{root}/include/flashinfer.h")
    pages = {f"man3/{function.name}.3": function_page(function, header, date) for function in header.functions}
    pages["man3/libflashinfer.3"] = library_page(header, date)
    pages |= {f"man1/flashinfer-{name}.1": program_page(root, name, date) for name in programs}
    with open(f"{root}/docs/man/flashinfer_model_file.5.in", encoding="utf8") as file:
        pages["man5/flashinfer_model_file.5"] = file.read().replace("@DATE@", date)
    for folder in ("man1", "man3", "man5"):
        shutil.rmtree(f"{out}/{folder}", ignore_errors=True)
        os.makedirs(f"{out}/{folder}")
    for name, text in pages.items():
        with open(f"{out}/{name}", "w", encoding="utf8") as file:
            file.write(text)


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        sys.exit(f"make_man.py: {problem}")
