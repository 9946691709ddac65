"""The articles' experiment run again: their training, their single comparison, and the comparison repaired.

Each method is trained twice, once on the articles' rows and once on rows that end before a test part. Every training
is a folder that is kept under a hash of all it hangs on, and resumes where it stopped.
"""

import functools
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forecasting.bars import Bars, load_bars
from forecasting.base import Base, find_base
from forecasting.base.hub import is_hub_folder, is_hub_name
from forecasting.base.numbers import number_codec, save_number_base
from forecasting.checkpoint import load_checkpoint
from forecasting.codecs import TextCodec
from forecasting.codecs.fit import CodecOptions, scale_codec
from forecasting.codecs.rows import padded
from forecasting.errors import ConfigError
from forecasting.files import read_json, remove_partials, sha256_of, write_json
from forecasting.methods import MethodOptions
from forecasting.methods.adapter import AdapterOptions
from forecasting.methods.full import FullOptions
from forecasting.methods.lora import LoraOptions
from forecasting.row_training import RowTraining, parse_chance, row_loss, tune_rows
from forecasting.sampler import SamplingOptions
from forecasting.training.options import TrainingOptions
from forecasting.windows import WindowSpec, contexts
from tunetrade.article import published
from tunetrade.article.comparison import aligned, last_price, misaligned
from tunetrade.article.dataset import Dataset, blocks, dataset, tokens_of
from tunetrade.locks import only_one
from tunetrade.progress import Board
from tunetrade.provenance import NUMERIC, ROOT, made_by, package_version

WRITTEN = published.COMPARED - published.PROMPT
"""Closes a model writes so that with the prompt's echo there are 40."""

SPEC = WindowSpec(published.PROMPT, WRITTEN)
SCALE = CodecOptions(half_lives=(5.0,), weights=(1.0,))
"""Of the volatility that the text codec reports and no token depends on: short, so that it asks for few closes."""

CORPUS = ("EURUSD", "GBPUSD", "AUDUSD", "EURGBP", "USDCHF", "EURCHF", "USDCAD", "EURAUD", "AUDCAD", "GBPCHF")
READ_CLOSES = 60
POSITIONS = 640
"""Tokens that the small base can hold: 60 closes, each of the most tokens that a close may take."""

OPTIONS: dict[str, MethodOptions] = {
    "full": FullOptions(learning_rate=published.RATE),
    "lora": LoraOptions(
        learning_rate=published.RATE,
        rank=published.LORA_RANK,
        alpha=published.LORA_ALPHA,
        dropout=published.LORA_DROPOUT,
    ),
    "adapter": AdapterOptions(learning_rate=published.RATE, bottleneck=published.BOTTLENECK, train_base=True),
}
"""The articles' three methods; their adapter script freezes nothing."""

OWN = "own"
"""The base that is made here: a small GPT-2 that writes prices as text."""


@dataclass(frozen=True)
class Settings:
    """What may be chosen. steps: 0 for the articles' three passes. reading: steps that the own base reads for."""

    base: str = OWN
    seed: int = 1
    paths: int = 64
    steps: int = 0
    reading: int = 300
    windows: int = 0
    closes: int = published.CLOSES

    @staticmethod
    def quick(base: str, seed: int) -> "Settings":
        """A run of seconds that shows that all of it works, and nothing else."""
        return Settings(base, seed, paths=4, steps=3, reading=3, windows=2, closes=400)


def run(data: str, settings: Settings, folder: Path, board: Board) -> dict[str, Any]:
    """Do what is not done yet under `folder`; gives the record that pages are made of."""
    folder.mkdir(parents=True, exist_ok=True)
    with only_one(
        folder / ".lock", f"another tunetrade is at work in {folder}; wait until it ends, or give another --runs"
    ):
        remove_partials(folder)
        bars = load_bars(data)
        held = dataset(bars, settings.closes)
        name, base = base_of(settings, held, bars, folder, board)
        codec = codec_of(base, held)
        trainings = {
            (part, method): learnt(part, method, rows, name, base, codec, settings, folder, board)
            for part, rows in (("published", held.published_rows), ("clean", held.clean_rows))
            for method in OPTIONS
        }
        return record(held, settings, base, codec, trainings, board)


