#!/usr/bin/env python3
"""Each rule of check_tidy.py fires on a small tree that breaks it, at the line that does, and on no clean one."""
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check_tidy  # noqa: E402

# A tree without fault, with much of what could be taken for one.
CLEAN = {
    "include/flashinfer.h": """#ifdef __cplusplus
extern "C" {
#endif
typedef struct flashinfer_model flashinfer_model;
int flashinfer_step(flashinfer_model *model);
#ifdef __cplusplus
}
#endif
""",
    "tests/unit/test_kernels.c": "int main(void) { return 0; }\n",
    "lib/util/error.h": """#include "flashinfer.h"
struct flin_error { int code; };
int flin_fail(struct flin_error *error, const char *text);
""",
    "lib/util/error.c": """#include "util/error.h"
#ifdef __linux__
#include <errno.h>
#endif
typedef struct task { int a; } task;
/* "quoted */
int flin_fail(struct flin_error *error, const char *text)
{
    return error->code = text[0] == '}' ? '"' : -1; // {
}
""",
    "lib/cache/cache.c": "#include \"util/error.h\"\ntypedef struct task { int b; } task;\nstatic int sum(task *t)\n"
                         "{\n    return t->b;\n}\nint flin_use(task *t)\n{\n    return sum(t);\n}\n",
    "lib/kernels/avx2/dot.c": "#define INLINE static inline __attribute__((always_inline))\nINLINE float sum(float x)\n"
                              "{\n    return x;\n}\n__attribute__((target(\"avx2\"))) float flin_dot(float x)\n{\n"
                              + "    x += 1;\n" * 80 + "    return sum(x);\n}\n",
    "lib/model/gguf.h": "#include \"util/error.h\"\n",
    "lib/text/tokenizer.h": "#include \"model/gguf.h\"\n",
    "lib/engine/pass.h": """#include "util/error.h"
typedef struct flin_pass { int count; } flin_pass;
int flin_forward(flin_pass *pass);
static inline int flin_pass_count(const flin_pass *pass)
{
    return pass->count;
}
""",
    "lib/engine/pass.c": """#include "engine/pass.h"
int flin_pass_begin(flin_pass *pass)
{
    return flin_pass_count(pass); /* flin_forward() comes next */
}
""",
    "lib/engine/forward.c": """#include "engine/pass.h"
static int (*const verbs[])(flin_pass *) = {flin_pass_begin};
int flin_forward(flin_pass *pass)
{
    const float activation_scale = 2;
    return verbs[0](pass) + (activation_scale > 0.5f);
}
""",
    "lib/plan/open.c": "#include \"engine/pass.h\"\nint flin_open(flashinfer_model *model)\n{\n    return 0;\n}\n",
    "lib/api.c": "#include \"engine/pass.h\"\nint flashinfer_step(flashinfer_model *model)\n{\n    return 0;\n}\n",
    "README.md": "[the docs](docs/a.md#what-it-is-and-why) and https://a.b/docs/none.md ![x](https://a.b/c.svg)\n",
    "docs/a.md": "# A\n\n## What it is, and why\n\n[up](../README.md), [here](#a), docs/a.md\n",
    "docs/architecture.md": """# Architecture

```text
flin_forward                   forward.c    x   y
for every layer
  flin_forward → flin_pass_begin   pass.c     the words for it
    sum → flin_use                 lib/cache/
```

`flin_use()`, `sum()` and
`flin_use()` of `cache/cache.c`, `flin_pass_count()` and `flin_forward()` in `engine/pass.h`;
`flin_open()` of `plan/NAME.c`; `nothing()`.
""",
    "examples/generate.c": "#include <flashinfer.h>\nint main(void)\n{\n    return 0;\n}\n",
}


def function(name, lines, parameters="void"):
    return f"int {name}({parameters})\n{{\n" + "    ;\n" * (lines - 3) + "}\n"


def picture(*calls):
    return "# A\n\n```text\n" + "\n".join(calls) + "\n```\n"


