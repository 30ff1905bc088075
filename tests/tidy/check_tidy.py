#!/usr/bin/env python3
"""The rules of the house that a program can check, over lib/, include/, examples/, tests/ and the documents.

Prints every violation as file:line: text, then each rule's figure beside what is allowed. A rule allows nothing, but
for what TODAY says; a figure above that fails. Numbers in TODAY may only be lowered.

usage: check_tidy.py SOURCE_DIR
"""
import fnmatch
import os
import re
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from c_source import Source  # noqa: E402

# Violations that are still there, by rule: none.
TODAY = {}

# Which folders of lib a folder may include; api: the files of lib itself. An entry with a file's name allows that only.
BASE = ["cache", "kernels", "model", "predictor", "storage", "text", "util"]
DIRECTIONS = {
    "util": [],
    "kernels": ["util"],
    "storage": ["util"],
    "cache": ["util"],
    "predictor": ["kernels", "util"],
    "model": ["kernels", "predictor", "storage", "util"],
    "text": ["model/gguf.h", "util"],
    "probe": ["kernels", "storage", "util"],
    "engine": BASE,
    "plan": ["engine", *BASE],
    "pack": ["kernels", "model", "predictor", "storage", "text/byte_alphabet.h", "text/split.h", "util"],
    "make": ["engine", "plan", "pack", *BASE],
    "api": ["engine", "make", "pack", "plan", "probe", *BASE],
}

# Who may name the handles of the public interface: the others take what they need.
HANDLES = re.compile(r"\bflashinfer_(model|session)\b")
HANDLE_PARAMETER = re.compile(r"\bflashinfer_(model|session)\b[\w\s]*\*")
HANDLE_FOLDERS = {"engine", "plan", "make", "api"}
HANDLE_EXCEPTIONS = []
HANDLE_FUNCTIONS_MAX = 60  # of engine and plan

NO_CIRCLES = ["engine", "plan"]
FOLDERS = ["lib", "include", "examples", "tests"]
COLUMNS = {"lib": 100, "include": 100}
FUNCTION_LINES = 70
FILE_LINES = 800
# Longer files, and why they are.
FILE_EXCEPTIONS = {
    "include/flashinfer.h": "the public interface is read on one page",
    "tests/unit/test_kernels.c": "every kernel against the reference, one table of cases",
}
FROZEN = ("tests/abi/first/",)  # a header as it was

INDEX = r"(\[(?:[^][]|\[[^]]*\])*\])?"
FIRES = [re.compile(pattern) for pattern in (
    rf"activation\w*{INDEX}\s*(>|<=)\s*0(\.0*f?)?(?![\w.])",
    rf"(?<![\w.])0(\.0*f?)?\s*(<|>=)\s*[\w.>-]*activation",
    r"!\s*\(\s*[\w.>-]*activation")]

# (regular expression on code without comments, folders of lib or None for all, reason): names that mean something else.
VOCABULARY = [
    (r"\bflin_rows_(sort|read|check)\b|\bflin_stream_rows\b|\bstream_rows\b", ["engine", "plan"],
     "rows are tokens of a pass; these are bundles, or matrix rows in full"),
    (r"\buint8_t\s*\*\s*(const\s*)?\*\s*rows\b", ["cache", "engine", "plan"],
     "rows are tokens of a pass; these point to payloads"),
    (r"\b(?!tv_)\w+_(millis|msecs?|usecs?|nsecs?|num_bytes)\b", None,
     "units come last and are called ms, us, ns, bytes"),
]
# The same on #if and its like.
SYSTEMS = (re.compile(r"[ \t]*#[ \t]*(el)?if.*\b(__linux__|__APPLE__|__ANDROID__|_WIN32|__x86_64__|__aarch64__|"
                      r"__AVX\w*|__ARM_\w+|FLIN_HAVE_\w+)\b", re.S),
           ["cache", "engine", "model", "plan", "predictor", "text"], "systems and CPUs have files of their own")


class Report:
    def __init__(self):
        self.violations = []  # (rule, path, line, text)
        self.notes = []
        self.figures = {}  # of rules whose figure is not the number of violations

    def add(self, rule, path, line, text):
        self.violations.append((rule, path, line, text))

    def count(self, rule):
        return self.figures.get(rule, sum(1 for entry in self.violations if entry[0] == rule))


RULES = ["readable", "columns", "file lines", "function lines", "flin_forward lines", "directions", "examples",
         "headers in circles", "files in circles", "handles", "functions with a handle", "fires", "twice", "prefixes",
         "vocabulary", "systems", "links", "functions in documents"]


# Links of documents, and documents that code and documents name.
LINK = re.compile(r"\]\(([^)\s]+)\)")
DOCUMENT = re.compile(r"(?<![\w./-])docs/[\w/.-]+\.(?:md|svg)\b")

