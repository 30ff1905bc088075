"""One C file as check_tidy.py sees it: lines, includes, functions, types, and the names that it mentions.

A reader of tokens, not a compiler: every branch of #if counts, macros are not expanded. It says so where braces do not
balance, so that a file which it cannot read is noticed.
"""
import bisect
import re

LITERAL = re.compile(r"//(?:\\\n|[^\n])*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)
DIRECTIVE = re.compile(r"^[ \t]*#(?:\\\n|[^\n])*", re.M)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)
TOKEN = re.compile(r"[A-Za-z_]\w*|[{}();=]")
NAME = re.compile(r"[A-Za-z_]\w*")
NO_FUNCTIONS = {"_Alignas", "_Static_assert", "__attribute__"}


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


class Function:
    def __init__(self, name, line, last_line, static, parameters):
        self.name, self.line, self.last_line, self.static, self.parameters = name, line, last_line, static, parameters

    @property
    def lines(self):
        return self.last_line - self.line + 1


class Type:
    def __init__(self, name, line, body):
        self.name, self.line, self.body = name, line, body


class Source:
    """path: relative to the root, with slashes. text: the whole file."""

    def __init__(self, path, text):
        self.path, self.text = path, text
        self.lines = text.split("\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)

    def line_at(self, offset):
        return bisect.bisect_right(self.starts, offset)

    def read(self, static_words):
        """Fills in includes, directives, code (no comments, strings or directives), functions, types and mentions."""
        self.static_words = static_words
        without = LITERAL.sub(lambda match: match.group(0) if self.is_include(match) else blank(match), self.text)
        self.includes = [(match.group(2), match.group(1) == '"', self.line_at(match.start(1)))
                         for match in INCLUDE.finditer(without)]
        self.directives = [(match.group(0), self.line_at(match.start())) for match in DIRECTIVE.finditer(without)]
        self.code = DIRECTIVE.sub(blank, without)
        self.functions, self.types = [], []
        self.mentions = {}  # name: first line, of names inside functions, initialisers and macros
        for text, line in self.directives:
            if re.match(r"[ \t]*#[ \t]*define\b", text):
                for name in NAME.findall(text)[2:]:
                    self.mentions.setdefault(name, line)
        self.balanced = self.walk()
        return self

    def is_include(self, match):
        begin = self.text.rfind("\n", 0, match.start()) + 1
        return match.group(0)[0] == '"' and re.match(r"[ \t]*#[ \t]*include\b", self.text[begin:match.start()])

    def walk(self):
        """One pass over the tokens: declarations at the top, and what lies in their braces. False: unbalanced."""
        depth = 0
        statement = []  # tokens at the top since the last declaration ended
        opened = None  # what the outermost brace belongs to: "function", "type" or "value"
        transparent = 0  # extern "C"
        for match in TOKEN.finditer(self.code):
            token = match.group(0)
            if depth == 0 and token == "{":
                if [entry.group(0) for entry in statement] == ["extern"]:
                    transparent, statement = transparent + 1, []
                    continue
                opened = self.kind(statement)
                begin = match.end()
                depth = 1
            elif depth == 0 and token == "}":
                if transparent == 0:
                    return False
                transparent -= 1
            elif depth == 0:
                if token == ";":
                    statement = []
                    continue
                if any(entry.group(0) == "=" for entry in statement):
                    self.mentions.setdefault(token, self.line_at(match.start()))
                statement.append(match)
            elif token == "{":
                depth += 1
            elif token == "}":
                depth -= 1
                if depth == 0:
                    statement = self.close(opened, statement, begin, match.start())
            elif opened != "type" and token[0] not in "();=":
                self.mentions.setdefault(token, self.line_at(match.start()))
        return depth == 0 and transparent == 0

    @staticmethod
    def kind(statement):
        words = [entry.group(0) for entry in statement]
        if "=" in words:
            return "value"
        return "function" if "(" in words else "type"

    def close(self, opened, statement, begin, end):
        """The outermost brace closes at end; returns what the statement goes on with."""
        if opened == "function":
            self.add_function(statement, end)
            return []
        if opened == "type":
            words = [entry.group(0) for entry in statement]
            for index in range(len(words) - 1):
                if words[index] in ("struct", "union", "enum") and NAME.match(words[index + 1]):
                    body = " ".join(self.code[begin:end].split())
                    self.types.append(Type(words[index + 1], self.line_at(statement[index + 1].start()), body))
                    break
        return statement

    def add_function(self, statement, end):
        depth, found = 0, None
        for index, entry in enumerate(statement):
            token = entry.group(0)
            if token == "(":
                before = statement[index - 1].group(0) if index > 0 else ""
                if depth == 0 and found is None and NAME.match(before) and before not in NO_FUNCTIONS and \
                        not before.isupper():
                    found = index - 1
                depth += 1
            elif token == ")":
                depth -= 1
                if depth == 0 and found is not None:
                    name = statement[found]
                    parameters = self.code[statement[found + 1].end():entry.start()]
                    static = any(word.group(0) in self.static_words for word in statement[:found])
                    self.functions.append(Function(name.group(0), self.line_at(name.start()), self.line_at(end), static,
                                                   parameters))
                    return