# rule, files that are added or replaced, and violations that must be found: "file:line", or just how many.
CASES = [
    ("readable", {"lib/util/a.c": "int flin_a(void)\n{\n    if (1) {\n}\n"}, ["lib/util/a.c:1"]),
    ("readable", {"lib/util/a.c": "int flin_a(void)\n{\n}\n}\n"}, ["lib/util/a.c:1"]),
    ("columns", {"lib/util/a.c": "\n/* " + "x" * 98 + " */\n"}, ["lib/util/a.c:2"]),
    ("columns", {"include/flashinfer_backend.h": "/*" + " x" * 50 + " */\n"}, ["include/flashinfer_backend.h:1"]),
    ("file lines", {"lib/util/a.c": "\n" * 801}, ["lib/util/a.c:1"]),
    ("file lines", {"tests/unit/a.py": "\n" * 801}, ["tests/unit/a.py:1"]),
    ("file lines", {"tests/unit/test_kernels.c": None}, ["tests/unit/test_kernels.c:1"]),
    ("function lines", {"lib/util/a.c": "\n" + function("flin_a", 71)}, ["lib/util/a.c:2"]),
    ("function lines", {"examples/a.c": function("main", 71)}, ["examples/a.c:1"]),
    ("flin_forward lines", {"lib/kernels/forward.c": function("flin_forward", 71)}, ["lib/kernels/forward.c:1"]),
    ("directions", {"lib/util/a.c": "#include \"cache/cache.h\"\n", "lib/cache/cache.h": "\n"}, ["lib/util/a.c:1"]),
    ("directions", {"lib/kernels/sketch/a.c": "\n#include \"model/gguf.h\"\n"}, ["lib/kernels/sketch/a.c:2"]),
    ("directions", {"lib/text/a.c": "#include \"model/shape.h\"\n", "lib/model/shape.h": "\n"}, ["lib/text/a.c:1"]),
    ("directions", {"lib/engine/a.c": "#include \"plan/a.h\"\n", "lib/plan/a.h": "\n"}, ["lib/engine/a.c:1"]),
    ("directions", {"lib/engine/a.c": "#include \"api.h\"\n", "lib/api.h": "\n"}, ["lib/engine/a.c:1"]),
    ("directions", {"lib/util/a.c": "#include \"../cache/cache.h\"\n", "lib/cache/cache.h": "\n"}, ["lib/util/a.c:1"]),
    ("directions", {"lib/rooms/a.c": "int a;\n"}, ["lib/rooms/a.c:1"]),
    ("directions", {"include/flashinfer.h": "#include \"util/error.h\"\n"}, ["include/flashinfer.h:1"]),
    ("examples", {"examples/a.c": "#include \"util/error.h\"\n"}, ["examples/a.c:1"]),
    ("headers in circles", {"lib/util/a.h": "#include \"util/b.h\"\n", "lib/util/b.h": "#include \"util/c.h\"\n",
                            "lib/util/c.h": "#include \"a.h\"\n"},
     ["lib/util/a.h:1", "lib/util/b.h:1", "lib/util/c.h:1"]),
    ("files in circles", {"lib/engine/a.c": function("flin_a", 3) + "void flin_x(void)\n{\n    flin_b();\n}\n",
                          "lib/engine/b.c": "void flin_b(void)\n{\n    flin_c();\n}\n",
                          "lib/engine/c.c": "void flin_c(void)\n{\n    flin_a();\n}\n"},
     ["lib/engine/a.c:6", "lib/engine/b.c:3", "lib/engine/c.c:3"]),
    # handed on as a callback, named in a table, called by way of a macro or of an inline function of a header
    ("files in circles", {"lib/plan/a.c": "int flin_a(void)\n{\n    return run(flin_b);\n}\n",
                          "lib/plan/b.c": "int (*table[])(void) = {flin_a};\nint flin_b(void)\n{\n}\n"},
     ["lib/plan/a.c:3", "lib/plan/b.c:1"]),
    ("files in circles", {"lib/plan/a.c": "#define GO \\\n    flin_b()\nint flin_a(void)\n{\n    return 0;\n}\n",
                          "lib/plan/b.c": "int (*verb)(void) = flin_a;\nint flin_b(void)\n{\n}\n"},
     ["lib/plan/a.c:1", "lib/plan/b.c:1"]),
    ("files in circles", {"lib/engine/a.h": "static inline int flin_a(void)\n{\n    return flin_b();\n}\n",
                          "lib/engine/b.c": "int flin_b(void)\n{\n    return flin_a();\n}\n"},
     ["lib/engine/a.h:3", "lib/engine/b.c:3"]),
    ("handles", {"lib/cache/a.c": "\nint flin_a(flashinfer_session *s)\n{\n}\n"}, ["lib/cache/a.c:2"]),
    ("handles", {"lib/pack/a.h": "struct flashinfer_model;\n"}, ["lib/pack/a.h:1"]),
    ("functions with a handle", {"lib/plan/a.c": "".join(
        ("static " if i % 2 else "") + function(f"{'' if i % 2 else 'flin_'}a{i}", 3, f"int b, {kind} *x")
        for i, kind in enumerate(["const flashinfer_model", "struct flashinfer_session"] * 30))}, 61),
    ("fires", {"lib/engine/a.c": "int flin_a(float *activations)\n{\n    return activations[b[1] + 2] > 0;\n}\n"},
     ["lib/engine/a.c:3"]),
    ("fires", {"lib/engine/a.c": "int flin_a(float activation)\n{\n    if (!(activation > 0)) return 1;\n"
                                 "    if (activation <= 0.0f) return 2;\n    return 0 < pass->activation;\n}\n"},
     ["lib/engine/a.c:3", "lib/engine/a.c:4", "lib/engine/a.c:5"]),
    ("twice", {"lib/pack/a.h": "typedef struct flin_pass { long count; } flin_pass;\n"}, ["lib/pack/a.h:1"]),
    ("twice", {"lib/pack/a.c": "int flin_pass(void)\n{\n    return 0;\n}\n"}, ["lib/pack/a.c:1"]),
    ("prefixes", {"lib/util/a.c": "int a(void)\n{\n}\nstatic int flin_b(void)\n{\n}\nint flashinfer_c(void)\n{\n}\n"},
     ["lib/util/a.c:1", "lib/util/a.c:4", "lib/util/a.c:7"]),
    ("vocabulary", {"lib/engine/a.c": "int flin_a(void)\n{\n    flin_rows_sort();\n    const uint8_t *const *rows;\n"
                                      "    int wait_msec;\n}\n"},
     ["lib/engine/a.c:3", "lib/engine/a.c:4", "lib/engine/a.c:5"]),
    ("systems", {"lib/engine/a.c": "\n#if defined(__linux__) || \\\n    X\n#endif\n"}, ["lib/engine/a.c:2"]),
    ("links", {"docs/b.md": "\n[a](none.md) [b](a.md#none) [c](#none)\n"}, ["docs/b.md:2"] * 3),
    ("links", {"lib/util/a.c": "/*\n * see docs/none.md. */\n"}, ["lib/util/a.c:2"]),
    # in a picture of calls: another file, another folder, no such caller, no such file, and a line without a file
    ("functions in documents", {"docs/architecture.md": picture(
        "flin_forward   pass.c   a", "flin_pass_begin   lib/cache/", "none → flin_pass_begin   pass.c   a",
        "sum   none.c", "  flin_forward, and so on")},
     [f"docs/architecture.md:{line}" for line in (4, 5, 6, 7, 8)]),
    ("functions in documents", {"lib/engine/forward.c": "int flin_forward2(void)\n{\n    return 0;\n}\n"},
     ["docs/architecture.md:4", "docs/architecture.md:6"]),
    ("functions in documents", {"docs/architecture.md": "\n`flin_use()` and `flin_forward()` in `cache/cache.c`\n"
                                "`flin_use()` in `engine/pass.h`, `flin_use()` of `text/NAME.c`\n"},
     ["docs/architecture.md:2", "docs/architecture.md:3", "docs/architecture.md:3"]),
    ("functions in documents", {"docs/architecture.md": "flin_use() is somewhere\n"}, ["docs/architecture.md:1"]),
]


