#!/usr/bin/env python3
"""generate inside a memory control group of its budget and 8 MiB: the group counts the page cache too.

usage: test_ceiling.py PROGRAMS_DIR MODEL.gguf [MODEL.gguf...]     exits 77 (skipped) where no group can be made
"""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
from memory_group import Group  # noqa: E402

PROCESS_BYTES = 8 * 2**20


def trial(programs, model, predictor, budget):
    """One run in its group; returns whether it stayed below and told the truth."""
    group = Group()
    try:
        command = [f"{programs}/generate", model, "--prompt", "Once upon a time", "--tokens", "20", "--budget",
                   str(budget), "--predictor", predictor, "--json"]
        group.limit(budget + PROCESS_BYTES)
        done = group.run(command)
        if done.returncode != 0:
            print(f"FAILED ({done.returncode}): {' '.join(command)}: {done.stderr}")
            return False
        result = json.loads(done.stdout)
        good = result["peak_rss_bytes"] <= budget + PROCESS_BYTES and result["planned_bytes"] <= budget
        print(f"{os.path.basename(model)} {predictor}: budget {budget}, planned {result['planned_bytes']}, peak "
              f"resident {result['peak_rss_bytes']}, group's peak {group.peak()}, limit {budget + PROCESS_BYTES}"
              + ("" if good else ": TOO MUCH"))
        return good
    finally:
        group.close()


def smallest(programs, model, predictor):
    done = subprocess.run([f"{programs}/generate", model, "--prompt", "Once upon a time", "--tokens", "20",
                           "--budget", "1", "--predictor", predictor], capture_output=True, text=True, check=False)
    return int(done.stderr.split("these options is ")[1].split()[0])


def main():
    programs, models = sys.argv[1], [model for model in sys.argv[2:] if os.path.exists(model)]
    try:
        probe = Group()
        probe.limit(64 * 2**20)
        probe.close()
    except OSError as problem:
        print(f"SKIP: no memory control group can be made here: {problem}")
        return 77
    good = True
    for model in models:
        for predictor in ("sketch", "exact", "all"):
            least = smallest(programs, model, predictor)
            for budget in (least, os.path.getsize(model) // 2):
                good &= trial(programs, model, predictor, max(budget, least))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
