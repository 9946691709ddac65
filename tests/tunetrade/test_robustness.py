"""Prices gone wrong are made as stated; each expectation is missed by a forecaster or an account that is at fault."""

import contextlib
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtri

from forecasting.bars import Bars
from forecasting.forecaster import Prediction
from forecasting.forecasts import QUANTILE_LEVELS, Forecasts
from forecasting.windows import Contexts
from tunetrade.cli import main
from tunetrade.config import StudyConfig, study_from
from tunetrade.report import write_report
from tunetrade.robustness import cases, scenes
from tunetrade.robustness.cases import CASES, Patient
from tunetrade.robustness.expectations import losses_bounded, stops_hold
from tunetrade.robustness.scenes import Scene

SMALL = {"name": "small", "series": ["ecb:EURUSD"], "windows": {"context": 12, "horizon": 3}}


@dataclass(frozen=True)
class Walk:
    """A random walk of normal moves, sigma that of the last 30 closes; `fault` says what is wrong with it."""

    fault: str = ""
    sha: str = "walk"
    warm_up: int = 60

    def predict(self, asked: Contexts, progress: Any = None) -> Prediction:
        count, horizon = asked.ahead.shape
        anchor = asked.closes[:, -1].copy()
        returns = np.diff(asked.closes, axis=1) / asked.closes[:, :-1]
        weight = 0.5 ** (np.arange(returns.shape[1])[::-1] / 10)
        sigma = np.sqrt((returns**2 * weight).sum(axis=1) / weight.sum()) + 1e-7
        if self.fault == "stale":
            sigma = np.full(count, 0.004)
        steps = np.sqrt(np.arange(1, horizon + 1))
        mean = np.repeat(anchor[:, None], horizon, axis=1)
        if self.fault == "remembers":
            mean = mean + 0.5 * (1.1 - mean)
        width = anchor[:, None] * sigma[:, None] * steps * (0.3 if self.fault == "bold" else 1.0)
        quantiles = mean[:, None, :] + ndtri(np.array(QUANTILE_LEVELS))[None, :, None] * width[:, None, :]
        if self.fault == "broken":
            mean = np.where(np.abs(returns[:, -1:]) > 0.05, np.nan, mean)
        if self.fault == "eager":
            mean = mean * (1 + 1e-4 * np.arange(1, horizon + 1))
        flat = np.zeros((count, horizon))
        made = Forecasts(
            asked.unique_id, asked.cutoffs, asked.ahead, anchor, sigma, mean, flat, quantiles, flat + 0.5, flat,
            asked.hashes(),
        )  # fmt: skip
        return Prediction(made, lambda y: y, lambda y: y, None)


def patient(bars: Bars, fault: str = "", **study: Any) -> Patient:
    config: StudyConfig = study_from({**SMALL, **study})
    last = int(np.searchsorted(bars.times, np.datetime64("2018-06-01")))
    last = last if last < len(bars) - 1 else len(bars) - 100
    return Patient(Walk(fault), config, Scene(bars, last - 39, last))


def missed(bars: Bars, name: str, fault: str = "", **study: Any) -> set[str]:
    return {one.name for one in CASES[name](patient(bars, fault, **study)) if not one.met}


@pytest.mark.parametrize("name", CASES)
def test_a_plain_random_walk_passes_every_case_on_fixings_and_on_hourly_bars(
    eurusd: Bars, hourly: Bars, name: str
) -> None:
    assert missed(eurusd, name) == set()
    assert missed(hourly, name, broker={"spread_points": "data", "slippage_points": 1.0}) == set()


@pytest.mark.parametrize(
    ("name", "fault", "expected"),
    [
        ("calm", "bold", "coverage of the 90 % band"),
        ("flash-crash", "broken", "goes through or sane"),
        ("peg-break", "stale", "sigma follows the break"),
        ("dead-feed", "stale", "no width where nothing moves"),
        ("dead-feed", "eager", "nothing is traded on it"),
        ("doubled-scale", "remembers", "same in another unit"),
        ("doubled-scale", "remembers", "modest means"),
        ("swapped-pair", "remembers", "modest means"),
        ("wrong-timeframe", "stale", "coverage of the 90 % band"),
        ("spread-explosion", "eager", "no entry the spread eats"),
    ],
)
def test_each_expectation_is_missed_by_what_is_at_fault(eurusd: Bars, name: str, fault: str, expected: str) -> None:
    if fault == "broken":
        scene = scenes.flash_crash(patient(eurusd).scene)
        found = patient(eurusd, fault).forecasts(scene)
        assert not cases.sane(found).met
        return
    assert expected in missed(eurusd, name, fault)


