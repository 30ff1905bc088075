#!/usr/bin/env python3
"""Unpack golden.npz (made by examples/models/train.py with transformers) into raw arrays that the C test reads.

usage: npz_to_raw.py MODEL/golden.npz OUTDIR     writes OUTDIR/NAME.raw per array: little-endian int32, float32 or
float64; and window_nll.raw (16 float64) from window_nll.json beside this script (made by window_nll.py)
"""
import ast
import json
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


def window_nll(model):
    """What transformers computed for each of the model's windows."""
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "window_nll.json"), encoding="utf8") as lines:
        return next(entry["window_nll"] for entry in map(json.loads, lines) if entry["model"] == model)


def main():
    source, target = sys.argv[1], sys.argv[2]
    os.makedirs(target, exist_ok=True)
    values = window_nll(os.path.basename(os.path.dirname(os.path.abspath(source))))
    with open(os.path.join(target, "window_nll.raw"), "wb") as out:
        out.write(struct.pack(f"<{len(values)}d", *values))
    with zipfile.ZipFile(source) as archive:
        for name in archive.namelist():
            _, values = array_of(archive.read(name))
            with open(os.path.join(target, name.replace(".npy", ".raw")), "wb") as out:
                out.write(values)


if __name__ == "__main__":
    main()
