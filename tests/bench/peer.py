#!/usr/bin/env python3
"""libflashinfer beside llama.cpp within the same memory limit: one run, both in turn, the page cache counted and dropped.

usage: peer.py [--shape small|opt-6.7b] [--limits 50,75,120] [--rounds 3] [--tokens 64] [--prompts 128,512] [--threads 2]
               [--seconds 300] [--wait 60] [--tries 3] [--only-main] [--json FILE] [--build build] [--folder build/peer]
               [--keep]

Fetches llama.cpp (the sdist of llama-cpp-python from PyPI contains it) and builds it once; writes both models: `synth`'s for
the library, for llama.cpp a dense f16 file of the same matrices (peer_model.py says why that is fair), and its Q4_0 twin.
A limit is a share of the dense f16 file. Every process runs alone in a memory control group of that limit, which charges
page cache as well; the library gets 8 MiB less as its budget. Both get the same threads, context, tokens and a cold cache.

A process evaluates a prompt, then token after token; --seconds ends it, and how far it came is printed. Decoding is
counted after a warm-up of 16 tokens or 30 seconds. The two main ways run in every round, the others in the first.

llama.cpp's threads spin while they wait for each other: on cores that others need too it gets ten times slower. So before
each process up to --wait seconds are spent waiting for a quiet second, and a process is run again, up to --tries times in all,
while others take more than 0.2 cores of those it needs. Medians are over all rounds; how many were disturbed all the same is
said. On a machine that is never quiet, ask for --threads 1: then no thread waits for another.
Needs root (control groups), python3 with pip, cmake, ninja and a C++ compiler (.ci/setup peer).
"""
import argparse
import glob
import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tools"))
from memory_group import Group  # noqa: E402
import peer_model  # noqa: E402

LLAMA = "llama-cpp-python==0.3.36"
PROCESS_BYTES = 8 * 2**20  # of the limit, for the program around the library
GRACE_SECONDS = 60         # for the token during which the time ran out
WARM_TOKENS, WARM_SECONDS = 16, 30
QUIET_CORES = 0.2
SHAPES = {"small": {"layers": 4, "d": 3072, "heads": 24, "ffn": 12288, "vocab": 4096, "context": 1024},
          "opt-6.7b": {"layers": 32, "d": 4096, "heads": 32, "ffn": 16384, "vocab": 50272, "context": 2048}}
WAYS = [  # label, side, file, way, in every round
    ("libflashinfer", "flashinfer", "ours", "{budget}", True),
    ("llama.cpp mmap", "llama", "f16", "mmap", True),
    ("libflashinfer exact", "flashinfer", "ours", "{budget}:exact", False),
    ("llama.cpp --no-mmap", "llama", "f16", "read", False),
    ("llama.cpp direct I/O", "llama", "f16", "direct", False),
    ("llama.cpp Q4_0", "llama", "q4_0", "default", False),
]


# ------------------------------------------------------------------------------------------------ set-up

def quietly(command, log, **more):
    with open(log, "a", encoding="utf8") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False, **more)
    if done.returncode != 0:
        sys.exit(f"peer.py: {command[0]} failed; see {log}")


def find_source(folder):
    found = glob.glob(f"{folder}/llama_cpp_python-*/vendor/llama.cpp")
    return found[0] if found else None


def fetch_llama(folder, log):
    quietly([sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "llama-cpp-python", "-d", folder, LLAMA],
            log)
    with tarfile.open(glob.glob(f"{folder}/llama_cpp_python-*.tar.gz")[0]) as archive:
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(folder, **safe)


def link_side(folder, source, log):
    """peer_run.c with peer_llama.c and the static libraries just built."""
    objects = []
    for name in ("peer_run", "peer_llama", "zipf"):
        objects.append(f"{folder}/{name}.o")
        quietly(["cc", "-O2", "-std=c11", "-D_POSIX_C_SOURCE=200809L", f"-I{source}/include", f"-I{source}/ggml/include",
                 "-c", f"{HERE}/{name}.c", "-o", objects[-1]], log)
    libraries = glob.glob(f"{folder}/llama-build/**/lib*.a", recursive=True)
    quietly(["c++", "-o", f"{folder}/peer_llama", *objects, "-Wl,--start-group", *libraries, "-Wl,--end-group", "-lpthread",
             "-ldl"], log)


