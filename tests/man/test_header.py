#!/usr/bin/env python3
"""Nothing public stays without words: each comment of the headers is taken away in turn, and things without one are added;
every time docs/man/header.py refuses to read on, and names what has no words.

usage: test_header.py ROOT
"""
import os
import re
import sys
import unittest

ROOT = os.path.abspath(sys.argv[1])
sys.dont_write_bytecode = True
sys.path.insert(0, f"{ROOT}/docs/man")
from header import HEADERS, Header, Problem  # noqa: E402

# Comments that explain no single thing, by how they begin.
OTHERS = re.compile(r"/\*(\n \* flashinfer(_backend)?\.h - | -{20,} |"
                    r" X\(name, number| entries above | flashinfer_backend\.h \*/| See \"probe\" below| Of this header;)")
TYPES = ("struct", "callback", "handle")


def texts():
    found = []
    for name in HEADERS:
        with open(f"{ROOT}/include/{name}", encoding="utf8") as file:
            found.append(file.read())
    return found


def refusal(changed):
    """What is said of headers, or None if they are taken."""
    try:
        Header(changed)
    except Problem as problem:
        return str(problem)
    return None


def with_text(number, text):
    changed = texts()
    changed[number] = text
    return changed


class Words(unittest.TestCase):
    def test_as_it_is(self):
        header = Header(texts())
        kinds = [of_type.kind for of_type in header.types.values()]
        for kind, least in zip(TYPES, (19, 5, 6)):
            self.assertGreaterEqual(kinds.count(kind), least, f"this test no longer reads {kind}s")
        self.assertGreaterEqual(sum(len(of_type.members) for of_type in header.types.values()), 180)
        self.assertGreaterEqual(sum(len(enum.members) for enum in header.enums), 45)
        self.assertGreaterEqual(len(header.functions), 58)

    def test_each_comment(self):
        taken = 0
        for number, text in enumerate(texts()):
            for match in re.finditer(r"/\*.*?\*/", text, flags=re.S):
                if OTHERS.match(match[0]):
                    continue
                after = text[match.end():]
                own_line = text[:match.start()].rpartition("\n")[2].strip() == ""
                without = text[:match.start()] + (after.removeprefix("\n") if own_line else after)
                self.assertIsNotNone(refusal(with_text(number, without)), f"nobody misses {match[0]}")
                taken += 1
        self.assertGreater(taken, 250)

    def added(self, number, place, what, name):
        """At every place in a header."""
        text = texts()[number]
        spots = [match.start(1) for match in re.finditer(place, text, flags=re.S)]
        self.assertTrue(spots)
        for spot in spots:
            told = refusal(with_text(number, text[:spot] + what + text[spot:]))
            self.assertIsNotNone(told, f"{what} at byte {spot} is taken")
            self.assertIn(name, told)

    def test_fields(self):
        for number in range(2):
            self.added(number, r"struct flashinfer_\w+ \{[^}]*?\n()\}", "    uint32_t mystery;\n", ".mystery")

    def test_values(self):
        self.added(0, r"enum \{\n[^}#]*?FLASHINFER_\w+_\w+ = ()[^}#]*?\}", "77,\n    FLASHINFER_MYSTERY = ", "FLASHINFER_")

    def test_types(self):
        for what in ("typedef struct flashinfer_mystery {\n    int x; /* words */\n} flashinfer_mystery;\n\n",
                     "typedef struct flashinfer_mystery flashinfer_mystery;\n\n",
                     "enum {\n    FLASHINFER_mystery_A = 1, /* words */\n};\n\n",
                     "typedef void (*flashinfer_mystery)(void *user);\n\n",
                     "/* Gets something. */\ntypedef void (*flashinfer_mystery)(int what);\n\n",
                     "/* Gets something. */\ntypedef int (*flashinfer_mystery)(void *user);\n\n",
                     "#define FLASHINFER_mystery 7\n\n", "FLASHINFER_API void flashinfer_mystery(void);\n\n"):
            self.added(0, r"()/\* -+ session \*/", what, "mystery")

    def test_parameter(self):
        text = texts()[0]
        without = text.replace(" * @capacity: bytes of @value; the text is cut to fit and zero-terminated\n", "")
        self.assertNotEqual(text, without)
        self.assertIn("flashinfer_model_metadata's parameter capacity", refusal(with_text(0, without)) or "")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=2)