def write(root, files):
    for path, text in {**CLEAN, **files}.items():
        if text is None:
            continue
        os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
        with open(os.path.join(root, path), "w", encoding="utf8") as file:
            file.write(text)


def run(files):
    """The report over CLEAN with files; None takes a file away."""
    with tempfile.TemporaryDirectory() as root:
        write(root, files)
        return check_tidy.check(root)


def test_clean():
    report = run({})
    assert not report.violations, report.violations
    assert all(figure <= allowed for _, figure, allowed in check_tidy.judge(report, {}))
    assert report.count("functions with a handle") == 1, report.figures


def test_cases():
    for rule, files, expected in CASES:
        report = run(files)
        if isinstance(expected, int):
            assert report.count(rule) == expected, (rule, report.count(rule))
        else:
            found = [f"{path}:{line}" for name, path, line, _ in report.violations if name == rule]
            assert sorted(found) == sorted(expected), (rule, files, found)
        broken = {name for name, figure, allowed in check_tidy.judge(report, {}) if figure > allowed}
        assert rule in broken, (rule, broken)
        # what is there today passes, and one more does not
        today = {rule: report.count(rule)}
        assert rule not in {name for name, figure, allowed in check_tidy.judge(report, today) if figure > allowed}
        today[rule] -= 1
        assert rule in {name for name, figure, allowed in check_tidy.judge(report, today) if figure > allowed}
    untested = set(check_tidy.RULES) - {rule for rule, _, _ in CASES}
    assert not untested, untested


def test_program():
    """The exit status, and that violations are printed as file:line: text."""
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "check_tidy.py")
    broken = {"lib/util/a.c": "\n" + function("flin_a", 71)}
    for files, status, text in (({}, 0, "0 rules broken"), (broken, 1, "lib/util/a.c:2: flin_a() has 71 lines")):
        with tempfile.TemporaryDirectory() as root:
            write(root, files)
            done = subprocess.run([sys.executable, program, root], capture_output=True, text=True, check=False)
            assert done.returncode == status and text in done.stdout, done


def test_table():
    """DIRECTIONS itself has no circle and no unknown folder."""
    table = {here: {there.split("/")[0] for there in allowed} for here, allowed in check_tidy.DIRECTIONS.items()}
    assert not check_tidy.strong_components(table)
    assert set().union(*table.values()) <= set(table)


if __name__ == "__main__":
    test_clean()
    test_cases()
    test_program()
    test_table()
    print(len(CASES), "broken trees were noticed")
