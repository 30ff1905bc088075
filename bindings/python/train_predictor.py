#!/usr/bin/env python3
"""Train low-rank predictors of firing FFN neurons as "LLM in a flash" (arXiv 2312.11514), section 3.1, does.

Every layer gets two factors, d -> rank -> neurons, with nothing between them and a sigmoid for each neuron, trained for
two epochs with a loss in which neurons that fire and neurons that do not weigh the same; a neuron is named when its
sigmoid is above 0.5. The FFN inputs and what fires on them come from the model itself, run exactly by libflashinfer
over windows spread evenly over a text; every 8th window is held out to judge by. Prints what it found there, writes a
predictor file for flashinfer_options.predictor_path (--predictor-file of the example programs).

    train_predictor.py model.gguf predictor.gguf --text text.txt
    train_predictor.py model.gguf predictor.gguf --text text.txt --rank 128 --last-rank 1024 --last-layers 4

The second is what the paper took for OPT 6.7B. Needs numpy and torch; runs on a GPU if torch finds one.
"""
from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, Callable, Iterator, NamedTuple

import libflashinfer
from libflashinfer import Info

try:
    import numpy as np
    import torch
except ImportError as missing:
    MISSING = missing.name
else:
    MISSING = None

HELD_OUT = 8  # every so many windows one
CHUNK_TOKENS = 256  # judged at once


class Failure(Exception):
    """What the user has to know, in one line."""


# ----------------------------------------------------------------------------------------------------------- model


def load_library(path: str | None) -> None:
    """The given one, else that of this repository, else where the module finds one."""
    built = Path(__file__).resolve().parents[2] / "build" / "libflashinfer.so"
    if path is None and "FLASHINFER_LIBRARY" not in os.environ and built.exists():
        path = str(built)
    try:
        libflashinfer.load(path)
    except libflashinfer.LibraryNotFound as error:
        raise Failure(f"cannot use the library: {error}") from None


class Model(libflashinfer.Model):
    """A model that runs exactly and hands its FFN inputs to a function of (layer, input)."""

    def __init__(self, path: str, context: int, threads: int, budget: int) -> None:
        super().__init__(path, predictor=libflashinfer.PredictorKind.EXACT, context_tokens=context, threads=threads,
                         memory_budget=budget, ffn_input=lambda given: self.take(given.layer, given.x))
        self.window = self.session()

    def run(self, ids: np.ndarray) -> None:
        """A window of its own, from position 0."""
        self.window.rewind()
        self.window.eval(ids)


# --------------------------------------------------------------------------------------------------------- samples


class Progress:
    """One line on stderr, at most one a second."""

    def __init__(self, what: str, total: float) -> None:
        self.what, self.total, self.done = what, total, 0.0
        self.first = self.begun = self.shown = 0.0

    def add(self, work: float) -> None:
        self.done += work
        now, left = time.monotonic(), max(0.0, self.total - self.done)
        if self.begun == 0:  # the first takes longer than the others: time counts from here
            self.first, self.begun, self.shown = work, now, now
        complete = left <= 1e-6 * self.total
        if now - self.shown >= 1 or complete:
            seconds = (now - self.begun) * left / max(self.done - self.first, work)
            print(f"\r{self.what}: {self.done / self.total:.0%}, {seconds:.0f} s left   ", file=sys.stderr,
                  end="\n" if complete else "", flush=True)
            self.shown = now