def base_of(settings: Settings, held: Dataset, bars: Bars, folder: Path, board: Board) -> tuple[str, Base]:
    """Name and base: GPT-2 with its tokens by name or folder, another base of the text codec, or the own one."""
    if settings.base == OWN:
        made = own_base(settings, held, bars, folder, board)
        return str(made), find_base(str(made))
    plain = settings.base.removeprefix("text:")
    is_gpt2 = is_hub_folder(Path(plain)) or (is_hub_name(plain) and not Path(plain).is_dir())
    name = f"text:{plain}" if is_gpt2 else plain
    base = find_base(name)
    if not isinstance(base.codec, TextCodec):
        raise ConfigError(
            f"--base {settings.base} does not write prices as text; give gpt2, a folder with GPT-2's config.json, "
            f"model.safetensors, vocab.json and merges.txt, or leave it out for the small one made here"
        )
    return name, base


def codec_of(base: Base, held: Dataset) -> TextCodec:
    """The base's codec for this series."""
    codec = scale_codec(base.codec, held.bars, SCALE)
    assert isinstance(codec, TextCodec)
    return codec.with_closes(held.closes[: held.trained_closes])


def own_base(settings: Settings, held: Dataset, bars: Bars, folder: Path, board: Board) -> Path:
    """Random weights, then `reading` steps over daily rates of other pairs, moved to the level of the first close."""
    codec = number_codec(bars.instrument.digits)
    until = held.bars.times[0]
    rows = corpus(codec, until, float(held.closes[0]), settings.seed)
    told = ["own base", settings.reading, settings.seed, codec.as_dict(), made_with()]
    sha = sha256_of(json.dumps(told, sort_keys=True), rows)
    ready, random = folder / f"base-{sha[:12]}", folder / f"random-{sha[:12]}"
    if ready.is_dir():
        return ready
    card = {
        "name": "small GPT-2 of numbers",
        "cutoff": str(until.astype("datetime64[D]") - 1),
        "corpus": f"{len(rows)} windows of {READ_CLOSES} daily closes of {len(CORPUS)} pairs, before {str(until)[:10]}",
    }
    save_number_base(random, codec, POSITIONS, settings.seed, card)
    options = TrainingOptions(
        steps=settings.reading, batch_size=16, learning_rate=1e-3, warm_up=0.05, evaluate_every=100, patience=10**6
    )
    asked = RowTraining(str(random), "full", FullOptions(), rows[64:], rows[:64], 1, options, settings.seed)
    tuned = folder / f"reading-{sha[:12]}"
    state = folder / f"state-{sha[:12]}.safetensors"
    tune_rows(asked, tuned, codec, SPEC, state, _showing(board, "the small base reads"))
    for file in ("codec.json", "card.json"):
        shutil.copy(random / file, tuned / file)
    tuned.rename(ready)
    state.unlink(missing_ok=True)
    shutil.rmtree(random)
    return ready


