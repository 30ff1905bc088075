#!/usr/bin/env python3
"""Bundles of a gated FFN: read whole, or the gate first and the rest of those that fire? From what reads of each size take.

usage: gate_first.py READS FILE [--rounds 5]     READS: the program tests/bench/reads; FILE: a large file of written data

The rates of three sizes are measured in turns: a gate row, up row with down column, all three, each rounded up to whole
pages as direct reads are. Named neurons (of a 3-bit sketch of the gate) and firing ones are fable-llama-18m's shares.
Gate first needs a second round of reads that cannot begin before the first has landed; its time is left out, which
favours it.
"""
import argparse
import json
import statistics
import subprocess

NAMED, FIRING = 0.079, 0.050  # of the neurons
SHAPES = [("Llama-7B, f16", 4096, 2), ("Llama-7B, q8_0", 4096, 34 / 32), ("Llama-7B, q4_0", 4096, 18 / 32),
          ("fable-llama-18m, f16", 320, 2)]
PAGE = 4096


def pages(size):
    return -(-int(size) // PAGE) * PAGE


def rate(reads, path, size):
    out = subprocess.run([reads, path, "--size", str(size), "--seconds", "2"], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)["reads_per_s"]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("reads")
    parser.add_argument("file")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    print(f"{'':22} {'whole':>12} {'gate first':>12}   of one neuron in the FFN, us of reading; bytes read")
    for name, width, bytes_per_weight in SHAPES:
        part = width * bytes_per_weight
        gate, rest, whole = pages(part), pages(2 * part), pages(3 * part)
        times = {size: [] for size in (gate, rest, whole)}
        for _ in range(asked.rounds):
            for size, measured in times.items():
                measured.append(1e6 / rate(asked.reads, asked.file, size))
        cost = {size: statistics.median(measured) for size, measured in times.items()}
        print(f"{name:22} {NAMED * cost[whole]:12.3f} {NAMED * cost[gate] + FIRING * cost[rest]:12.3f}   "
              f"{NAMED * whole:.0f} / {NAMED * gate + FIRING * rest:.0f}", flush=True)


if __name__ == "__main__":
    main()