class Samples:
    """FFN inputs in a nameless file beside the result, layer by layer: (layers, windows, window, d) float16."""

    def __init__(self, file: BinaryIO, model: Model, windows: int, window: int) -> None:
        self.file, self.windows, self.window = file, windows, window
        self.layers, self.width = model.info.layer_count, model.info.embedding_length
        self.buffer = np.empty((self.layers, window, self.width), np.float32)  # of the window being run
        self.filled = 0

    def take(self, layer: int, x: np.ndarray) -> None:
        self.buffer[layer, self.filled] = x
        self.filled += layer + 1 == self.layers

    def keep(self, index: int) -> None:
        with np.errstate(over="ignore"):
            halves = self.buffer.astype(np.float16)
        if not np.isfinite(halves).all():
            raise Failure("the model has FFN inputs that float16 cannot hold")
        for layer in range(self.layers):
            self.file.seek((layer * self.windows + index) * halves[layer].nbytes)
            self.file.write(halves[layer].tobytes())
        self.filled = 0

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(tokens, d) to train on, (tokens, d) held out."""
        self.file.seek(index * self.windows * self.window * self.width * 2)
        x = np.fromfile(self.file, np.float16, self.windows * self.window * self.width)
        x = torch.from_numpy(x.reshape(self.windows, self.window, self.width))
        number = torch.arange(self.windows)
        held = number % HELD_OUT == HELD_OUT - 1 if self.windows >= HELD_OUT else number == self.windows - 1
        return x[~held].flatten(0, 1), x[held].flatten(0, 1)


def collect(model: Model, file: BinaryIO, text: str, tokens: int, window: int) -> Samples:
    """Run the model over windows spread evenly over the text."""
    ids = np.array(model.tokenize(Path(text).read_bytes()), np.int32)
    windows = min(tokens, len(ids)) // window
    if windows < 2:
        raise Failure(f"{text}: {min(tokens, len(ids))} tokens are too few, two windows of {window} are the least")
    if windows < tokens // window:
        print(f"{text} has {len(ids)} tokens only: {windows} windows", file=sys.stderr)
    samples = Samples(file, model, windows, window)
    model.take = samples.take
    progress = Progress("running the model", windows)
    for index in range(windows):
        first = (len(ids) - window) * index // (windows - 1)
        model.run(ids[first:first + window])
        samples.keep(index)
        progress.add(1)
    file.flush()
    return samples


# -------------------------------------------------------------------------------------------------------- training


class Truth(NamedTuple):
    """The matrix that decides what fires: gate where the FFN is gated, else up."""
    rows: torch.Tensor  # (neurons, d)
    bias: torch.Tensor  # (neurons), less what a sum must be above
    ups: torch.Tensor | None  # (neurons, d) where a neuron fires only if its up sum is positive too

    def fires(self, x: torch.Tensor) -> torch.Tensor:
        fires = torch.addmm(self.bias, x, self.rows.T) > 0
        return fires if self.ups is None else fires & (x @ self.ups.T > 0)


def truth_of(model: Model, layer: int, device: str) -> Truth:
    info = model.info
    both = info.ffn_activation == libflashinfer.Activation.DRELU
    rows, bias = model.ffn_rows(layer), model.ffn_bias(layer) - np.float32(info.ffn_threshold)
    parts = [rows, bias, model.ffn_rows(layer, libflashinfer.Part.UP) if both else None]
    return Truth(*(None if part is None else torch.from_numpy(part).to(device) for part in parts))


class Factors(NamedTuple):
    down: torch.Tensor  # (rank, d)
    up: torch.Tensor  # (neurons, rank)
    bias: torch.Tensor  # (neurons)
    relu: bool

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        hidden = x @ self.down.T
        return torch.addmm(self.bias, torch.relu(hidden) if self.relu else hidden, self.up.T)

    def stored(self) -> Factors:
        """As the file keeps them."""
        return self._replace(down=self.down.detach().half().float(), up=self.up.detach().half().float())


def new_factors(truth: Truth, rank: int, args: argparse.Namespace, random: torch.Generator) -> Factors:
    """Uniform within 1 / sqrt(inputs), as torch.nn.Linear begins."""
    neurons, width = truth.rows.shape
    down = (2 * torch.rand(rank, width, generator=random) - 1) / width ** 0.5
    up = (2 * torch.rand(neurons, rank, generator=random) - 1) / rank ** 0.5
    return Factors(down.to(args.device).requires_grad_(), up.to(args.device).requires_grad_(),
                   torch.zeros_like(truth.bias), args.relu)


def balanced_loss(scores: torch.Tensor, fires: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the sigmoids, averaged over what fires and over what does not, each counting half."""
    loss = torch.nn.functional.softplus(torch.where(fires, -scores, scores))
    firing = fires.sum()
    quiet = fires.numel() - firing
    return (loss * torch.where(fires, 0.5 / firing.clamp(min=1), 0.5 / quiet.clamp(min=1))).sum()


