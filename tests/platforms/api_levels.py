"""Which level of Android's API a built library needs, by the functions it imports and android_api_levels.txt.

A function that the table does not know is a Problem: bionic's lists say from which level on it is there.
"""
import os
import re
import subprocess

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "android_api_levels.txt")
# What other C libraries call the same thing, and what a toolchain brings itself. clang makes bcmp of some memcmp for musl and
# glibc, not for Android.
OTHER_NAMES = {"__errno_location": "__errno", "__assert_fail": "__assert2", "__gnu_strerror_r": "strerror_r",
               "bcmp": "memcmp", "__xpg_strerror_r": "strerror_r", "__sysconf": "sysconf"}
TOOLCHAIN = re.compile(r"__gmon_start__|_ITM_\w+|_GLOBAL_OFFSET_TABLE_|_DYNAMIC|__(aarch64|cpu|popcount|u?div|u?mod|udivmod|extend|trunc|"
                       r"float|fix)\w+|__tls_get_addr|__dso_handle")


class Problem(Exception):
    pass


def table():
    levels = {}
    with open(TABLE, encoding="ascii") as file:
        for line in file:
            match = re.match(r"(\d+): (.*)", line)
            for name in match[2].split() if match else []:
                levels[name] = int(match[1])
    return levels


def imported(path):
    """Names that a shared library, or an archive as a whole, takes from elsewhere."""
    archive = path.endswith(".a")
    done = subprocess.run(["nm", *([] if archive else ["-D"]), path], check=True, capture_output=True, text=True)
    kinds = re.findall(r"^[0-9a-f ]* ([A-Za-z]) (\S+)$", done.stdout, flags=re.M)
    defined = {name for kind, name in kinds if kind not in "Uwv"}
    names = {re.sub(r"@.*", "", name) for kind, name in kinds if kind in "Uwv" and name not in defined}
    return {name for name in names if not TOOLCHAIN.fullmatch(name)}


def plain(name, levels):
    name = OTHER_NAMES.get(name, name)
    short = name.removesuffix("64")
    return short if name not in levels and short in levels else name


def needed(path):
    """(level, names that need it)."""
    levels = table()
    names = {plain(name, levels) for name in imported(path)}
    strangers = sorted(names - levels.keys())
    if strangers:
        raise Problem(f"{path} imports {', '.join(strangers)}: look up in bionic's libc.map.txt from which API level on that is "
                      f"there, and add it to {TABLE}")
    if len(names) < 20:
        raise Problem(f"{path} imports hardly anything ({sorted(names)}): is it the library?")
    level = max(levels[name] for name in names)
    return level, sorted(name for name in names if levels[name] == level)
