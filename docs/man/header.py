"""Reads the public headers as they are written here: functions, types and constants, each with its words. It owns what counts as
documentation: whatever is public and has no words of explanation is a Problem that names it. make_man.py makes pages of it.

Words are a comment: before what it explains, or behind it on the same line. What means the same everywhere has its words in
one of the tables below instead.
"""
import os
import re

HEADERS = ["flashinfer.h", "flashinfer_backend.h"]

# Parameters that mean the same wherever they have no words of their own.
PARAMETERS = {
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
CALLBACK_PARAMETERS = {
    "void *user": "what the host gave with the callback, unchanged",
}
# Fields, likewise: declaration and words.
FIELDS = {
    "uint32_t reserved": "zero",
    "uint32_t layer": "number of the layer, from 0",
    "uint32_t layer_count": "layers of the model",
    "int32_t token": "id of a token, from 0",
    "flashinfer_log_callback log": "called with every line of the log; NULL: there is no log",
    "flashinfer_progress_callback progress": "called while the call goes on; NULL: nobody is told",
}
SIZE_OF_INIT = "bytes of the struct as the caller compiled it: {}_init() sets it"
SIZE_OF_CALLBACK = "bytes of the struct as the library has it: fields beyond it are not there"
SIZE_OF_RESULT = "bytes of the struct as the caller compiled it, to be set to sizeof({}) before the call; as much as that is filled"
SUMMARY_MAX = 60  # longer ones end at their colon


class Problem(Exception):
    pass


def words_of(comment):
    """The lines of a comment without its frame."""
    return [re.sub(r"^\s*\*? ?", "", line).rstrip() for line in comment.strip("*").strip().splitlines()]


def sorted_words(lines):
    """@name: texts, by name, and paragraphs."""
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
    return ({name: " ".join(text) for name, text in described.items()}, [" ".join(text) for text in paragraphs if text])


def name_of(declaration):
    """The name that a declaration declares: of a variable, an array or a pointer to a function."""
    pointer = re.search(r"\(\*\s*(\w+)\)\s*\(", declaration)
    return pointer[1] if pointer else re.search(r"(\w+)\s*(?:\[[^\]]*\]\s*)*$", declaration)[1]


def parameters_of(text):
    text = " ".join(text.split())
    return [] if text == "void" else [part.strip() for part in text.split(",")]


def plain_type(parameter):
    return re.sub(r"^(const |struct )+", "", parameter)


class Function:
    def __init__(self, comment, declaration, section):
        lines = words_of(comment)
        self.section = section
        opening = re.match(r"(\w+) - (.*)", lines[0])
        declaration = " ".join(declaration.split())
        match = re.match(r"(.*?)\b(flashinfer_\w+)\s*\((.*)\)$", declaration)
        if opening is None or match is None or match[2] != opening[1]:
            raise Problem(f"the comment \"{lines[0]}\" stands before another declaration: {declaration}")
        self.name, self.summary = opening.groups()
        following = 1  # a summary may take more lines than the first
        while following < len(lines) and lines[following].strip() and not re.match(r"@\w|Returns ", lines[following].strip()):
            self.summary += " " + lines[following].strip()
            following += 1
        self.type, self.parameters = match[1].strip(), parameters_of(match[3])
        self.described, self.paragraphs = sorted_words(lines[following:])

    def words_for(self, parameter):
        name = name_of(parameter)
        if name in self.described:
            return name, self.described[name]
        if name == "options" and self.name.endswith("_options_init"):
            return name, "struct to fill"
        if name == "size" and self.name.endswith("_init"):
            return name, "bytes of the struct as the caller compiled it"
        if plain_type(parameter) in PARAMETERS:
            return name, PARAMETERS[plain_type(parameter)]
        raise Problem(f"the header says nothing about {self.name}'s parameter {name}")

    def mentions(self):
        return " ".join([self.summary, *self.described.values(), *self.paragraphs])


class Member:
    """A field of a struct, or a value of an enumeration."""

    def __init__(self, declaration, lead):
        self.declaration, self.words = " ".join(declaration.split()), [lead] if lead else []
        self.name = name_of(self.declaration.partition(" = ")[0])

    @property
    def text(self):
        return " ".join(self.words)

    def type_name(self):
        """The declaration without the name."""
        return " ".join(re.sub(rf"\b{self.name}\b", "", self.declaration, count=1).split()).replace("* )", "*)")


def members_of(body, pattern):
    """Declarations that match pattern, with the comments before them, and behind them on the same line."""
    found, lead, end = [], [], None
    for match in re.finditer(rf"/\*(?P<comment>.*?)\*/|(?P<declaration>{pattern})", body, flags=re.S):
        if match["declaration"]:
            found.append(Member(match["declaration"].rstrip(";,"), " ".join(lead)))
            lead, end = [], match.end()
        elif end is not None and "\n" not in body[end:match.start()]:
            found[-1].words.append(" ".join(" ".join(words_of(match["comment"])).split()))
        else:
            lead.append(" ".join(" ".join(words_of(match["comment"])).split()))
    return found


class Type:
    """A struct with its fields, a callback with its parameters, or a handle that has neither."""

    def __init__(self, kind, name, comment, declaration, file):
        self.kind, self.name, self.file = kind, name, file
        self.described, self.paragraphs = sorted_words(words_of(comment or ""))
        self.members, self.parameters, self.type = [], [], ""
        self.declaration = re.sub(r" *\n(?: *\n)+", "\n", re.sub(r" *(/\*.*?\*/)", "", declaration, flags=re.S))
        if not self.paragraphs:
            raise Problem(f"the header says nothing about {name}")

    @property
    def summary(self):
        """The first sentence, as a phrase."""
        text = re.match(r"(.*?)(?:\.(?= |$)|$)", self.paragraphs[0])[1]
        text = text if len(text) < SUMMARY_MAX else text.partition(": ")[0]
        return text[0].lower() + text[1:]

    def told_and_returned(self):
        """Paragraphs, and of a callback that returns something the sentence that says what."""
        returned = re.compile(r" *\b(Returns? [^.]*\.)")
        match = next(filter(None, map(returned.search, self.paragraphs)), None) if self.type not in ("", "void") else None
        if match is None:
            return self.paragraphs, ""
        return [returned.sub("", text, count=1) for text in self.paragraphs], match[1]

    def words_for(self, parameter, types):
        name = name_of(parameter)
        of_type = re.match(r"flashinfer_\w+", plain_type(parameter))
        if name in self.described:
            return name, self.described[name]
        if plain_type(parameter) in CALLBACK_PARAMETERS:
            return name, CALLBACK_PARAMETERS[plain_type(parameter)]
        if of_type and of_type[0] in types:
            return name, f"what is told, see {of_type[0]}(3); valid during the callback only"
        raise Problem(f"the header says nothing about {self.name}'s parameter {name}")

    def mentions(self):
        return " ".join([*self.described.values(), *self.paragraphs, *(member.text for member in self.members)])


class Enum:
    """Constants that begin alike."""

    def __init__(self, comment, body):
        self.members = members_of(body, r"FLASHINFER_\w+ = [^,/\n]+,?")
        self.prefix = re.match(r".*_", os.path.commonprefix([member.name for member in self.members]))[0]
        self.text = " ".join(" ".join(words_of(comment or "")).split())
        if not self.text:
            raise Problem(f"the header says nothing about the constants {self.prefix}...")
        for member in self.members:
            if not member.text:
                raise Problem(f"the header says nothing about {member.name}")


COMMENT = r"(?:/\*(?P<{}>(?:(?!\*/).)*)\*/\n)?"
PATTERN = re.compile(
    r"/\* -{20,} (?P<section>[^\n]*?) \*/|/\*\*\n(?P<comment>.*?)\*/\s*FLASHINFER_API (?P<function>.*?);|" +
    COMMENT.format("of_struct") + r"(?P<struct>(?:typedef )?struct (?P<struct_name>\w+) \{(?P<fields>.*?)\n\}[^;]*;)|" +
    COMMENT.format("of_enum") + r"enum \{(?P<values>.*?)\};|" +
    COMMENT.format("of_callback") + r"(?P<callback>typedef (?P<type>\w[\w ]*?) \(\*(?P<callback_name>\w+)\)\((?P<parameters>.*?)\);)|" +
    COMMENT.format("of_handle") + r"(?P<handle>typedef struct (?P<handle_name>\w+) \w+;)|" +
    r"#define (?P<define>FLASHINFER_\w+) (?P<number>\d\S*) *(?:/\* (?P<of_define>[^\n]*?) \*/)? *\n", flags=re.S)


class Header:
    def __init__(self, texts):
        """texts: of HEADERS."""
        self.functions, self.types, self.enums, self.defines, self.errors = [], {}, [], [], []
        self.texts = texts
        for file, text in zip(HEADERS, texts):
            self.read(file, text)
        for of_type in self.types.values():
            self.check(of_type)
        for function in self.functions:
            for parameter in function.parameters:
                function.words_for(parameter)
        declared = set(re.findall(r"FLASHINFER_API[^;]*?\b(flashinfer_\w+)\s*\(", texts[0]))
        missing = declared - {function.name for function in self.functions}
        if missing:
            raise Problem(f"the header has functions without a comment: {sorted(missing)}")

    def read(self, file, text):
        section, handles = "", []
        for match in PATTERN.finditer(text):
            if match["section"]:
                section = match["section"]
            elif match["function"]:
                self.functions.append(Function(match["comment"], match["function"], section))
            elif match["struct"]:
                self.add(Type("struct", match["struct_name"], match["of_struct"], match["struct"], file)).members = members_of(
                    match["fields"], r"[\w*][^;/]*;")
            elif match["callback"]:
                made = self.add(Type("callback", match["callback_name"], match["of_callback"], match["callback"], file))
                made.type, made.parameters = match["type"], parameters_of(match["parameters"])
            elif match["handle"]:
                handles.append(match)
            elif match["define"]:
                if not match["of_define"]:
                    raise Problem(f"the header says nothing about {match['define']}")
                self.defines.append((match["define"], match["number"], " ".join(match["of_define"].split())))
            elif "FLASHINFER_ERROR_ENUM" not in match["values"]:
                self.enums.append(Enum(match["of_enum"], match["values"]))
        for match in handles:  # a struct that is only declared early has its words where it is defined
            if match["handle_name"] not in self.types:
                self.add(Type("handle", match["handle_name"], match["of_handle"], match["handle"], file))
        self.errors += re.findall(r'^    X\((\w+), (-?\d+), "(.*)"\)', text, flags=re.M)

    def add(self, of_type):
        self.types[of_type.name] = of_type
        return of_type

    def check(self, of_type):
        """Every field and parameter has words."""
        for member in of_type.members:
            self.field_words(of_type, member)
        for parameter in of_type.parameters:
            of_type.words_for(parameter, self.types)
        if of_type.kind == "callback" and of_type.type != "void" and not of_type.told_and_returned()[1]:
            raise Problem(f"the header does not say what {of_type.name} returns")

    def size_words(self, of_type):
        if any(function.name == f"{of_type.name}_init" for function in self.functions):
            return SIZE_OF_INIT.format(of_type.name)
        if any(f"const {of_type.name} *" in " ".join(other.parameters) for other in self.types.values()):
            return SIZE_OF_CALLBACK
        if any(parameter.startswith(f"{of_type.name} *") for function in self.functions for parameter in function.parameters):
            return SIZE_OF_RESULT.format(of_type.name)
        return ""

    def field_words(self, of_type, member):
        user = re.fullmatch(r"void \*(\w+)_user", member.declaration)
        if member.text:
            return member.text
        if member.declaration == "uint32_t size" and self.size_words(of_type):
            return self.size_words(of_type)
        if member.declaration in FIELDS:
            return FIELDS[member.declaration]
        if user and user[1] in {other.name for other in of_type.members}:
            return f"given to {user[1]} as its last argument, and never looked at"
        raise Problem(f"the header says nothing about {of_type.name}.{member.name}")

    def conventions(self):
        body = re.search(r" \* Conventions\n(.*?) \*/", self.texts[0], flags=re.S)[1]
        items = []
        for line in body.splitlines():
            match = re.match(r" \*   (\w+)\s+(.*)", line)
            if match and not line.startswith(" *    "):
                items.append([match[1], match[2]])
            else:
                items[-1][1] += " " + line.lstrip(" *")
        return items

    def types_of(self, declarations):
        """Names of our types in declarations, in their order."""
        names = re.findall(r"flashinfer_\w+", " ".join(declarations))
        return [name for name in dict.fromkeys(names) if name in self.types]

    def enums_in(self, text):
        """Those whose prefix and three dots are in a text."""
        return [enum for enum in self.enums if enum.prefix + "..." in text]


def read_headers(include):
    texts = []
    for name in HEADERS:
        with open(f"{include}/{name}", encoding="utf8") as file:
            texts.append(file.read())
    return Header(texts)
