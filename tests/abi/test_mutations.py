#!/usr/bin/env python3
"""The test of the test: a copy of the interface is damaged in every way that abi.py must notice.

usage: test_mutations.py ROOT
"""
import os
import platform
import re
import shutil
import sys
import tempfile
import unittest

import abi

ROOT = os.path.abspath(sys.argv.pop())
HEADER = "include/flashinfer.h"


@unittest.skipIf(platform.machine() != "x86_64" or shutil.which("abidw") is None, "needs abidw, on x86-64")
class Mutations(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = self.folder.name
        for part in ("include", "lib", "tests/abi"):
            shutil.copytree(f"{ROOT}/{part}", f"{self.root}/{part}")

    def tearDown(self):
        self.folder.cleanup()

    def edit(self, name, pattern, replacement):
        path = f"{self.root}/{name}"
        with open(path, encoding="utf8") as file:
            text, count = re.subn(pattern, replacement, file.read(), count=1, flags=re.S)
        self.assertEqual(count, 1, f"{pattern} is not in {name}: this test no longer damages anything")
        with open(path, "w", encoding="utf8") as file:
            file.write(text)

    def outcome(self, function):
        try:
            return "\n".join(function(self.root))
        except abi.Problem as problem:
            return str(problem)

    def assert_refused(self, *words):
        """By the check, and by an update of the baseline too."""
        for function in (abi.check, abi.update):
            problems = self.outcome(function)
            for word in words:
                self.assertIn(word, problems, function.__name__)

    def assert_addition(self, word):
        """The check fails, the baseline may be updated, the check passes."""
        self.assertIn(word, self.outcome(abi.check))
        self.assertEqual(self.outcome(abi.update), "")
        self.assertEqual(self.outcome(abi.check), "")

    def test_unchanged(self):
        self.assertEqual(self.outcome(abi.check), "")

    def test_symbol_removed_from_version_script(self):
        self.edit("lib/flashinfer.map", r"    flashinfer_step;\n", "")
        self.assertIn("flashinfer_step", self.outcome(abi.check))

    def test_function_removed(self):
        self.edit("lib/flashinfer.map", r"    flashinfer_model_verify;\n", "")
        self.edit(HEADER, r"FLASHINFER_API int flashinfer_model_verify\([^;]*;", "")
        self.assert_refused("flashinfer_model_verify")

    def test_function_with_another_parameter(self):
        for name in (HEADER, "lib/api.c"):
            self.edit(name, r"(int flashinfer_step\(flashinfer_session \*session,) int32_t token", r"\1 int64_t token")
        self.assertIn("abidiff", self.outcome(abi.check))
        self.assert_refused("flashinfer_step")

    def test_fields_swapped(self):
        """Of one type: only the names tell."""
        self.edit(HEADER, r"(    uint32_t context_tokens;[^\n]*\n)(    uint32_t session_count;[^\n]*\n)", r"\2\1")
        self.assert_refused("flashinfer_options.context_tokens", "flashinfer_options.session_count")

    def test_field_inserted(self):
        self.edit(HEADER, r"(    uint32_t dtype;[^\n]*FLASHINFER_DTYPE)", r"    uint64_t between;\n\1")
        self.assert_refused("flashinfer_pack_options.dtype")

    def test_field_removed(self):
        self.edit(HEADER, r"    uint64_t page_table_bytes;", "")
        self.assert_refused("flashinfer_plan.page_table_bytes")

    def test_field_of_another_type(self):
        self.edit(HEADER, r"    float top_p;", "    int32_t top_p;")
        self.assertIn("abidiff", self.outcome(abi.check))

    def test_error_number_changed(self):
        self.edit(HEADER, r"X\(EBUDGET, -7,", "X(EBUDGET, -99,")
        self.assert_refused("FLASHINFER_EBUDGET")

    def test_error_numbers_swapped(self):
        self.edit(HEADER, r"X\(ECANCELED, -10,(.*?)X\(ETIMEDOUT, -11,", r"X(ECANCELED, -11,\1X(ETIMEDOUT, -10,")
        self.assert_refused("FLASHINFER_ECANCELED", "FLASHINFER_ETIMEDOUT")

    def test_enum_value_changed(self):
        self.edit(HEADER, r"FLASHINFER_STORAGE_URING = 4", "FLASHINFER_STORAGE_URING = 5")
        self.assert_refused("FLASHINFER_STORAGE_URING")

    def test_callback_of_another_type(self):
        self.edit(HEADER, r"(\(\*flashinfer_log_callback\)\()int level", r"\1long level")
        self.assert_refused("flashinfer_log_callback")

    def test_field_appended(self):
        self.edit(HEADER, r"\n(\} flashinfer_pack_options;)", r"\n    void *more;\n\1")
        self.assert_addition("new: field flashinfer_pack_options.more")

    def test_constant_appended(self):
        self.edit(HEADER, r"(FLASHINFER_DTYPE_F16 = 2)", r"\1, FLASHINFER_DTYPE_MORE = 99")
        self.assert_addition("new: constant FLASHINFER_DTYPE_MORE 99")

    def test_function_appended(self):
        self.edit("lib/flashinfer.map", r"(    flashinfer_version;)", r"\1\n    flashinfer_more;")
        self.edit(HEADER, r"(FLASHINFER_API const char \*flashinfer_version\(void\);)", r"\1\nFLASHINFER_API int flashinfer_more(void);")
        self.edit("lib/api.c", r"\Z", "\nint flashinfer_more(void)\n{\n    return 0;\n}\n")
        self.assert_addition("new: function flashinfer_more")

    def test_reserved_comes_into_use(self):
        self.edit(HEADER, r"uint32_t reserved;(\n    uint64_t page_table_bytes;)", r"uint32_t more;\1")
        self.assert_addition("new: field flashinfer_plan.more")


if __name__ == "__main__":
    unittest.main()
