#!/usr/bin/env python3
"""Only overlays hold AVX instructions: everything else must run on any CPU of its architecture.

usage: check_instructions.py CPU_FAMILY OBJDUMP CORE.a OVERLAY.a...

CORE.a is all of the library but the overlays, so the first AVX instruction found there fails the test. Each overlay
must have some, which shows that they would be found.
"""
import re
import subprocess
import sys

SKIP = 77
# Registers of 256 or 512 bits, masks, or a mnemonic in VEX or EVEX coding, all of which begin with v; verr and verw do
# not belong to it.
AVX = re.compile(r"%[yz]mm\d|%k[0-7]\b|^v(?!err\b|erw\b)")


def avx_instructions(objdump, archive):
    """(objects, [(object, function, instruction)]) of an archive."""
    text = subprocess.run([objdump, "-d", "--no-show-raw-insn", archive], check=True, capture_output=True,
                          text=True).stdout
    objects, found, where, function = 0, [], "", ""
    for line in text.splitlines():
        if ":     file format" in line:
            objects, where = objects + 1, line.split(":")[0]
        elif line.endswith(">:"):
            function = line.split("<")[1][:-2]
        elif "\t" in line:
            instruction = line.split("\t", 1)[1].strip()
            if AVX.search(instruction):
                found.append((where, function, instruction))
    return objects, found


def main():
    family, objdump, core, overlays = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    if family != "x86_64":
        print(f"SKIPPED: {family} has no AVX")
        return SKIP
    failed = 0
    for overlay in overlays:
        objects, found = avx_instructions(objdump, overlay)
        print(f"{overlay}: {objects} objects, {len(found)} AVX instructions")
        failed += not found
    objects, found = avx_instructions(objdump, core)
    print(f"{core}: {objects} objects, {len(found)} AVX instructions")
    for where, function, instruction in found[:20]:
        print(f"FAILED: {where}: {function}: {instruction}")
    return 1 if failed or found or objects < 20 or not overlays else 0


if __name__ == "__main__":
    sys.exit(main())
