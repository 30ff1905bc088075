"""Whether a text of Kotlin or Swift has the form of one: brackets and strings in any case, the grammar where tree-sitter's is
installed (`.ci/setup platforms` does into build-platforms).
"""
import glob
import os
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PAIRS = {")": "(", "]": "[", "}": "{"}


def bracket_errors(text):
    """Comments and strings aside, of which these two languages share the form."""
    found, at = [], 0
    while at < len(text):
        if text.startswith("//", at):
            at = text.find("\n", at) % (len(text) + 1)
        elif text.startswith("/*", at):
            at = text.index("*/", at) + 2
        elif text[at] == '"':
            at += 1
            while text[at] != '"':
                if text[at] == "\n":
                    return [f"a string does not end before byte {at}"]
                at += 2 if text[at] == "\\" else 1
            at += 1
        else:
            if text[at] in PAIRS.values():
                found.append((text[at], at))
            elif text[at] in PAIRS and (not found or found.pop()[0] != PAIRS[text[at]]):
                return [f"{text[at]} at byte {at} closes nothing"]
            at += 1
    return [f"{bracket} at byte {place} stays open" for bracket, place in found]


def parser_of(language):
    """None where it is not installed."""
    sys.path += glob.glob(f"{ROOT}/build-platforms/lib/*/site-packages")
    try:
        import tree_sitter
        grammar = __import__(f"tree_sitter_{language}")
    except ImportError:
        return None
    return tree_sitter.Parser(tree_sitter.Language(grammar.language()))


def errors_in(language, text):
    """What is wrong with a text, in words."""
    found = bracket_errors(text)
    parser = parser_of(language)
    if parser is None or found:
        return found
    nodes = [parser.parse(text.encode()).root_node]
    while nodes:
        node = nodes.pop()
        if node.is_error or node.is_missing:
            found.append(f"line {node.start_point[0] + 1}: {text.encode()[node.start_byte:node.end_byte][:60].decode()}")
        nodes += node.children if node.has_error else []
    return found