def train(x: torch.Tensor, truth: Truth, rank: int, seed: int, args: argparse.Namespace,
          tell: Callable[[float], None]) -> Factors:
    """Tells after every batch which share of an epoch it was."""
    random = torch.Generator().manual_seed(seed)
    factors = new_factors(truth, rank, args, random)
    adam = torch.optim.Adam([factors.down, factors.up], lr=args.lr)
    steps = args.epochs * -(-len(x) // args.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 - step / steps)  # down to 0
    for _ in range(args.epochs):
        for batch in torch.randperm(len(x), generator=random).split(args.batch):
            inputs = x[batch.to(x.device)].float()
            adam.zero_grad()
            balanced_loss(factors.scores(inputs), truth.fires(inputs)).backward()
            adam.step()
            schedule.step()
            tell(len(batch) / len(x))
    return factors.stored()


# --------------------------------------------------------------------------------------------------------- judging


def answers(x: torch.Tensor, truth: Truth, factors: Factors) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(tokens, neurons) what fires, and the scores, for some tokens after the others."""
    for chunk in x.split(CHUNK_TOKENS):
        yield truth.fires(chunk.float()), factors.scores(chunk.float())


def judge(x: torch.Tensor, truth: Truth, factors: Factors) -> tuple[float, float, float]:
    """Shares: of all neurons that fire, of all that are named, of those firing that are named."""
    active = named = found = 0
    for fires, scores in answers(x, truth, factors):
        names = scores > 0
        active += int(fires.sum())
        named += int(names.sum())
        found += int((fires & names).sum())
    cells = len(x) * len(truth.bias)
    return active / cells, named / cells, found / active if active else 1.0


def bias_for(recall: float, x: torch.Tensor, truth: Truth, factors: Factors) -> float:
    """What all biases must rise by for so much of what fires to be named; negative where less is enough."""
    firing = torch.cat([scores[fires] for fires, scores in answers(x, truth, factors)])
    if len(firing) == 0:
        return 0.0
    lowest = firing.sort().values[int((1 - recall) * len(firing))].item()
    return -lowest + 1e-6 * max(1.0, abs(lowest))


# ----------------------------------------------------------------------------------------------------------- story


def ffn_bytes(info: Info) -> int:
    """Of a layer in float16: up, down, and gate where there is one."""
    return 2 * (3 if info.ffn_gated else 2) * info.embedding_length * info.ffn_length


def ranks_of(info: Info, args: argparse.Namespace) -> list[int]:
    """Every layer's rank; from a size it is what float16 factors and float32 biases leave room for."""
    if args.rank is None:
        neurons, width = info.ffn_length, info.embedding_length
        rank = int((args.size / 100 * ffn_bytes(info) - 4 * neurons) // (2 * (width + neurons)))
        if rank < 1:
            raise Failure(f"--size {args.size} is too small for rank 1 and the biases")
        return [rank] * info.layer_count
    last = min(args.last_layers, info.layer_count) if args.last_rank else 0
    return [args.rank] * (info.layer_count - last) + [args.last_rank] * last


def work_of(info: Info, rank: int) -> float:
    """Relative: multiplications of a token's truth, and of its scores forth and back."""
    return info.embedding_length * info.ffn_length + 3 * rank * (info.embedding_length + info.ffn_length)


def fit_layer(model: Model, samples: Samples, layer: int, rank: int, args: argparse.Namespace,
              progress: Progress) -> tuple[Factors, str]:
    """The factors, and a line about them."""
    x, held = (part.to(args.device) for part in samples.layer(layer))
    truth = truth_of(model, layer, args.device)
    epoch = work_of(model.info, rank)
    factors = train(x, truth, rank, args.seed + layer, args, lambda part: progress.add(part * epoch))
    active, predicted, recall = judge(held, truth, factors)
    line = f"{layer:5}  {rank:5}  {active:7.2%}  {predicted:9.2%}  {recall:7.2%}"
    if args.recall is not None:
        rise = bias_for(args.recall, held, truth, factors)
        factors = factors._replace(bias=factors.bias + rise)
        _, predicted, recall = judge(held, truth, factors)
        line += f"  {rise:+8.3f}  {predicted:9.2%}  {recall:7.2%}"
    return factors, line


def fit(model: Model, samples: Samples, args: argparse.Namespace) -> None:
    info, ranks, lines = model.info, ranks_of(model.info, args), []
    with libflashinfer.PredictorMaker(model) as predictor:
        progress = Progress("training", args.epochs * sum(work_of(info, rank) for rank in ranks))
        for layer, rank in enumerate(ranks):
            factors, line = fit_layer(model, samples, layer, rank, args, progress)
            predictor.set_lowrank(layer, *(part.cpu().numpy() for part in factors[:3]), relu=args.relu)
            lines.append(line)
        predictor.save(args.out)
        taken = sum(predictor.bytes(layer) for layer in range(info.layer_count))
    print("layer   rank   active  predicted   recall" + ("      bias  predicted   recall" if args.recall else ""))
    print("\n".join(lines))
    share = taken / (info.layer_count * ffn_bytes(info))
    print(f"{args.out}: {taken / 1e6:.2f} MB in memory, {share:.1%} of the FFN in float16")


def work(args: argparse.Namespace) -> None:
    load_library(args.library)
    with Model(args.model, args.window_tokens, args.threads, args.budget) as model:
        ranks_of(model.info, args)  # complains before the long part
        if not model.info.ffn_sparse:
            raise Failure(f"{args.model}: every neuron of this model fires, so there is nothing to predict")
        with tempfile.TemporaryFile(dir=os.path.dirname(os.path.abspath(args.out))) as file:
            fit(model, collect(model, file, args.text, args.tokens, args.window_tokens), args)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def read_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", help="model file (GGUF in flash layout)")
    add("out", help="predictor file to write")
    add("--text", required=True, help="UTF-8 text to train on, like what the model will be used for")
    add("--tokens", type=positive, default=65536, help="of the text that are run and trained on (%(default)s)")
    add("--window-tokens", type=positive, default=256, help="tokens run in one context (%(default)s)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--size", type=lambda text: float(text.removesuffix("%")), default=10.7, metavar="PERCENT",
                      help="of the FFN's bytes in float16 that the predictor takes; the rank follows (%(default)s)")
    size.add_argument("--rank", type=positive, help="of the factors, instead of --size")
    add("--last-rank", type=positive, help="another rank for the last layers")
    add("--last-layers", type=positive, default=4, help="how many those are (%(default)s)")
    add("--relu", action="store_true", help="only the positive part of the first factor's result counts")
    add("--recall", type=float, metavar="SHARE", help="of the neurons that fire, found in every layer: thresholds are "
        "moved so on the held-out windows (default: the paper's threshold, 0.5)")
    add("--epochs", type=positive, default=2, help="times every token is trained on (%(default)s)")
    add("--batch", type=positive, default=32, help="tokens of a training step (%(default)s)")
    add("--lr", type=float, default=0.01, help="learning rate of Adam, falling evenly to 0 (%(default)s)")
    add("--seed", type=int, default=0, help="of first weights and of the order of tokens (%(default)s)")
    add("--device", choices=("cuda", "cpu"), help="where factors are trained (cuda if there is one)")
    add("--threads", type=int, default=0, help="of the model, and of torch on the CPU (as many as are useful)")
    add("--budget", type=positive, default=0, metavar="BYTES", help="memory of the model (all it can use)")
    add("--library", metavar="PATH", help="libflashinfer.so (that of FLASHINFER_LIBRARY, of build/ in this "
        "repository, of the module, or the system's)")
    args = parser.parse_args(arguments)
    if args.last_rank and args.rank is None:
        parser.error("--last-rank needs --rank")
    if args.recall is not None and not 0 < args.recall < 1:
        parser.error("--recall is a share between 0 and 1, such as 0.99")
    return args


def main(arguments: list[str] | None = None) -> int:
    args = read_arguments(arguments)
    try:
        if MISSING is not None:
            raise Failure(f"{MISSING} is missing: pip install {MISSING}")
        if args.device == "cuda" and not torch.cuda.is_available():
            raise Failure("torch finds no GPU here: leave --device cuda out")
        args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
        if args.threads > 0:
            torch.set_num_threads(args.threads)
        work(args)
    except (Failure, libflashinfer.Error) as failure:
        print(failure, file=sys.stderr)
    except OSError as error:
        print(f"{error.filename or args.out}: {error.strerror}", file=sys.stderr)
    except torch.cuda.OutOfMemoryError:
        print("the GPU's memory is full: give fewer --tokens or a smaller --batch", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