# A document that says which functions are in which file: in pictures of calls, where a line is `a → b   FILE   words`
# (b is in FILE, a anywhere in lib) or begins with `for`, and in text: `a()` and `b()` in `FILE`. NAME: of any name.
CALLS_DOCUMENT = "docs/architecture.md"
CALLS = re.compile(r"^```text\n(.*?)^```$", re.M | re.S)
CALL = re.compile(r" *(?:(\w+) → )?(\w+) {2,}([\w/]+(?:\.[ch]|/))(?: |$)")
PLACED = re.compile(r"((?:`\w+\(\)`(?:, | and ))*`\w+\(\)`)\s(?:in|of)\s`([\w/]+\.[ch])`")


def room(path):
    """The folder of lib that a file is in; None elsewhere."""
    parts = path.split("/")
    if parts[0] != "lib":
        return None
    return parts[1] if len(parts) > 2 else "api"


def load(root):
    sources = {}
    for top in FOLDERS:
        for folder, folders, names in os.walk(os.path.join(root, top)):
            folders[:] = sorted(name for name in folders if not name.startswith((".", "__", "build")))
            for name in sorted(names):
                path = os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
                if name.endswith((".c", ".h", ".py", ".cpp")) and not path.startswith(FROZEN):
                    with open(os.path.join(folder, name), encoding="utf8") as file:
                        sources[path] = Source(path, file.read())
    macros = {"static"}  # and those that stand for it
    for source in sources.values():
        macros.update(re.findall(r"^#define (\w+) (?:[^\n]* )?static\b", source.text, re.M))
    for path, source in sources.items():
        if path.endswith((".c", ".h")) and not path.startswith("tests/"):
            source.read(macros)
    return sources


def resolve(sources, path, name):
    """The path of an included file of ours, or None."""
    for folder in (os.path.dirname(path), "lib", "include"):
        found = os.path.normpath(os.path.join(folder, name)).replace(os.sep, "/")
        if found in sources:
            return found
    return None


