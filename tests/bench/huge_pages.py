#!/usr/bin/env python3
"""What huge pages give: `perplexity` with the system's huge pages and, in turn, with them switched off for the process.

usage: huge_pages.py PERPLEXITY MODEL.gguf TEXT [PAIRS]      seconds of wall clock and of user time, per pair
"""
import ctypes
import os
import subprocess
import sys
import time

PR_SET_THP_DISABLE = 41


def switch_off():
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_THP_DISABLE)")


def measure(command, before):
    user = os.times().children_user
    started = time.perf_counter()
    result = subprocess.run(command, preexec_fn=before, check=True, capture_output=True).stdout
    return time.perf_counter() - started, os.times().children_user - user, result


def main():
    program, model, text = sys.argv[1:4]
    command = [program, model, "--text", text, "--window-tokens", "256", "--limit", "2", "--audit", "0",
               "--budget", "50%"]
    for _ in range(int(sys.argv[4]) if len(sys.argv) > 4 else 3):
        small, small_user, small_result = measure(command, switch_off)
        huge, huge_user, huge_result = measure(command, None)
        if small_result != huge_result:
            sys.exit("the two runs computed different things")
        print(f"without {small:6.1f} s ({small_user:5.1f} user)   with {huge:6.1f} s ({huge_user:5.1f} user)   "
              f"ratio {small / huge:.2f}", flush=True)


if __name__ == "__main__":
    main()
