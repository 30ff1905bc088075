#!/usr/bin/env python3
"""Man pages from the comments in the public headers and the usage texts in examples/: what is not said there is missing here,
and a function, parameter, type, field or constant without a word of explanation is an error (header.py). A page NAME(3) has
the program docs/man/examples/NAME.c under EXAMPLES; a page without one names those whose programs use it.

usage: make_man.py ROOT OUT DEPFILE PROGRAM...      writes OUT/man1, OUT/man3 and OUT/man5, and into DEPFILE what they were
                                                    made of; PROGRAM: names without flashinfer-
"""
import datetime
import glob
import os
import re
import shutil
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from header import Problem, name_of, read_headers  # noqa: E402

RETURNS_INT = "0, or a negative FLASHINFER_E... code: see flashinfer_error(3)."
EXAMPLES_NAMED = 3  # of other pages


# ---- mdoc


def plain(text):
    """One line of text, safe at the beginning of a line and within it."""
    text = re.sub(r"@(\w+)", r"\1", text.replace("\\", "\\e"))
    return "\\&" + text if text[:1] in (".", "'") else text


def sentences(text, width=74):
    """Lines of at most 78 bytes. mdoc ends a sentence where a line ends; functions and NAME(3) become references."""
    lines = []
    for sentence in re.sub(r"([.!?]) (?=[A-Z])", r"\1\n", text).split("\n"):
        running = ""
        for word in sentence.split():
            reference = re.fullmatch(r"(flashinfer_\w+)\(3?\)([.,:;)]*)", word)
            if reference is None and len(running) + len(word) < width:
                running = f"{running} {word}".strip()
                continue
            lines += [plain(running)] if running else []
            running = "" if reference else word
            if reference:
                lines.append(" ".join([f".Xr {reference[1]} 3", *reference[2]]))
        lines += [plain(running)] if running else []
    return "\n".join(lines)


def literal(text):
    """As it is: nothing in it becomes a quotation mark or a hyphen for the eye, so that it can be copied."""
    lines = []
    for line in text.rstrip().splitlines():
        for byte, escape in (("\\", "\\e"), ("'", "\\(aq"), ("`", "\\(ga"), ("-", "\\-"), ("^", "\\(ha"), ("~", "\\(ti")):
            line = line.replace(byte, escape)
        lines.append("\\&" + line if line[:1] == "." else line)
    return ".Bd -literal\n" + "\n".join(lines) + "\n.Ed\n"


def head(name, section, summary, date):
    return f".Dd {date}\n.Dt {name.upper()} {section}\n.Os libflashinfer\n.Sh NAME\n.Nm {name}\n.Nd {plain(summary)}\\&\n"


def library(file="flashinfer.h"):
    return f".Sh LIBRARY\nlibflashinfer (libflashinfer, \\-lflashinfer)\n.Sh SYNOPSIS\n.In {file}\n"


def listed(items, width="Ds"):
    return f".Bl -tag -width {width}\n" + "".join(f".It {term}\n{sentences(text)}\n" for term, text in items) + ".El\n"


def see_also(names):
    """(name, section) pairs by section and name, each once."""
    names = sorted(set(names), key=lambda entry: (entry[1], entry[0]))
    return ".Sh SEE ALSO\n" + " ,\n".join(f".Xr {name} {section}" for name, section in names) + "\n"


def constants(enums):
    """A list of values for each."""
    return "".join(f".Ss {enum.prefix}...\\&\n{sentences(enum.text)}\n" + listed(
        [(f"Dv {member.name} Pq {member.declaration.partition(' = ')[2].replace(' << ', '<<')}", member.text)
         for member in enum.members]) for enum in header_enums(enums))


def header_enums(enums):
    return sorted(enums, key=lambda enum: enum.prefix)


def with_reference(text, declaration, header):
    """Words of a parameter or field, and where its struct or callback is described."""
    if re.fullmatch(r"FLASHINFER_\w+_\.\.\.", text):
        return f"{text}, below: " + " ".join(enum.text[0].lower() + enum.text[1:] for enum in header.enums_in(text))
    names = [name for name in header.types_of([declaration]) if header.types[name].kind != "handle" and f"{name}(3)" not in text]
    return f"{text.rstrip('.')}. See {names[0]}(3)." if names else text


