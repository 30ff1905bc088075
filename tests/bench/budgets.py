#!/usr/bin/env python3
"""One model at several memory budgets, each in a process of its own inside a memory control group of the budget and 8 MiB,
which counts the page cache too.

usage: budgets.py ABLATION_PROGRAM MODEL.gguf [--budgets smallest,50,60,75,100] [--tokens 48] [--skip 160] [--threads N]

The smallest is what the library itself says; the others are percent of the model file. Prints a line per budget. Exits
with 1 if a process passed its budget and 8 MiB, or tokens per second did not rise by each step (3% of noise allowed).
"""
import argparse
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
from memory_group import Group  # noqa: E402

PROCESS_BYTES = 8 * 2**20
NOISE = 0.03


def command_of(options, budget):
    command = [options.ablation, "--model", options.model, "--budget", str(budget), "--sweep", "file", "--json",
               "--tokens", str(options.tokens), "--skip", str(options.skip)]
    return command + (["--threads", str(options.threads)] if options.threads else [])


def smallest(options):
    done = subprocess.run(command_of(options, 1), capture_output=True, text=True, check=False)
    found = re.search(r"smallest that works with these options is (\d+)", done.stderr)
    if found is None:
        sys.exit(done.stderr.strip())
    return int(found.group(1))


def measure(options, budget):
    group = Group()
    try:
        group.limit(budget + PROCESS_BYTES)
        done = group.run(command_of(options, budget), timeout=7200)
        if done.returncode == -9:
            sys.exit(f"budget {budget}: killed by its control group: TOO MUCH MEMORY")
        if done.returncode != 0:
            sys.exit(f"budget {budget}: exit code {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout)["points"][0], group.peak()
    finally:
        group.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ablation")
    parser.add_argument("model")
    parser.add_argument("--budgets", default="smallest,50,60,75,100")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--skip", type=int, default=160)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    try:
        Group().close()
    except OSError as problem:
        sys.exit(f"budgets.py: no memory control group can be made here (as root it can): {problem}")
    print(f"{'budget':>9} {'bytes':>14} {'planned':>14} {'peak resident':>14} {'peak of group':>14} {'hits':>7} {'MB/token':>9} {'stall ms':>9} "
          f"{'tokens/s':>9}")
    good, before, least = True, 0.0, smallest(options)
    for name in options.budgets.split(","):
        budget = least if name == "smallest" else os.path.getsize(options.model) * int(name) // 100
        if budget < least:
            print(f"{name:>9} is below the smallest")
            continue
        point, peak = measure(options, budget)
        rate = point["tokens_per_second"]
        verdict = ""
        if point["peak_rss_bytes"] > budget + PROCESS_BYTES:
            verdict += " TOO MUCH MEMORY"
        if rate < before * (1 - NOISE):
            verdict += " SLOWER WITH MORE"
        good, before = good and not verdict, rate
        print(f"{name + ('' if name == 'smallest' else '%'):>9} {budget:14d} {point['planned_bytes']:14d} {point['peak_rss_bytes']:14d} "
              f"{peak or 'unknown':>14} "
              f"{100 * point['hit_rate']:6.2f}% {point['bytes_per_token'] / 1e6:9.3f} {point['stall_ms']:9.1f} {rate:9.3f}"
              + verdict, flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
