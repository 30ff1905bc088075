#!/usr/bin/env python3
"""The library's reads beside fio's: same file, size and depth, in turns within one run.

usage: fio.py READS_PROGRAM FILE [--rounds 5] [--seconds 2] [--sizes 4K,16K,32K,128K,1M] [--depth 64] [--lanes 4]

Every round runs each kind of storage once and fio's like of it directly after: libaio and io_uring with DEPTH reads in
flight, pread with LANES threads reading one at a time. All direct I/O, random, read-only. Prints medians of GB/s and the
median of the rounds' ratios. Needs fio (apt install fio).
"""
import argparse
import json
import shutil
import statistics
import subprocess
import sys

KINDS = ("libaio", "io_uring", "pread")


def ours(options, kind, size):
    done = subprocess.run([options.reads, options.file, "--storage", kind, "--size", size, "--depth", str(options.depth),
                           "--lanes", str(options.lanes), "--seconds", str(options.seconds)],
                          capture_output=True, check=False)
    if b"FLASHINFER_EUNSUPPORTED" in done.stderr:
        return None
    if done.returncode != 0:
        sys.exit(done.stderr.decode().strip())
    return json.loads(done.stdout)["bytes_per_s"]


def fio(options, kind, size):
    engine = ["--ioengine=psync", f"--numjobs={options.lanes}"] if kind == "pread" else [
        f"--ioengine={kind}", f"--iodepth={options.depth}"]
    done = subprocess.run(["fio", "--name=reads", f"--filename={options.file}", "--rw=randread", "--readonly", "--direct=1",
                           "--thread", "--group_reporting", "--time_based", f"--runtime={options.seconds}",
                           f"--bs={size.lower()}", "--randrepeat=0", "--norandommap", "--output-format=json", *engine],
                          capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit("fio: " + (done.stderr or done.stdout).decode().strip())
    text = done.stdout.decode()
    return json.loads(text[text.index("{"):])["jobs"][0]["read"]["bw_bytes"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reads")
    parser.add_argument("file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--sizes", default="4K,16K,32K,128K,1M")
    parser.add_argument("--depth", type=int, default=64)
    parser.add_argument("--lanes", type=int, default=4)
    options = parser.parse_args()
    if shutil.which("fio") is None:
        sys.exit("fio.py: fio is not installed (apt install fio)")
    print(f"{options.file}: depth {options.depth}, {options.lanes} lanes, {options.rounds} rounds of {options.seconds} s")
    print(f"{'size':>6} {'storage':>9} {'ours GB/s':>10} {'fio GB/s':>10} {'ratio':>7}   ratios by round")
    for size in options.sizes.split(","):
        for kind in KINDS:
            if ours(options, kind, size) is None:  # also the warm-up
                print(f"{size:>6} {kind:>9} not here")
                continue
            pairs = [(ours(options, kind, size), fio(options, kind, size)) for _ in range(options.rounds)]
            ratios = [left / right for left, right in pairs]
            print(f"{size:>6} {kind:>9} {statistics.median(left for left, _ in pairs) / 1e9:10.3f} "
                  f"{statistics.median(right for _, right in pairs) / 1e9:10.3f} {statistics.median(ratios):7.3f}   "
                  + " ".join(f"{ratio:.2f}" for ratio in sorted(ratios)), flush=True)


if __name__ == "__main__":
    main()
