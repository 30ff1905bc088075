#!/usr/bin/env python3
"""Unpack golden.npz (made by examples/models/train.py with transformers) into raw arrays that the C test reads.

usage: npz_to_raw.py GOLDEN.npz OUTDIR      writes OUTDIR/NAME.raw per array: little-endian int32, float32 or float64
"""
import ast
import os
import struct
import sys
import zipfile


def array_of(data):
    """Splits one .npy file into its header and its raw little-endian, C-ordered values."""
    if data[:6] != b"\x93NUMPY":
        raise SystemExit("not an .npy file")
    size, start = (struct.unpack("<H", data[8:10])[0], 10) if data[6] == 1 else (struct.unpack("<I", data[8:12])[0], 12)
    header = ast.literal_eval(data[start:start + size].decode("latin1"))
    if header["fortran_order"] or header["descr"] not in ("<i4", "<f4", "<f8"):
        raise SystemExit(f"unexpected array {header}")
    return header, data[start + size:]


def main():
    source, target = sys.argv[1], sys.argv[2]
    os.makedirs(target, exist_ok=True)
    with zipfile.ZipFile(source) as archive:
        for name in archive.namelist():
            _, values = array_of(archive.read(name))
            with open(os.path.join(target, name.replace(".npy", ".raw")), "wb") as out:
                out.write(values)


if __name__ == "__main__":
    main()
