"""The training loop beside a bare PyTorch loop and transformers' Trainer, and what a step of each method holds.

    python -m benchmarks.training [--quick] [--json]

Speed: the bench model, batches of 8 windows of 64 tokens (the Trainer's default batch), fused AdamW on all sides as the
Trainer has by default, one thread. Each side runs in a process of its own and they take turns of a few steps, so that a
busy machine is busy for all; a ratio is the median over the rounds, and counts the tokens that the model is run on. The
others run the model as transformers made it, the loop with its GELU fused. What is timed are steps: validations and
state files come on top, as often as a user asks for them. Memory: two steps of 4 windows of 64 tokens on a GPT-2 of
124 million random weights, each method in a fresh process, its peak (VmHWM) over that after the imports.
"""

import functools
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.bench import TOKENS, bench_model
from benchmarks.claims import Claim, main
from forecasting.methods import METHODS, method
from forecasting.train import TrainingData, TrainingOptions, Update, rows_of_step, train
from forecasting.training.precision import fused_gelu, recomputing
from tunetrade.measure import peak_memory_bytes

BATCH, LENGTH, WINDOWS = 8, 64, 16_000
TURN = 5
"""Steps of a turn."""
MOST_STEPS = WINDOWS // BATCH - 1
"""Before the end of an epoch, at which the loop would write its state."""
RATE, SEED = 1e-4, 1
OPTIONS = TrainingOptions(steps=MOST_STEPS, batch_size=BATCH, evaluate_every=MOST_STEPS, device="cpu")
MEBIBYTE = 2**20

Turn = Callable[[], None]


def windows(tokens: int, count: int) -> np.ndarray:
    """Random tokens, int64 [count, LENGTH]."""
    return np.random.default_rng(0).integers(0, tokens, size=(count, LENGTH))


def loop(turn: Turn) -> None:
    """Ours."""
    rows = windows(TOKENS, WINDOWS)
    with tempfile.TemporaryDirectory() as folder:
        data = TrainingData(rows, rows[:BATCH], LENGTH // 2)
        train(bench_model(), data, OPTIONS, RATE, SEED, Path(folder) / "state", lambda *_: turn())


def bare(turn: Turn) -> None:
    """The same step written out: batches in the same order, loss, clipping, AdamW; a constant rate."""
    rows, model = windows(TOKENS, WINDOWS), bench_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=OPTIONS.weight_decay, fused=True)
    model.train()
    for step in range(MOST_STEPS):
        ids = torch.from_numpy(rows[rows_of_step(WINDOWS, BATCH, SEED, step)])
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.reshape(-1, TOKENS), ids[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIONS.clip)
        optimizer.step()
        loss.item()
        turn()


def trainer(turn: Turn) -> None:
    """The Trainer of transformers with its defaults; it may only not write anything."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Turns(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            turn()

    rows = [{"input_ids": row, "labels": row} for row in torch.from_numpy(windows(TOKENS, WINDOWS))]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(folder, max_steps=MOST_STEPS, save_strategy="no", disable_tqdm=True)
        Trainer(bench_model(), arguments, train_dataset=rows, callbacks=[Turns()]).train()


SIDES = {"loop": loop, "bare": bare, "trainer": trainer}
POSITIONS = {"loop": LENGTH - 1, "bare": LENGTH - 1, "trainer": LENGTH}
"""Of each window, on which a side runs the model: the Trainer also on the last token, whose successor none knows."""


def serve(side: str) -> None:
    """Run a side turn by turn: a line in for each turn, its seconds out; ends when no more line comes."""
    torch.set_num_threads(1)
    steps, started = 0, math.nan

    def turn() -> None:
        nonlocal steps, started
        steps += 1
        if steps % TURN:
            return
        print(time.perf_counter() - started, file=answers, flush=True)
        if not sys.stdin.readline():
            raise SystemExit
        started = time.perf_counter()

    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    SIDES[side](turn)


@contextmanager
def serving() -> Iterator[dict[str, Callable[[], float]]]:
    """Each side in a process of its own, started side by side; gives what lets it take a turn and tells the time."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}

    def turn(process: Any) -> float:
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    with ExitStack() as stack:
        processes = {}
        for side in SIDES:
            command = [sys.executable, "-c", f"from benchmarks.training import serve; serve({side!r})"]
            processes[side] = stack.enter_context(subprocess.Popen(command, text=True, **pipes))  # type: ignore[call-overload]
        for process in processes.values():
            process.stdout.readline()  # the turn in which it warms up
        yield {side: functools.partial(turn, process) for side, process in processes.items()}
        for process in processes.values():
            process.stdin.close()


