"""Two runs or two studies: figures against plain loops, verdicts only where there is one, refusals that say why."""

import doctest
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import edit_json, write_study
from test_report import checked

from forecasting.errors import UserError
from forecasting.files import read_json
from tunetrade import compare_table
from tunetrade.cli import main
from tunetrade.compare import compare

METHODS = ("lora", "full", "random-walk", "ewma-t", "buy-and-hold")
DOCUMENT = Path(__file__).parents[2] / "docs" / "REPORT.md"


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    return write_study(tmp_path_factory.mktemp("one"), ("EURUSD-D1",), METHODS, (1,), 200, 3)


@pytest.fixture
def other(one, tmp_path) -> Path:
    """A copy of the study that a test may change."""
    return shutil.copytree(one, tmp_path / "other" / "demo")


def change(cell: Path, name: str, how) -> None:
    table = pd.read_parquet(cell / f"{name}.parquet")
    how(table).to_parquet(cell / f"{name}.parquet", index=False)


def test_errors_and_money_against_plain_loops(one):
    folders = one / "EURUSD-D1/lora/1", one / "EURUSD-D1/full/1"
    (pair,) = compare(*folders)["pairs"]
    losses = []
    for folder in folders:
        table = pd.read_parquet(folder / "forecasts.parquet").sort_values(["cutoff", "h"])
        whole = table.groupby("cutoff")["y"].transform(lambda y: y.notna().all())
        losses.append(table[whole])
    a, b = losses
    found = pair["errors"]["measures"]
    assert found["crps"]["ratio"]["value"] == pytest.approx(b["crps"].mean() / a["crps"].mean(), rel=1e-6)
    squared = [((each["y"] - each["mean"]) ** 2).mean() for each in losses]
    assert (found["mse"]["a"], found["mse"]["b"]) == pytest.approx(squared, rel=1e-6)
    assert found["mse"]["test"]["difference"] == pytest.approx(squared[1] - squared[0], rel=1e-5)
    at2 = [((each["y"] - each["mean"]) ** 2)[each["h"] == 2].mean() for each in losses]
    assert found["mse"]["by_step"]["2"]["ratio"]["value"] == pytest.approx(at2[1] / at2[0], rel=1e-6)
    assert pair["errors"]["origins"] == a["cutoff"].nunique()
    curves = [pd.read_parquet(folder / "equity.parquet")["equity"].to_numpy() for folder in folders]
    gains = [(curve[-1] - curve[0]) / 10_000 for curve in curves]
    assert pair["money"]["difference"]["value"] == pytest.approx(gains[1] - gains[0], rel=1e-5)
    assert pair["cost"]["trained_parameters"] == {"a": 16_384, "b": 860_160, "ratio": 52.5}


def test_when_a_run_is_compared_with_itself_then_nothing_differs(one):
    record = compare(one, one)
    assert record["configuration"] == record["program"] == record["only_a"] == record["only_b"] == []
    for pair in record["pairs"]:
        assert pair["data"]["same"]
        for block in pair["errors"].get("measures", {}).values():
            assert block["test"]["difference"] == 0 and block["test"]["better"] is None
            assert block["ratio"]["value"] in (1, None)
        assert pair["money"]["difference"]["value"] == 0 and pair["money"]["difference"]["better"] is None


def test_when_b_is_better_beyond_doubt_then_b_is_named_and_the_other_way_round(one, other):
    def better(table):
        noise = np.random.default_rng(0).uniform(0.7, 0.9, len(table))
        return table.assign(crps=table["crps"] * noise)

    change(other / "EURUSD-D1/lora/1", "forecasts", better)
    found = {pair["method_a"]: pair for pair in compare(one, other)["pairs"]}
    assert found["lora"]["errors"]["measures"]["crps"]["test"]["better"] == "B"
    assert found["full"]["errors"]["measures"]["crps"]["test"]["better"] is None
    assert found["lora"]["errors"]["measures"]["mse"]["test"]["better"] is None
    back = {pair["method_a"]: pair for pair in compare(other, one)["pairs"]}
    assert back["lora"]["errors"]["measures"]["crps"]["test"]["better"] == "A"
    assert back["lora"]["errors"]["measures"]["crps"]["test"]["p_holm"] >= back["lora"]["errors"]["measures"]["crps"][
        "test"]["p_value"]  # fmt: skip


def test_only_shared_origins_and_days_count(one, other):
    change(
        other / "EURUSD-D1/lora/1", "forecasts", lambda table: table[table["cutoff"] >= table["cutoff"].unique()[50]]
    )
    change(other / "EURUSD-D1/lora/1", "equity", lambda table: table.iloc[50:])
    edit_json(other / "EURUSD-D1/lora/1/forecast.json", lambda found: found.update(origins=150))
    (pair,) = compare(one / "EURUSD-D1/lora/1", other / "EURUSD-D1/lora/1")["pairs"]
    assert (pair["errors"]["origins_a"], pair["errors"]["origins_b"]) == (200, 150)
    assert pair["errors"]["origins"] == 150
    assert pair["errors"]["measures"]["crps"]["ratio"]["value"] == 1
    assert pair["money"]["difference"]["value"] == pytest.approx(0, abs=1e-12)