class Examples:
    """The programs in docs/man/examples, by the page they belong to."""

    def __init__(self, folder):
        self.programs = {}
        for path in sorted(glob.glob(f"{folder}/*.c")):
            with open(path, encoding="utf8") as file:
                opening = re.match(r"/\* (.*?) \*/\n", text := file.read(), flags=re.S)
            if opening is None:
                raise Problem(f"{path} does not open by saying what it does")
            words = " ".join(opening[1].replace("\n *", " ").split())
            self.programs[os.path.basename(path)[:-2]] = words, text[opening.end():].strip("\n")

    def section(self, name):
        if name in self.programs:
            words, text = self.programs[name]
            return f".Sh EXAMPLES\n{sentences(words)}\n{literal(text)}"
        users = [other for other, (_, text) in self.programs.items() if re.search(rf"\b{name}\b", text)]
        if not users:
            return ""
        return ".Sh EXAMPLES\n" + sentences("It is used by the program in " + " and in ".join(
            f"{other}(3)" for other in users[:EXAMPLES_NAMED]) + ".") + "\n"


def function_page(function, header, examples, date):
    parameters = function.parameters
    page = head(function.name, 3, function.summary, date) + library() + f".Ft {function.type}\n"
    page += f".Fo {function.name}\n" + "".join(f'.Fa "{part}"\n' for part in parameters or ["void"]) + ".Fc\n.Sh DESCRIPTION\n"
    if parameters:
        page += listed([(f"Fa {name}", with_reference(text, part, header))
                        for part in parameters for name, text in [function.words_for(part)]])
    else:
        page += sentences(function.summary[0].upper() + function.summary[1:] + ".") + "\n"
    returns = [text for text in function.paragraphs if text.startswith("Returns ")]
    page += "".join(".Pp\n" + sentences(text) + "\n" for text in function.paragraphs if text not in returns)
    mentions = function.mentions() + " ".join(text for part in parameters for text in function.words_for(part))
    if function.type == "void":
        page += "".join(".Pp\n" + sentences(text) + "\n" for text in returns)
    page += constants(header.enums_in(mentions))
    if function.type != "void":
        texts = [text[len("Returns "):] for text in returns] or [RETURNS_INT if function.type == "int" else function.summary + "."]
        page += ".Sh RETURN VALUES\n" + "\n".join(sentences(text[0].upper() + text[1:]) for text in texts) + "\n"
    page += examples.section(function.name)
    others = [other.name for other in header.functions if other.section == function.section and other is not function]
    return page + see_also([(name, 3) for name in [*others, *header.types_of(parameters), "libflashinfer"]])


def users_of(name, header):
    """Functions and types whose declarations have this type."""
    functions = [function for function in header.functions if name != "flashinfer_error" or function.section == "errors"]
    users = [function.name for function in functions if name in header.types_of([function.type, *function.parameters])]
    for other in header.types.values():
        declarations = [*other.parameters, *(member.declaration for member in other.members)]
        users += [other.name] if other.name != name and name in header.types_of(declarations) else []
    return users


def type_page(of_type, header, examples, date):
    page = head(of_type.name, 3, of_type.summary, date) + library(of_type.file)
    page += literal(of_type.declaration) + ".Sh DESCRIPTION\n"
    told, returns = of_type.told_and_returned()
    page += "\n.Pp\n".join(map(sentences, told)) + "\n"
    if of_type.members:
        page += listed([(f'Fa {member.name} Pq Vt "{member.type_name()}"',
                         with_reference(header.field_words(of_type, member), member.declaration, header))
                        for member in of_type.members])
    if of_type.parameters:
        page += listed([(f"Fa {name_of(part)}", of_type.words_for(part, header.types)[1]) for part in of_type.parameters])
    page += constants(header.enums_in(of_type.mentions()))
    if of_type.name == "flashinfer_error":
        page += ".Ss Codes\n" + error_list(header)
    page += f".Sh RETURN VALUES\n{sentences(returns)}\n" if returns else ""
    page += examples.section(of_type.name)
    used = header.types_of([*of_type.parameters, *(member.declaration for member in of_type.members)])
    return page + see_also([(name, 3) for name in [*users_of(of_type.name, header), *used, "libflashinfer"] if name != of_type.name])


def error_list(header):
    return listed([(f"Dv FLASHINFER_{name} Pq {number}", text) for name, number, text in header.errors])