def race(rounds: int) -> dict[str, list[float]]:
    """Positions a second on which each side runs the model, in each round."""
    names = list(SIDES)
    rates: dict[str, list[float]] = {name: [] for name in names}
    with serving() as turns:
        for number in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                rates[name].append(TURN * BATCH * POSITIONS[name] / turns[name]())
    return rates


def held(name: str, checkpointing: bool) -> float:
    """MiB by which two steps of a method on a GPT-2 of 124 M raise this process's peak over that after its imports."""
    from transformers import GPT2Config, GPT2LMHeadModel

    for library in ("peft", "bitsandbytes") if name == "qlora" else ("peft",):
        __import__(library)
    torch.set_num_threads(1)
    before = peak_memory_bytes()
    torch.manual_seed(SEED)
    config, chosen = GPT2Config(), method(name)
    model = chosen.prepare(GPT2LMHeadModel(config), chosen.options())
    options = TrainingOptions(steps=2, batch_size=4, checkpointing=checkpointing, device="cpu")
    update = Update(model, options, RATE, SEED, chosen.plan(model, chosen.options(), options.steps))
    rows = windows(config.vocab_size, 8)
    with fused_gelu(model), recomputing(model, checkpointing):
        for step in range(options.steps):
            update(rows, step)
    return (peak_memory_bytes() - before) / MEBIBYTE


HELD = {"full": ("full", False), "LoRA": ("lora", False), "QLoRA with gradient checkpointing": ("qlora", True)}


def memory() -> dict[str, float]:
    """`held` of the methods that there are, each in a fresh process, side by side."""
    asked = {what: case for what, case in HELD.items() if case[0] in METHODS}
    processes = {
        what: subprocess.Popen(_command(*case), stdout=subprocess.PIPE, text=True) for what, case in asked.items()
    }
    found = {}
    for what, process in processes.items():
        said, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"the memory of {what} could not be measured: exit status {process.returncode}")
        found[what] = float(said.split()[-1])
    return found


def _command(name: str, checkpointing: bool) -> list[str]:
    code = f"from benchmarks.training import held; print(held({name!r}, {checkpointing}))"
    return [sys.executable, "-c", code]


def measure(quick: bool = False) -> dict[str, Claim]:
    """Speed and memory of training."""
    rates = race(6 if quick else 60)

    def ratio(other: str) -> float:
        return statistics.median(one / two for one, two in zip(rates["loop"], rates[other], strict=True))

    mebibytes = memory()
    claims = {
        "tokens/s over a bare PyTorch loop of the same step": Claim(ratio("bare"), "x", 0.95),
        "tokens/s over transformers' Trainer with its defaults": Claim(ratio("trainer"), "x", 1.0),
    }
    for what, most in (("LoRA", 0.6), ("QLoRA with gradient checkpointing", 0.45)):
        if what in mebibytes:
            claim = Claim(mebibytes[what] / mebibytes["full"], "x", most, at_most=True)
            claims[f"peak memory of a 124 M step, {what} over full"] = claim
    claims |= {f"{name}, tokens/s": Claim(statistics.median(each), "tokens/s") for name, each in rates.items()}
    return claims | {f"peak memory of a 124 M step, {what}": Claim(each, "MiB") for what, each in mebibytes.items()}


if __name__ == "__main__":
    main(measure, __doc__)
