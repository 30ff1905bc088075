"""Budgets as an application's user writes them: bytes, bytes with a unit, or a share of the model's file."""
from __future__ import annotations

import ctypes
from typing import Any, Callable, Union

from ._library import Error, checked, library
from ._numbers import shown, whole

Budget = Union[int, str]

MOST = (1 << 64) - 1
ANY_FILE = 1 << 40  # is the text a budget at all?


def budget_bytes(name: str, given: Any, file_bytes: Callable[[], int]) -> int:
    """The bytes that a number or text stands for. file_bytes(): of the model's file, asked for only if it is a share."""
    if not isinstance(given, str):
        try:
            return whole(name, given, 0, MOST)
        except TypeError:
            raise TypeError(f'{name} must be a whole number of bytes or a text such as "50%" or "1.5G", '
                            f"not {shown(given)}") from None
    found = parsed(name, given, ANY_FILE)
    return parsed(name, given, file_bytes()) if given.endswith("%") else found


def parsed(name: str, text: str, file_bytes: int) -> int:
    """A zero byte, where C would stop reading, becomes something that is in no budget."""
    given, found = text.replace("\0", "?").encode("utf-8", "replace"), ctypes.c_uint64()
    try:
        checked(lambda error: library().budget_parse(given, file_bytes, found, error))
    except Error as error:
        raise ValueError(f"{name} takes no {shown(text)}: {error.text}") from None
    return found.value