def strong_components(graph):
    """Lists of nodes that reach each other, of more than one (Tarjan). graph: {node: set of nodes}."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = stack[stack.index(node):]
            del stack[stack.index(node):]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def check_sizes(sources, report):
    for path, source in sources.items():
        limit = COLUMNS.get(path.split("/")[0])
        for number, line in enumerate(source.lines, 1):
            if limit and len(line) > limit:
                report.add("columns", path, number, f"{len(line)} columns, {limit} are allowed")
        count = len(source.lines) - (source.lines[-1] == "")
        if count > FILE_LINES and path not in FILE_EXCEPTIONS:
            report.add("file lines", path, 1, f"{count} lines, {FILE_LINES} are allowed")
    for path in FILE_EXCEPTIONS:
        if path not in sources:
            report.add("file lines", path, 1, "FILE_EXCEPTIONS names a file that is not there")


def check_functions(read, report):
    longest = (0, "")
    for path, source in read.items():
        if not source.balanced:
            report.add("readable", path, 1, "braces do not balance for this script")
        for function in source.functions:
            if function.name == "flin_forward":
                report.notes.append(f"flin_forward() has {function.lines} lines")
                if function.lines > FUNCTION_LINES:
                    report.add("flin_forward lines", path, function.line,
                               f"flin_forward() has {function.lines} lines, {FUNCTION_LINES} are allowed")
            if room(path) == "kernels":
                continue
            longest = max(longest, (function.lines, f"{function.name}() in {path}"))
            if function.lines > FUNCTION_LINES:
                report.add("function lines", path, function.line,
                           f"{function.name}() has {function.lines} lines, {FUNCTION_LINES} are allowed")
    report.notes.append(f"longest function outside kernels: {longest[0]} lines, {longest[1]}")


def check_directions(sources, read, report):
    for path, source in read.items():
        here = room(path)
        if here is not None and here not in DIRECTIONS:
            report.add("directions", path, 1, f"DIRECTIONS does not know the folder lib/{here}")
            continue
        for name, _, line in source.includes:
            target = resolve(sources, path, name)
            there = room(target) if target else None
            if there is None or there == here:
                continue
            if path.startswith("examples/"):
                report.add("examples", path, line, f"an example includes {target}, which is not public")
            elif path.startswith("include/"):
                report.add("directions", path, line, f"a public header includes {target}")
            elif there not in DIRECTIONS[here] and target[len("lib/"):] not in DIRECTIONS[here]:
                report.add("directions", path, line, f"lib/{here} may not include {target}")


def check_header_circles(sources, read, report):
    graph = {path: set() for path in read if path.endswith(".h")}
    for path in graph:
        for name, _, _ in read[path].includes:
            target = resolve(sources, path, name)
            if target in graph and target != path:
                graph[path].add(target)
    for component in strong_components(graph):
        for path in component:
            report.add("headers in circles", path, 1, "includes itself by way of " + ", ".join(sorted(
                graph[path] & set(component))))


def check_call_circles(read, report):
    """Files of a folder that call each other, directly or by way of others. A file and its header are one."""
    for folder in NO_CIRCLES:
        files = {path: source for path, source in read.items() if room(path) == folder}
        defined = {}
        for path, source in files.items():
            for function in source.functions:
                if not function.static or path.endswith(".h"):
                    defined.setdefault(function.name, set()).add(path)
        graph, calls = {}, {}
        for path, source in files.items():
            graph[path] = set()
            for name, line in source.mentions.items():
                if path in defined.get(name, {path}):
                    continue
                for target in defined[name]:
                    graph[path].add(target)
                    calls.setdefault((path, target), []).append((line, name))
        for component in strong_components(graph):
            if len({os.path.splitext(path)[0] for path in component}) == 1:
                continue
            for path in component:
                # the figure is the number of files; each with its calls to the others
                first = True
                for target in sorted(graph[path] & set(component)):
                    for line, name in sorted(calls[(path, target)]):
                        text = f"in a circle of {len(component)} files: calls {name}() of {target}"
                        report.add("files in circles" if first else None, path, line, text)
                        first = False


def check_handles(read, report):
    takers = {}
    for path, source in read.items():
        here = room(path)
        if here is None:
            continue
        if here not in HANDLE_FOLDERS and path not in HANDLE_EXCEPTIONS:
            for match in HANDLES.finditer(source.code):
                report.add("handles", path, source.line_at(match.start()), f"lib/{here} names {match.group(0)}")
        count = sum(1 for function in source.functions if HANDLE_PARAMETER.search(function.parameters))
        if here in NO_CIRCLES and count > 0:
            takers[path[len("lib/"):]] = count
    total = report.figures["functions with a handle"] = sum(takers.values())
    of = sum(len(source.functions) for path, source in read.items() if room(path) in NO_CIRCLES)
    report.notes.append(f"{total} of {of} functions in {' and '.join(NO_CIRCLES)} take a whole model or session: " +
                        ", ".join(f"{path} {count}" for path, count in sorted(takers.items())))


def check_names(read, report):
    types, functions = {}, {}
    for path, source in read.items():
        here = room(path)
        if here is None:
            continue
        for entry in source.types:
            if entry.name.startswith("flin_"):
                types.setdefault(entry.name, []).append((path, entry))
        for function in source.functions:
            check_prefix(path, here, function, report)
            if not function.static:
                functions.setdefault(function.name, (path, function.line))
    for name, found in types.items():
        first = found[0]
        for path, entry in found[1:]:
            if entry.body != first[1].body:
                report.add("twice", path, entry.line, f"{name} is another struct at {first[0]}:{first[1].line}")
        if name in functions:
            path, line = functions[name]
            report.add("twice", path, line, f"{name}() has the name of a struct at {first[0]}:{first[1].line}")


def check_prefix(path, here, function, report):
    if function.name.startswith("flashinfer_"):
        if here != "api" and not function.static:
            report.add("prefixes", path, function.line, f"{function.name}() is public, and so belongs into lib/api*.c")
    elif function.static and path.endswith(".c"):
        if function.name.startswith("flin_"):
            report.add("prefixes", path, function.line, f"{function.name}() is static, and so has no prefix")
    elif not function.name.startswith("flin_") and not function.static:
        report.add("prefixes", path, function.line, f"{function.name}() is for other files, and so begins with flin_")


def check_vocabulary(read, report):
    compiled = [(re.compile(pattern), folders, reason) for pattern, folders, reason in VOCABULARY]
    for path, source in read.items():
        here = room(path)
        if here is None:
            continue
        lines = source.code.split("\n")
        for pattern, folders, reason in compiled:
            if folders is None or here in folders:
                for match in pattern.finditer(source.code):
                    report.add("vocabulary", path, source.line_at(match.start()), f"{match.group(0)}: {reason}")
        if here in SYSTEMS[1]:
            for text, line in source.directives:
                match = SYSTEMS[0].match(text)
                if match:
                    report.add("systems", path, line, f"{match.group(2)}: {SYSTEMS[2]}")
        if here == "engine":
            for number, line in enumerate(lines, 1):
                if any(pattern.search(line) for pattern in FIRES):
                    report.add("fires", path, number, "whether a neuron fires is for its FFN to say: " + line.strip())


def documents(root):
    """{path: text} of what is written in Markdown."""
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".", "build")) and name != "target"]
        for name in names:
            if name.endswith(".md"):
                path = os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
                with open(os.path.join(folder, name), encoding="utf8") as file:
                    found[path] = file.read()
    return found


def anchors(text):
    """What #... may be after a document's name, as GitHub makes it of headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ +(.*?)\s*$", text, re.M)}