def library_page(header, examples, date):
    page = head("libflashinfer", 3, "run language models that do not fit in memory, from flash", date) + library()
    page += ".In flashinfer_backend.h\n.Sh DESCRIPTION\n" + sentences(
        "Weights stay on flash; for every token the neurons that will fire are predicted, read in direct reads and kept in "
        "a bounded cache. Programs are compiled with what pkg-config says about flashinfer.") + "\n"
    page += listed(header.conventions(), "Returns")
    section = None
    for function in header.functions:
        if function.section != section:
            page += (".El\n" if section else "") + f".Ss {function.section.capitalize()}\n.Bl -tag -width Ds\n"
            section = function.section
        page += f".It Xr {function.name} 3\n{sentences(function.summary)}\n"
    page += ".El\n"
    for kind, title in (("handle", "Handles"), ("struct", "Structs"), ("callback", "Callbacks")):
        page += f".Ss {title}\n" + listed([(f"Xr {of_type.name} 3", of_type.summary)
                                           for of_type in header.types.values() if of_type.kind == kind])
    page += ".Ss Constants\n" + listed([(f"Dv {name} Pq {number}", text) for name, number, text in header.defines])
    page += constants(header.enums)
    page += ".Sh EXAMPLES\n" + sentences("These pages have whole programs:") + "\n"
    page += " ,\n".join(f".Xr {name} 3" for name in examples.programs) + " .\n"
    page += ".Sh ERRORS\n" + error_list(header)
    return page + see_also([("flashinfer-generate", 1), ("flashinfer-pack", 1), ("flashinfer_model_open", 3),
                            ("flashinfer_model_file", 5)])


# ---- programs


def strings_of(source):
    """The text of adjacent C string literals."""
    return "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', source)).replace("\\n", "\n").replace('\\"', '"')


def usage_of(root, name):
    with open(f"{root}/examples/program.h", encoding="utf8") as file:
        macros = dict(re.findall(r"#define (PROGRAM_\w+) ((?:.*\\\n)*.*\n)", file.read()))
    with open(f"{root}/examples/{name}.c", encoding="utf8") as file:
        source = file.read()
    usage = re.search(r"static const char usage\[\] =(.*?);\n", source, flags=re.S)
    if usage is None:
        raise Problem(f"examples/{name}.c has no usage text")
    text = usage[1]
    while re.search(r"\bPROGRAM_\w+", text):  # one may stand in another
        text = re.sub(r"\bPROGRAM_\w+", lambda match: macros[match[0]], text)
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


def library_pages(header, examples, date):
    """Name -> text of all pages of section 3."""
    pages = {function.name: function_page(function, header, examples, date) for function in header.functions}
    for of_type in header.types.values():
        if of_type.name in pages:
            raise Problem(f"{of_type.name} is a function and a type: one page cannot be about both")
        pages[of_type.name] = type_page(of_type, header, examples, date)
    strangers = examples.programs.keys() - pages.keys()
    if strangers:
        raise Problem(f"docs/man/examples has programs of no page: {sorted(strangers)}")
    return pages | {"libflashinfer": library_page(header, examples, date)}


def write_depfile(path, root, out, programs):
    """All that was read, the folder of programs too: it is newer when one comes or goes."""
    here = f"{root}/docs/man"
    read = [*glob.glob(f"{here}/*.py"), f"{here}/flashinfer_model_file.5.in", f"{here}/examples",
            *glob.glob(f"{here}/examples/*.c"), *glob.glob(f"{root}/include/*.h"), f"{root}/examples/program.h",
            *(f"{root}/examples/{name}.c" for name in programs)]
    with open(path, "w", encoding="utf8") as file:
        file.write(f"{out}/man1: " + " ".join(name.replace(" ", "\\ ") for name in sorted(read)) + "\n")


def main():
    root, out, depfile, programs = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    date = date_of(root)
    header = read_headers(f"{root}/include")
    examples = Examples(f"{root}/docs/man/examples")
    pages = {f"man3/{name}.3": text for name, text in library_pages(header, examples, date).items()}
    pages |= {f"man1/flashinfer-{name}.1": program_page(root, name, date) for name in programs}
    with open(f"{root}/docs/man/flashinfer_model_file.5.in", encoding="utf8") as file:
        pages["man5/flashinfer_model_file.5"] = file.read().replace("@DATE@", date)
    write_depfile(depfile, root, out, programs)
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