def set_up_llama(folder):
    """Everything for this processor (-march=native), its own threads instead of OpenMP's. Without AMX, for which llama.cpp
    keeps a second copy of the weights in another layout, and crashed with Q4_0 when this was written."""
    log = f"{folder}/llama.log"
    if find_source(folder) is None:
        print(f"fetching {LLAMA} ...", flush=True)
        fetch_llama(folder, log)
    source, libraries = find_source(folder), f"{folder}/llama-build"
    if not glob.glob(f"{libraries}/src/libllama.a"):
        print("building llama.cpp (minutes) ...", flush=True)
        switches = [f"-D{name}=OFF" for name in ("BUILD_SHARED_LIBS", "GGML_OPENMP", "LLAMA_BUILD_COMMON", "LLAMA_BUILD_TESTS",
                                                 "LLAMA_BUILD_TOOLS", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_SERVER")]
        flags = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16" if platform.machine() == "x86_64" else ""
        no_amx = [f"-DCMAKE_{language}_FLAGS={flags}" for language in ("C", "CXX")]
        quietly(["cmake", "-G", "Ninja", "-S", source, "-B", libraries, "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON",
                 *switches, *no_amx], log)
        quietly(["nice", "cmake", "--build", libraries, "--target", "llama"], log)
    link_side(folder, source, log)


def make_files(options):
    """Paths by name; what is there already is taken as it is."""
    shape, stem = SHAPES[options.shape], f"{options.folder}/{options.shape}"
    files = {"ours": f"{stem}.gguf", "f16": f"{stem}-dense-f16.gguf", "q4_0": f"{stem}-dense-q4_0.gguf"}
    if not os.path.exists(files["ours"]):
        print(f"writing {files['ours']} ...", flush=True)
        given = [word for name, number in shape.items() for word in (f"--{name}", str(number))]
        quietly([f"{options.build}/tests/bench/synth", *given, files["ours"] + ".part"], f"{options.folder}/synth.log")
        os.rename(files["ours"] + ".part", files["ours"])
    for kind in ("f16",) if options.only_main else ("f16", "q4_0"):
        if not os.path.exists(files[kind]):
            print(f"writing {files[kind]} ...", flush=True)
            peer_model.write(files[kind] + ".part", shape, kind)
            os.rename(files[kind] + ".part", files[kind])
    return files


# ------------------------------------------------------------------------------------------------ runs

class Others:
    """How many cores everything but this program and its children has used since this was made."""

    def __init__(self):
        self.begun = self.at()

    @staticmethod
    def at():
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, interrupts, soft, steal = map(int, file.readline().split()[1:9])
        busy = (user + nice + system + interrupts + soft + steal) / os.sysconf("SC_CLK_TCK")
        return time.monotonic(), busy - sum(os.times()[:4])

    def cores(self):
        (begun, before), (now, after) = self.begun, self.at()
        return max(0.0, (after - before) / (now - begun))


def spare_cores(options):
    """What others may use without being in the way."""
    return max(0, len(os.sched_getaffinity(0)) - options.threads) + QUIET_CORES


def wait_for_quiet(options):
    until = time.monotonic() + options.wait
    while time.monotonic() < until:
        others = Others()
        time.sleep(1)
        if others.cores() < spare_cores(options):
            return


def drop_cached(paths):
    os.sync()
    for path in paths:
        if os.path.exists(path):
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def events_of(printed):
    """Whole lines only: the last one of a killed process may be cut off."""
    if isinstance(printed, bytes):  # as an expired time limit hands it over
        printed = printed.decode()
    return [json.loads(line) for line in (printed or "").split("\n")[:-1]]


def figures_of(events):
    """Seconds to the first token, counted from the start of the process; decoding after the warm-up, or None where the run
    did not come that far."""
    at = {event["event"]: event for event in events if event["event"] != "token"}
    figures = {"tokens": sum(event["event"] == "token" for event in events), "first_token_seconds": None,
               "first_token_bytes": None, "tokens_per_second": None, "bytes_per_token": None}
    if "prompt" not in at:
        return figures
    figures["first_token_seconds"] = at["prompt"]["seconds"]
    figures["first_token_bytes"] = at["prompt"]["read_bytes"]
    points = [at["prompt"]] + [event for event in events if event["event"] == "token"]
    begin = 0
    while begin < min(WARM_TOKENS, len(points) - 2) and points[begin]["seconds"] - points[0]["seconds"] < WARM_SECONDS:
        begin += 1
    count = len(points) - 1 - begin
    if count > 0:
        figures["tokens_per_second"] = count / (points[-1]["seconds"] - points[begin]["seconds"])
        figures["bytes_per_token"] = (points[-1]["read_bytes"] - points[begin]["read_bytes"]) / count
    return figures


def outcome_of(returncode, stderr, reached, wanted):
    """One phrase. A return code of None: the time was over before the process was."""
    if returncode == -9:
        return "killed by its memory limit"
    if returncode is None or (returncode == 0 and reached < wanted):
        return f"time over, {reached} of {wanted} tokens"
    if returncode != 0:
        return f"failed: {stderr.strip().splitlines()[-1] if stderr.strip() else returncode}"
    return "done"


def run_once(options, files, way, limit_bytes, prompt, tokens):
    _, side, file, how, _ = way
    program = f"{options.build}/tests/bench/peer_flashinfer" if side == "flashinfer" else f"{options.folder}/peer_llama"
    context = -(-(max(options.prompts) + options.tokens) // 256) * 256
    command = [program, files[file], how.format(budget=limit_bytes - PROCESS_BYTES), str(options.threads), str(prompt),
               str(tokens), str(context), str(options.seconds)]
    drop_cached(files.values())
    wait_for_quiet(options)
    group, others = Group(), Others()
    try:
        group.limit(limit_bytes)
        try:
            done = group.run(command, timeout=options.seconds + GRACE_SECONDS)
            code, printed, problem = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired as late:
            code, printed, problem = None, late.stdout, ""
        figures = figures_of(events_of(printed))
        figures["outcome"] = outcome_of(code, problem, figures["tokens"], tokens)
        figures["peak_bytes"] = group.peak()
    finally:
        group.close()
    figures["others_cores"] = others.cores()
    figures["disturbed"] = figures["others_cores"] > spare_cores(options)
    return figures


def run_undisturbed(options, *arguments):
    for _ in range(options.tries):
        figures = run_once(options, *arguments)
        if not figures["disturbed"]:
            break
    return figures


def sentence_of(figures):
    parts = [figures["outcome"]]
    if figures["first_token_seconds"] is not None:
        parts.append(f"first token after {figures['first_token_seconds']:.2f} s, {figures['first_token_bytes'] / 1e6:.0f} MB")
    if figures["tokens_per_second"] is not None:
        parts.append(f"{figures['tokens_per_second']:.3f} tokens/s, {figures['bytes_per_token'] / 1e6:.1f} MB/token")
    parts.append(f"others used {figures['others_cores']:.1f} cores" + (", which disturbed" if figures["disturbed"] else ""))
    return "; ".join(parts)


def run_limit(options, files, share, results):
    """All rounds at one limit; who begins changes from round to round."""
    limit_bytes = os.path.getsize(files["f16"]) * share // 100
    for number in range(options.rounds):
        ways = [way for way in WAYS if way[4] or (number == 0 and not options.only_main)]
        for way in ways if number % 2 == 0 else ways[::-1]:
            for i, prompt in enumerate(options.prompts):
                figures = run_undisturbed(options, files, way, limit_bytes, prompt, 0 if i else options.tokens)
                figures.update(limit_percent=share, limit_bytes=limit_bytes, round=number, way=way[0], prompt_tokens=prompt)
                results.append(figures)
                print(f"  {share} %, round {number + 1}, {way[0]}, prompt of {prompt}: {sentence_of(figures)}", flush=True)


# ------------------------------------------------------------------------------------------------ tables

def numbers_of(runs, name):
    return [run[name] for run in runs if run[name] is not None]


def median_text(numbers, scale=1.0):
    return short(statistics.median(numbers) * scale) if numbers else "-"


def short(number):
    """Three digits that count, and all before the point."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def row_of(options, way, runs):
    mine = [run for run in runs if run["way"] == way]
    if not mine:
        return None
    decoding = [run for run in mine if run["prompt_tokens"] == options.prompts[0]]
    first = [median_text(numbers_of([run for run in mine if run["prompt_tokens"] == prompt], "first_token_seconds"))
             for prompt in options.prompts]
    rates = numbers_of(decoding, "tokens_per_second")
    outcomes = sorted({run["outcome"] for run in mine} - {"done"})
    if any(run["disturbed"] for run in mine):
        outcomes.append(f"{sum(run['disturbed'] for run in mine)} of {len(mine)} processes disturbed")
    return [way, *first, median_text(rates), median_text(numbers_of(decoding, "bytes_per_token"), 1e-6),
            f"{max(numbers_of(mine, 'peak_bytes')) / 1e6:.0f}", " ".join(map(short, rates)),
            "; ".join(outcomes)]


def ratios_of(runs, name, prompt, ours, theirs):
    """(ratio, disturbed) for each round in which both have the figure."""
    found = {(run["way"], run["round"]): run for run in runs if run["prompt_tokens"] == prompt and run[name]}
    pairs = [(found[ours, number], found[theirs, number]) for number in sorted({number for _, number in found})
             if (ours, number) in found and (theirs, number) in found]
    return [(above[name] / below[name], above["disturbed"] or below["disturbed"]) for above, below in pairs]


def print_ratios(options, runs):
    ours, theirs = WAYS[0][0], WAYS[1][0]
    rows = [("tokens/s", "tokens_per_second", options.prompts[0], ours, theirs)]
    rows += [(f"first token of {prompt}", "first_token_seconds", prompt, theirs, ours) for prompt in options.prompts]
    for label, name, prompt, above, below in rows:
        ratios = ratios_of(runs, name, prompt, above, below)
        if ratios:
            print(f"{label}: {ours} is {statistics.median(ratio for ratio, _ in ratios):.2f} times as fast as {theirs}; rounds: "
                  + " ".join(f"{ratio:.2f}{' (disturbed)' if disturbed else ''}" for ratio, disturbed in ratios))


def print_table(options, share, runs):
    print(f"\nlimit {share} % of the dense file, {runs[0]['limit_bytes'] / 1e6:.0f} MB:\n")
    print("| | " + " | ".join(f"first token of {prompt}, s" for prompt in options.prompts)
          + " | tokens/s | MB/token | peak MB | tokens/s by round | |")
    print("|---" * (7 + len(options.prompts) - 1) + "|")
    for way in WAYS:
        row = row_of(options, way[0], runs)
        if row:
            print("| " + " | ".join(row) + " |")
    print()
    print_ratios(options, runs)


# ------------------------------------------------------------------------------------------------ the story

def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf8") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def numbers(words):
    found = [int(word) for word in words.split(",")]
    if not all(number > 0 for number in found):
        raise ValueError
    return found


def read_arguments(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--limits", type=numbers, default=[50, 75, 120], metavar="PERCENT,...")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="decoded after the first prompt")
    parser.add_argument("--prompts", type=numbers, default=[128, 512], metavar="TOKENS,...")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=int, default=300, help="a process may take")
    parser.add_argument("--wait", type=int, default=60, help="seconds to wait for a quiet machine before each process")
    parser.add_argument("--tries", type=int, default=3, help="for a process that others disturb")
    parser.add_argument("--only-main", action="store_true", help="leave out all but the library and llama.cpp's mmap")
    parser.add_argument("--json", metavar="FILE", help="every run's figures")
    parser.add_argument("--build", default="build", help="the library's build folder")
    parser.add_argument("--folder", default="build/peer", help="for llama.cpp and the models")
    parser.add_argument("--keep", action="store_true", help="leave the models there")
    return parser.parse_args(arguments)


def main():
    options = read_arguments()
    try:
        Group().close()
    except OSError as problem:
        sys.exit(f"peer.py: no memory control group can be made here (as root it can): {problem}")
    os.makedirs(options.folder, exist_ok=True)
    set_up_llama(options.folder)
    files, results = make_files(options), []
    sizes = {name: os.path.getsize(path) for name, path in files.items() if os.path.exists(path)}
    print(f"{processor()}, threads: {options.threads}; shape {options.shape}: "
          + ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in sizes.items()), flush=True)
    for share in options.limits:
        run_limit(options, files, share, results)
    for share in options.limits:
        print_table(options, share, [run for run in results if run["limit_percent"] == share])
    if options.json:
        with open(options.json, "w", encoding="utf8") as file:
            json.dump({"processor": processor(), "threads": options.threads, "shape": options.shape, "file_bytes": sizes,
                       "llama": LLAMA, "runs": results}, file, indent=1)
    if not options.keep:
        for path in files.values():
            if os.path.exists(path):
                os.remove(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
