"""_ffi.py is the header, field by field; records and keywords are the structs. Each way to differ is shown to be found."""
import ctypes
import dataclasses
import re
import shutil
import typing

import pytest
from conftest import CHECKOUT

import headers
from libflashinfer import ProbeResult, _ffi, _library, _records

INCLUDE, MAP = CHECKOUT / "include", CHECKOUT / "lib" / "flashinfer.map"


def test_ffi_is_the_header():
    found = headers.differences(INCLUDE, MAP)
    assert not found, "\n" + "\n".join(found)


def test_enough_is_looked_at():
    """The headers only grow: fewer means that headers.py no longer reads them."""
    read = headers.Headers(INCLUDE)
    assert len(read.constants()) >= 62 and len(read.functions()) >= 61
    assert len(read.structs()) >= 19 and len(read.callbacks()) >= 5 and len(read.handles()) >= 6


@pytest.mark.parametrize("old, new, expected", [
    ("FLASHINFER_DTYPE_F16 = 2,", "FLASHINFER_DTYPE_F16 = 2, FLASHINFER_DTYPE_NEW = 99,",
     "constant FLASHINFER_DTYPE_NEW is 99 in the headers: add it"),
    ("X(EBUDGET, -7,", "X(EBUDGET, -99,", "constant FLASHINFER_EBUDGET is -99 in the headers and -7 in _ffi.py"),
    ("    const flashinfer_order *order;\n", "    const flashinfer_order *order;\n    uint32_t dtype_new;\n    uint32_t more;\n",
     "field flashinfer_pack_options.dtype_new"),
    ("    uint32_t window_tokens;\n    uint32_t storage;", "    uint32_t storage;\n    uint32_t window_tokens;",
     "field flashinfer_options.window_tokens is"),
    ("    int32_t sys_errno; ", "    uint32_t sys_errno; ", "field flashinfer_error.sys_errno is uint32_t at 8"),
    ("session, int32_t token,", "session, int32_t id,", "function flashinfer_step is int32_t(flashinfer_session*,int32_t id,"),
    ("uint32_t flashinfer_session_position(", "uint64_t flashinfer_session_position(", "function flashinfer_session_position"),
    ("FLASHINFER_API const char *flashinfer_version(void);", "", "function flashinfer_version is not in the headers"),
    ("typedef int (*flashinfer_progress_callback)(", "typedef void (*flashinfer_progress_callback)(",
     "callback flashinfer_progress_callback is void("),
])
def test_a_changed_header_is_noticed(tmp_path, old, new, expected):
    shutil.copytree(INCLUDE, tmp_path / "include")
    changed = tmp_path / "include" / "flashinfer.h"
    text = changed.read_text(encoding="utf8")
    assert old in text
    changed.write_text(text.replace(old, new, 1), encoding="utf8")
    found = headers.differences(tmp_path / "include", MAP)
    assert any(expected in line for line in found), found


def test_a_removed_symbol_is_noticed(tmp_path):
    changed = tmp_path / "map"
    changed.write_text(MAP.read_text(encoding="utf8").replace("    flashinfer_step;\n", ""), encoding="utf8")
    assert any("flashinfer_step is not" in line for line in headers.differences(INCLUDE, changed))


def test_the_library_has_every_function():
    loaded = _library.library()
    for name in _ffi.FUNCTIONS:
        assert callable(getattr(loaded, name[len("flashinfer_"):]))


HIDDEN = {"size", "reserved"}
COUNTS = {"logit_bias_count"}  # of a list that is one keyword


@pytest.mark.parametrize("record, struct", [
    (_records.Info, _ffi.flashinfer_info), (_records.TensorInfo, _ffi.flashinfer_tensor_info),
    (_records.Plan, _ffi.flashinfer_plan), (_records.Stats, _ffi.flashinfer_stats),
    (ProbeResult, _ffi.flashinfer_probe_result), (_records.Progress, _ffi.flashinfer_progress),
    (_records.Trace, _ffi.flashinfer_trace), (_records.FfnInput, _ffi.flashinfer_ffn_input),
    (_records.Audit, _ffi.flashinfer_audit)])
def test_records_are_the_structs(record, struct):
    assert {one.name for one in dataclasses.fields(record)} - {"struct"} == {name for name, _ in struct._fields_} - HIDDEN
    assert list(_records.Logprob._fields) == [name for name, _ in _ffi.flashinfer_logprob._fields_]


@pytest.mark.parametrize("keywords, struct", [
    (_records.ModelOptions, _ffi.flashinfer_options), (_records.SamplerOptions, _ffi.flashinfer_sampler_options),
    (_records.PackOptions, _ffi.flashinfer_pack_options), (_records.ProbeOptions, _ffi.flashinfer_probe_options)])
def test_keywords_are_the_structs(keywords, struct):
    assert set(keywords.__annotations__) == {name for name, _ in struct._fields_ if not name.endswith("_user")} - HIDDEN - COUNTS


def test_every_function_is_used():
    """The module is a binding of all of the library; only what makes no sense in Python is left out, and listed here."""
    text = "".join(path.read_text(encoding="utf8") for path in (CHECKOUT / "bindings/python/libflashinfer").glob("_*.py")
                   if path.name != "_ffi.py")
    inits = {f"{name[len('flashinfer_'):]}_init" for name in vars(_ffi) if re.fullmatch(r"flashinfer_\w*options", name)}
    unused = {name for name in _ffi.FUNCTIONS if not re.search(rf"\(\)\.{name[len('flashinfer_'):]}\b", text)}
    assert {name[len("flashinfer_"):] for name in unused} == inits
    assert typing.get_type_hints(_library.load) and ctypes.sizeof(_ffi.flashinfer_error) == 544
