"""Budgets as an application's user writes them: bytes, bytes with a unit, or a share of the model's file.

Exact to the byte, rounded down once. What comes to no byte at all is refused: 0 means no ceiling.
"""
from __future__ import annotations

import re
from typing import Any, Callable, Optional, Union

from ._numbers import shown, whole

Budget = Union[int, str]

UNITS = {None: 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
TEXT = re.compile(r"([0-9]+)(?:\.([0-9]+))?([%KMGT])?")
MOST = (1 << 64) - 1


def budget_bytes(name: str, given: Any, file_bytes: Callable[[], int]) -> int:
    """The bytes that a number or text stands for. file_bytes(): of the model's file, asked for only if it is a share."""
    if not isinstance(given, str):
        try:
            return whole(name, given, 0, MOST)
        except TypeError:
            raise TypeError(f'{name} must be a whole number of bytes or a text such as "50%" or "1.5G", '
                            f"not {shown(given)}") from None
    found = parsed(given, file_bytes)
    if found is None or not 1 <= found < MOST:
        raise ValueError(f'{name} takes a share of the file such as "50%" or bytes such as "1.5G", "800M" or "123456", '
                         f"not {shown(given)}")
    return found


def parsed(text: str, file_bytes: Callable[[], int]) -> Optional[int]:
    """None: it is no budget."""
    match = TEXT.fullmatch(text)
    if match is None or len(text) > 200:  # Python reads no integers of thousands of digits
        return None
    before, behind, unit = match[1], match[2] or "", match[3]
    number, scale = int(before + behind), 10 ** len(behind)
    if number == 0:
        return None
    if unit == "%":
        return number * file_bytes() // (100 * scale)
    return None if unit is None and behind else number * UNITS[unit] // scale