def check_links(root, sources, report):
    texts = documents(root)
    for path, text in texts.items():
        for match in LINK.finditer(text):
            target, _, anchor = match.group(1).partition("#")
            if "://" in target or target.startswith("mailto:"):
                continue
            found = path
            if target:
                found = os.path.normpath(os.path.join(os.path.dirname(path), target)).replace(os.sep, "/")
            line = text.count("\n", 0, match.start()) + 1
            if not os.path.exists(os.path.join(root, found)):
                report.add("links", path, line, f"{found} is not there")
            elif anchor and found in texts and anchor not in anchors(texts[found]):
                report.add("links", path, line, f"{found} has no heading #{anchor}")
    for path, text in [*texts.items(), *((path, source.text) for path, source in sources.items())]:
        for match in DOCUMENT.finditer(text):
            if not path.startswith("tests/tidy/") and not os.path.exists(os.path.join(root, match.group(0))):
                report.add("links", path, text.count("\n", 0, match.start()) + 1, f"{match.group(0)} is not there")


def misplaced(read, name, where):
    """What is wrong with the words that a function is in a file of lib, or below a folder; None: nothing."""
    pattern = where + "*" if where.endswith("/") else where.replace("NAME", "*")
    found = [source for path, source in read.items() if fnmatch.fnmatchcase(path, pattern)]
    if not found:
        return f"{where} is not there"
    if any(function.name == name for source in found for function in source.functions):
        return None
    if where.endswith(".h") and any(re.search(rf"\b{name}\(", source.code) for source in found):
        return None  # declared there
    return f"{name}() is not in {where}"


def check_calls(root, read, report):
    """What CALLS_DOCUMENT says of functions and files, whose paths begin in lib, or in lib/engine in pictures."""
    rule, path = "functions in documents", os.path.join(root, CALLS_DOCUMENT)
    if not os.path.exists(path):
        return
    with open(path, encoding="utf8") as file:
        text = file.read()
    placed = []  # (line, function, file)
    for block in CALLS.finditer(text):
        for number, line in enumerate(block.group(1).splitlines(), text.count("\n", 0, block.start(1)) + 1):
            match = CALL.match(line)
            if match:
                caller, name, where = match.groups()
                placed.append((number, name, where if where.startswith("lib/") else "lib/engine/" + where))
                if caller:
                    placed.append((number, caller, "lib/"))
            elif not line.lstrip().startswith("for "):
                report.add(rule, CALLS_DOCUMENT, number, "names no function and its file: " + line.strip())
    for match in PLACED.finditer(text):
        for name in re.findall(r"\w+(?=\(\))", match.group(1)):
            placed.append((text.count("\n", 0, match.start()) + 1, name, "lib/" + match.group(2)))
    if not placed:
        report.add(rule, CALLS_DOCUMENT, 1, "says of no function where it is")
    for number, name, where in placed:
        wrong = misplaced(read, name, where)
        if wrong:
            report.add(rule, CALLS_DOCUMENT, number, wrong)
    report.notes.append(f"{len(placed)} functions of {CALLS_DOCUMENT} were looked for")


def check(root):
    """Every rule over the tree at root."""
    report = Report()
    sources = load(root)
    read = {path: source for path, source in sources.items() if hasattr(source, "code")}
    if not read:
        report.add("readable", "lib", 1, "there is no C file")
    check_sizes(sources, report)
    check_functions(read, report)
    check_directions(sources, read, report)
    check_header_circles(sources, read, report)
    check_call_circles(read, report)
    check_handles(read, report)
    check_names(read, report)
    check_vocabulary(read, report)
    check_links(root, sources, report)
    check_calls(root, read, report)
    report.notes.append(f"{len(sources)} files, {sum(len(source.functions) for source in read.values())} functions")
    return report


def judge(report, today):
    """(rule, figure, allowed) for each rule."""
    bounds = {"functions with a handle": HANDLE_FUNCTIONS_MAX, **today}
    return [(rule, report.count(rule), bounds.get(rule, 0)) for rule in RULES]


def main():
    started = time.monotonic()
    report = check(sys.argv[1])
    for rule, path, line, text in sorted(report.violations, key=lambda entry: (entry[1], entry[2], entry[3])):
        print(f"{path}:{line}: {text}")
    print()
    failed = 0
    for rule, figure, allowed in judge(report, TODAY):
        words = "FAILED" if figure > allowed else "TODAY can be lowered" if figure < TODAY.get(rule, 0) else ""
        failed += figure > allowed
        print(f"{rule:24} {figure:4} of {allowed:4} allowed  {words}".rstrip())
    for note in report.notes:
        print(note)
    print(f"{time.monotonic() - started:.1f} s, {failed} rules broken")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