def test_a_folder_compared_with_itself_is_said_to_be_the_same(one, other):
    run = one / "EURUSD-D1/full/1"
    assert compare_table.SAME in compare_table.sentences(compare(run, run.parent / "../full/1"))
    assert compare_table.SAME not in compare_table.sentences(compare(run, other / "EURUSD-D1/full/1"))


def test_settings_and_data_that_differ_are_listed(one, other):
    edit_json(other / "EURUSD-D1/full/1/run.json", lambda run: run["config"]["train"].update(steps=400))
    edit_json(other / "EURUSD-D1/full/1/run.json", lambda run: (run.update(data_sha="ab" * 32), run["versions"].update(
        torch="9.9")))  # fmt: skip
    record = compare(one / "EURUSD-D1/full/1", other / "EURUSD-D1/full/1")
    assert record["configuration"] == [{"key": "train.steps", "a": "200", "b": "400"}]
    assert record["program"] == [{"key": "torch", "a": "2.13.0", "b": "9.9"}]
    assert not record["pairs"][0]["data"]["same"]


def test_when_the_closes_to_forecast_differ_then_errors_are_not_compared_but_money_is(one, other):
    change(other / "EURUSD-D1/lora/1", "forecasts", lambda table: table.assign(y=table["y"] * 1.0001))
    (pair,) = compare(one / "EURUSD-D1/lora/1", other / "EURUSD-D1/lora/1")["pairs"]
    assert "closes to forecast differ, first at origin 2021-01-0" in pair["errors"]["reason"]
    assert "difference" in pair["money"]


def test_what_cannot_be_compared_is_refused_with_its_names(one, other, tmp_path):
    run = one / "EURUSD-D1/lora/1"
    with pytest.raises(UserError, match=r"is a run and .* a study"):
        compare(run, one)
    with pytest.raises(UserError, match="no such folder"):
        compare(run, tmp_path / "nowhere")
    moved = other / "EURUSD-D1/lora/1"
    edit_json(moved / "run.json", lambda found: found.update(unique_id="GBPUSD-D1"))
    with pytest.raises(UserError, match=r"EURUSD-D1 and .* of GBPUSD-D1; compare runs of one series"):
        compare(run, moved)
    edit_json(moved / "run.json", lambda found: found.update(unique_id="EURUSD-D1", status="failed", failure="NaN"))
    with pytest.raises(UserError, match=r"did not finish \(NaN\)"):
        compare(run, moved)
    edit_json(moved / "run.json", lambda found: found.update(status="done"))
    later = pd.Timedelta(days=4000)
    change(moved, "forecasts", lambda table: table.assign(cutoff=table["cutoff"] + later, ds=table["ds"] + later))
    change(moved, "equity", lambda table: table.assign(time=table["time"] + later))
    with pytest.raises(UserError, match=r"cannot be compared.*share no origin: A's are 2021.*no day of trading"):
        compare(run, moved)
    for cell in other.glob("*/*/*/run.json"):
        edit_json(cell, lambda found: found.update(unique_id="GBPUSD-D1"))
    with pytest.raises(UserError, match="in common; compare studies that share a series and a method"):
        compare(one, other)


def test_examples_in_docstrings():
    assert doctest.testmod(compare_table).failed == 0 < doctest.testmod(compare_table).attempted


def test_what_only_one_study_has_is_named(one, other):
    shutil.rmtree(other / "EURUSD-D1/full")
    record = compare(one, other)
    assert record["only_a"] == ["EURUSD-D1 full"] and record["only_b"] == []


def keys_of(value) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for each in value.values() for key in keys_of(each)}
    return {key for each in value for key in keys_of(each)} if isinstance(value, list) else set()


def test_the_verb_prints_writes_and_documents_all_it_writes(one, tmp_path, capsys):
    a, b = (str(one / "EURUSD-D1" / method / "1") for method in ("lora", "full"))
    assert main(["compare", a, b, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert (
        "EURUSD-D1 lora / full" in printed and "no difference is shown" in printed and "method: lora / full" in printed
    )
    assert main(["compare", a, b, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == read_json(tmp_path / "out" / "compare.json")
    text = DOCUMENT.read_text()
    steps = {str(step) for step in range(1, 4)}
    missing = {key for key in keys_of(record) - steps if f"`{key}`" not in text and f"`{key}," not in text
               and f" {key}," not in text and f" {key}`" not in text}  # fmt: skip
    assert missing == set()
    page = checked(tmp_path / "out" / "compare.html")
    assert len(page.ids) == len(set(page.ids)) and page.labels
    again = tmp_path / "again"
    assert main(["compare", a, b, "--out", str(again)]) == 0
    assert (again / "compare.html").read_bytes() == (tmp_path / "out" / "compare.html").read_bytes()


def test_when_they_cannot_be_compared_then_the_verb_says_so_in_one_line(one, capsys):
    assert main(["compare", str(one), str(one / "EURUSD-D1/lora/1")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tunetrade: error: ") and error.count("\n") == 1
