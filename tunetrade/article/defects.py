"""What is wrong with the published comparison, each in a sentence a trader understands, with figures computed here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunetrade.article.dataset import shared_closes
from tunetrade.article.published import BLOCK, HELD_BACK, INPUTS, MOST_TOKENS, TABLE, WINDOW

METHODS = tuple(TABLE)


@dataclass(frozen=True)
class Defect:
    """A defect: its name, what it means to a trader, and the figures."""

    title: str
    meaning: str
    figures: str


def defects(record: Mapping[str, Any], compared: Mapping[str, Any], absurd: Mapping[str, float]) -> list[Defect]:
    """All of them; `record` of `experiment.run`, `compared` of `checks.side_by_side`, `absurd` of `absurd_price`."""
    return [
        _misaligned(record, compared),
        _no_yardstick(record, compared),
        _skipped(),
        _leak(record),
        _tokens(record),
        _one_window(record),
        _small(record),
        _range(absurd),
        _parse(record),
        _swapped(),
    ]


def _misaligned(record: Mapping[str, Any], compared: Mapping[str, Any]) -> Defect:
    echo = ", ".join(f"{name} {compared[name]['echo_share']:.0%}" for name in METHODS)
    grown = ", ".join(
        f"{name} {compared[name]['aligned']['mse'] / compared[name]['misaligned']['mse']:.2f}" for name in METHODS
    )
    here = record["last_price"]["windows"]
    return Defect(
        "Old prices are marked as forecasts",
        f"The first {len(INPUTS)} of the 40 prices called generated are the prices that the model was given, and they "
        "are compared with prices 20 bars later: nearly half of the score says nothing about the model.",
        f"Share of the printed squared error that comes from this echo: {echo}. Put beside the bars they forecast, the "
        f"errors of their own sequences are {grown} times as large. It does not flatter always, it measures another "
        f"thing: on {here['count']} windows here the last price scores {here['misaligned']:.3g} misaligned and "
        f"{here['aligned']:.3g} aligned.",
    )


def _no_yardstick(record: Mapping[str, Any], compared: Mapping[str, Any]) -> Defect:
    last = compared["last price"]["aligned"]["mse"]
    beaten = [name for name in METHODS if compared[name]["aligned"]["mse"] > last]
    here = record["last_price"]["windows"]["aligned"]
    worse = [name for name in METHODS if record["clean"][name]["windows"]["mean_aligned"] > here]
    return Defect(
        "Nothing is compared with doing nothing",
        "A forecast is worth something if it beats the guess that the price stays where it is; that line is missing.",
        f"On their own sequences, aligned, the last price has MSE {last:.4e} and beats {_listed(beaten)}. In the "
        f"repaired comparison here it has the lower error than {_listed(worse) if worse else 'none of the three'}.",
    )


def _skipped() -> Defect:
    return Defect(
        "A bar is lost between what is known and what is asked",
        "The models are given 19 closes, not the 20 that the text speaks of, and the truth begins with the 21st: the "
        "20th bar, the only one a trader could act on at once, is in neither list.",
        f"{len(INPUTS)} closes in the printed prompt; the first written close stands for a bar that is never judged.",
    )


def _leak(record: Mapping[str, Any]) -> Defect:
    data = record["data"]
    shared = shared_closes(data["rows"], WINDOW, HELD_BACK)
    losses = ", ".join(
        f"{name} {record['published'][name]['token_loss']:.4f} with them, {record['clean'][name]['token_loss']:.4f} "
        f"without"
        for name in METHODS
    )
    return Defect(
        "The answers are in the lesson",
        "Windows one bar apart are nearly the same window, so leaving out the last ten rows leaves most of the test's "
        "prices in the training text: it is an exam on questions that were handed out with the answers.",
        f"{shared} of the {WINDOW} closes of the test row are in training rows too. Nats per token here on "
        f"{data['windows']} windows, trained on rows that hold those very prices and on rows that end before: "
        f"{losses}.",
    )


def _tokens(record: Mapping[str, Any]) -> Defect:
    data = record["data"]
    return Defect(
        "Lengths are counted in pieces of text, not in bars",
        f"A block of {BLOCK} tokens is not {BLOCK} prices, and {MOST_TOKENS} tokens do not reach 40 bars ahead: the "
        "models were trained on a dozen bars at a time and could not write what the chart shows them to.",
        f"With the tokenizer used here a close takes {data['tokens_per_close']:.2f} tokens: {BLOCK} tokens hold "
        f"{data['closes_in_a_block']:.1f} closes, and {MOST_TOKENS} leave room for "
        f"{data['closes_written_at_most']:.1f} new ones after the prompt. The articles' models wrote 21.",
    )


def _one_window(record: Mapping[str, Any]) -> Defect:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in record["best_shares"].items())
    return Defect(
        "One throw of the dice decides the ranking",
        "The models draw their prices at random, once, from one window: throw again and another method wins.",
        f"The articles' test repeated with {record['settings']['paths']} draws of each model here, each method is the "
        f"best of the three in: {shares} of all combinations.",
    )


def _small(record: Mapping[str, Any]) -> Defect:
    rows = record["clean"]
    told = ", ".join(
        f"{name} {row['windows']['against_last']:+.3g} ± {row['windows']['error']:.2g}" for name, row in rows.items()
    )
    count = record["data"]["windows"]
    return Defect(
        "The test is a single event",
        "Forty prices in a row are not forty tests: if the market turns once, all of them are wrong together. Nobody "
        "would trust a strategy with one trade.",
        f"Over {count} windows that do not overlap, the MSE of the mean forecast less that of the last price, with one "
        f"standard error: {told}. A difference of less than two standard errors is not shown to be more than chance.",
    )


def _range(absurd: Mapping[str, float]) -> Defect:
    return Defect(
        "The normalised error rewards nonsense",
        "NRMSE divides by the highest true price less the lowest generated one, so a model that writes one absurdly "
        "low price divides its error by more and looks better for it.",
        f"One price of the adapter's list replaced by 0.60: RMSE grows from {absurd['rmse_before']:.3g} to "
        f"{absurd['rmse_after']:.3g}, NRMSE falls from {absurd['nrmse_before']:.3f} to {absurd['nrmse_after']:.3f}.",
    )


def _parse(record: Mapping[str, Any]) -> Defect:
    chances = ", ".join(f"{name} {record['published'][name]['parse_chance']:.3g}" for name in METHODS)
    return Defect(
        "One stray character stops the program",
        "What the model writes is read with float(); as soon as it writes anything but a price, there is no forecast.",
        f"Chance that free sampling writes prices all through the 41 closes of the test row here: {chances}. (The "
        "forecasts of this page are written under a grammar and cannot fail.)",
    )


def _swapped() -> Defect:
    times = ", ".join(f"{name} {row.generate_seconds} s" for name, row in TABLE.items())
    return Defect(
        "The chart and the table disagree",
        "The bars of inference time of full fine-tuning and LoRA are swapped in the published chart, so the reader "
        "takes the slower for the faster.",
        f"Printed in the table: {times}. The chart itself is a picture, nothing here recomputes it.",
    )


def _listed(names: list[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)