def test_scenes_are_what_they_say(hourly: Bars) -> None:
    scene = Scene(hourly, 400, 440)
    close = hourly.closes
    crash = scenes.flash_crash(scene).bars.frame
    assert crash["close"].iloc[400] == pytest.approx(close[400] * 0.94)
    assert crash["open"].iloc[401] == crash["close"].iloc[400]
    assert np.array_equal(np.delete(crash["close"].to_numpy(), 400), np.delete(close, 400))
    peg = scenes.peg_break(scene).bars.frame["close"].to_numpy()
    moves, own = np.diff(peg) / peg[:-1], np.diff(close) / close[:-1]
    assert moves[399] == pytest.approx(-0.18)
    assert moves[:399] == pytest.approx(0.05 * own[:399])
    assert moves[400:] == pytest.approx(3 * own[400:])
    double = scenes.doubled_scale(scene).bars.frame["high"].to_numpy() / hourly.frame["high"].to_numpy()
    assert double.tolist() == [1.0] * 400 + [2.0] * (len(close) - 400)
    swapped = scenes.swapped_pair(scene).bars.frame
    assert swapped["high"].to_numpy() == pytest.approx(1 / hourly.frame["low"].to_numpy())
    longer = scenes.longer_bars(scene)
    assert longer.bars.closes[-3:] == pytest.approx(close[[-9, -5, -1]])
    assert longer.bars.frame["high"].iloc[-1] == hourly.frame["high"].iloc[-4:].max()
    assert len(set(scenes.dead_feed(scene).bars.closes)) == 1
    for name in ("flash_crash", "peg_break", "swapped_pair", "longer_bars"):
        frame = getattr(scenes, name)(scene).bars.frame
        assert (frame["high"] >= frame[["open", "close"]].max(axis=1) - 1e-15).all(), name
        assert (frame["low"] <= frame[["open", "close"]].min(axis=1) + 1e-15).all(), name


def test_a_stop_beyond_its_level_and_a_loss_beyond_the_move_are_seen(hourly: Bars) -> None:
    sick = patient(hourly, "eager", trading={"stop": "points:30"}, broker={"spread_points": 10.0})
    scene = scenes.peg_break(sick.scene)
    done = sick.traded(scene, sick.forecasts(scene))
    trades, equity = done.result.trades, done.result.equity
    assert stops_hold(trades, done.market, done.plan).met
    assert losses_bounded(equity, trades, done.market, 1e4).met
    at = int(np.flatnonzero(trades["exit_reason"] == "stop loss")[0])
    worse = trades.copy()
    worse.loc[at, "exit_price"] -= 1e-5 * worse.loc[at, "direction"]
    assert not stops_hold(worse, done.market, done.plan).met
    lost = equity.assign(equity=equity["equity"] - np.where(np.arange(len(equity)) > 20, 100.0, 0.0))
    flat = lost.assign(position=0.0)
    assert not losses_bounded(flat, trades.iloc[:0], done.market, 1e4).met


def test_a_file_of_longer_bars_is_refused_for_its_distances(hourly: Bars) -> None:
    assert "says H1, but most bars are 240 minutes apart" in (cases.loaded(hourly) or "")


def test_the_verb_gives_a_rate_a_method_and_writes_it_into_the_study(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = main(["robustness", "runs/small", "--json"])
    found = json.loads(said.getvalue())
    assert found == json.loads(Path("runs/small/robustness.json").read_text(encoding="utf-8"))
    assert list(found["methods"]) == ["full"]
    assert set(found["not_examined"]) == {"EURUSD-D1/adapter/1"}
    (run,) = found["runs"]
    made = [case["passed"] for case in run["cases"] if case["passed"] is not None]
    assert found["methods"]["full"]["pass_rate"] == sum(made) / len(made)
    assert status == int(not all(made))
    assert {case["name"] for case in run["cases"]} == set(CASES)
    assert "full" in Path("runs/small/robustness.txt").read_text(encoding="utf-8")
    page = write_report(Path("runs/small"), tmp_path / "report").read_text(encoding="utf-8")
    assert f"{sum(made)} of {len(made)}</td>" in page.split("Robustness cases passed, by method")[2]
    assert "Robustness cases, EURUSD-D1, seed 1" in page.split('id="method-full"')[1]