def corpus(codec: TextCodec, until: np.datetime64, level: float, seed: int) -> np.ndarray:
    """Rows of tokens of closes before `until`, padded, int64 [N, L], in an order of their own."""
    rng, found = np.random.default_rng(seed), []
    for pair in CORPUS:
        bars = load_bars(f"ecb:{pair}")
        closes = bars.closes[bars.times < until]
        for row in np.lib.stride_tricks.sliding_window_view(closes, READ_CLOSES)[:: READ_CLOSES // 2]:
            scaled = row / row[0] * level * np.exp(rng.normal(0, 0.2))
            if scaled.max() < 10**codec.integer_digits:
                found.append(tokens_of(codec, scaled))
    if not found:
        raise ConfigError(f"no closes before {str(until)[:10]} for the small base to read; give --base gpt2")
    return padded([found[i] for i in rng.permutation(len(found))])


def learnt(
    part: str,
    method: str,
    rows: np.ndarray,
    name: str,
    base: Base,
    codec: TextCodec,
    settings: Settings,
    folder: Path,
    board: Board,
) -> tuple[Path, dict[str, Any]]:
    """Checkpoint folder of a method trained on the text of rows, and how it went; from disk where it is there.

    The articles look at no validation part: the loop, which wants one, is given training rows, so that it keeps the
    last weights unless they fit those worse than the first did.
    """
    tokens = blocks(codec, rows, published.BLOCK)
    options = TrainingOptions(
        steps=settings.steps or 1,
        epochs=0 if settings.steps else published.EPOCHS,
        batch_size=published.BATCH,
        learning_rate=published.RATE,
        warm_up=0.0,
        weight_decay=0.0,
        evaluate_every=10**6,
        patience=10**6,
    )
    told = [
        method,
        asdict(OPTIONS[method]),
        asdict(options),
        settings.seed,
        base.sha,
        codec.as_dict(),
        made_with(),
    ]
    sha = sha256_of(json.dumps(told, sort_keys=True), tokens)
    target = folder / f"{part}-{method}-{sha[:12]}"
    mark = target.with_suffix(".json")
    if not (mark.is_file() and target.is_dir()):
        asked = RowTraining(name, method, OPTIONS[method], tokens, tokens[:64], 1, options, settings.seed)
        state = folder / f"state-{sha[:12]}.safetensors"
        result, count = tune_rows(asked, target, codec, SPEC, state, _showing(board, f"{method}, {part} rows"))
        write_json(
            mark,
            {
                "rows": len(rows),
                "blocks": len(tokens),
                "steps": result.steps,
                "best_step": result.best_step,
                "trained_parameters": count,
                "first_loss": result.history[0]["validation_loss"],
                "last_loss": result.history[-1]["validation_loss"],
                "seconds": result.seconds,
            },
        )
        state.unlink(missing_ok=True)
    return target, read_json(mark)


def _showing(board: Board, what: str) -> Callable[[int, int], None]:
    return lambda step, steps: board.show(0, what, step, steps)


@functools.cache
def made_with() -> str:
    """Hash of the sources and the library versions that a trained model hangs on."""
    sources = [*ROOT.glob("forecasting/**/*.py"), ROOT / "tunetrade/article/dataset.py", Path(__file__)]
    return sha256_of(*sorted(sources), *(f"{name} {package_version(name)}" for name in NUMERIC))


Trainings = dict[tuple[str, str], tuple[Path, dict[str, Any]]]


def record(
    held: Dataset, settings: Settings, base: Base, codec: TextCodec, trainings: Trainings, board: Board
) -> dict[str, Any]:
    """All figures, from the trained models."""
    origins = held.origins[: settings.windows or None]
    windows = np.array([held.window(origin) for origin in (held.last, *origins)])
    sampling = SamplingOptions(paths=settings.paths, seed=settings.seed)
    found: dict[str, Any] = {}
    for number, ((part, method), (folder, cost)) in enumerate(trainings.items()):
        board.show(0, "forecasts", number, len(trainings))
        forecaster = load_checkpoint(folder, sampling)[0]
        started = time.perf_counter()
        seen = contexts(held.bars, SPEC, forecaster.warm_up, np.array([held.last, *origins]))
        paths = forecaster.predict(seen).paths
        assert paths is not None
        seconds = (time.perf_counter() - started) / len(windows)
        texts = [tokens_of(codec, window) for window in windows]
        given = np.array([len(tokens_of(codec, window[: published.PROMPT])) for window in windows])
        found.setdefault(part, {})[method] = {
            "training": cost,
            "generate_seconds": seconds,
            "single": single(windows[0], paths[0]),
            "windows": many(windows[1:], paths[1:]),
            "token_loss": row_loss(folder, padded(texts[1:]), given[1:]),
            "parse_chance": parse_chance(folder, texts[0], int(given[0])),
        }
    naive = np.array([last_price(window[: published.PROMPT], WRITTEN) for window in windows])[:, None, :]
    board.rest(0)
    return {
        "data": facts(held, codec, len(origins)),
        "base": {**base.card, "own": settings.base == OWN, "sha": base.sha},
        "settings": asdict(settings),
        "published": found["published"],
        "clean": found["clean"],
        "last_price": {"single": single(windows[0], naive[0]), "windows": many(windows[1:], naive[1:])},
        "best_shares": best_shares({name: found["published"][name]["single"]["draws"] for name in OPTIONS}),
        "made_by": made_by(),
        "threads": 1,
        "cores": os.cpu_count(),
    }


def facts(held: Dataset, codec: TextCodec, windows: int) -> dict[str, Any]:
    """The shape of the data set, and what 60 and 200 tokens hold of it."""
    per_close = len(tokens_of(codec, held.closes)) / len(held.closes)
    prompt = tokens_of(codec, held.window(held.last)[: published.PROMPT])
    instrument = held.bars.instrument
    return {
        "source": instrument.source,
        "sha": instrument.sha256,
        "timeframe": instrument.timeframe,
        "first": str(held.bars.times[0]),
        "last": str(held.bars.times[-1]),
        "closes": len(held.closes),
        "rows": len(held.rows),
        "trained_rows": len(held.published_rows),
        "clean_rows": len(held.clean_rows),
        "windows": windows,
        "tokens_per_close": per_close,
        "closes_in_a_block": published.BLOCK / per_close,
        "closes_written_at_most": (published.MOST_TOKENS - len(prompt)) / per_close,
    }


def single(window: np.ndarray, paths: np.ndarray) -> dict[str, Any]:
    """The articles' test of one window; paths [S, 21]: the first is the one draw they look at."""
    inputs, truth = window[: published.PROMPT], window[published.PROMPT + 1 :]
    return {
        "inputs": inputs,
        "truth": truth,
        "written": paths[0],
        "misaligned": asdict(misaligned(inputs, paths[0], truth)),
        "aligned": asdict(aligned(paths[0], truth)),
        "draws": [misaligned(inputs, path, truth).mse for path in paths],
        "aligned_draws": [aligned(path, truth).mse for path in paths],
    }


def many(windows: np.ndarray, paths: np.ndarray) -> dict[str, Any]:
    """The same over many windows [N, 60] with paths [N, S, 21]: one draw as in the articles, and the mean of all paths.

    `against_last` is the mean difference of the aligned MSE of the mean forecast from that of repeating the last
    price, `error` its standard error over windows, whose targets do not overlap.
    """
    rows: dict[str, list[float]] = {"misaligned": [], "aligned": [], "mean_aligned": [], "against_last": []}
    for window, drawn in zip(windows, paths, strict=True):
        inputs, truth = window[: published.PROMPT], window[published.PROMPT + 1 :]
        rows["misaligned"].append(misaligned(inputs, drawn[0], truth).mse)
        rows["aligned"].append(aligned(drawn[0], truth).mse)
        rows["mean_aligned"].append(aligned(drawn.mean(axis=0), truth).mse)
        rows["against_last"].append(rows["mean_aligned"][-1] - aligned(last_price(inputs, WRITTEN), truth).mse)
    differences = np.array(rows["against_last"])
    error = differences.std(ddof=1) / len(differences) ** 0.5 if len(differences) > 1 else float("nan")
    return {
        **{name: float(np.mean(values)) for name, values in rows.items()},
        "error": float(error),
        "count": len(windows),
    }


def best_shares(draws: dict[str, list[float]]) -> dict[str, float]:
    """How often each method has the least of its draws, all draws of one meeting all of the others; ties are shared."""
    names = list(draws)
    values = np.meshgrid(*(np.array(draws[name]) for name in names), indexing="ij")
    stacked = np.stack([grid.ravel() for grid in values])
    least = stacked == stacked.min(axis=0)
    shares = (least / least.sum(axis=0)).mean(axis=1)
    return dict(zip(names, shares.tolist(), strict=True))


__all__ = ["OPTIONS", "OWN", "Settings", "best_shares", "many", "run", "single"]
