"""The report as files: what is in them, that they do not change, and that nothing in the input can break them."""

import base64
import csv
import gzip
import json
import math
import re
import shutil
import statistics
import subprocess
import sys
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pandas as pd
import pytest
from synthetic import FAILED, FAILURE, KINDS, edit_json, write_study

from forecasting.errors import UserError
from forecasting.files import read_json, write_text
from tunetrade.report import write_report

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Checker(HTMLParser):
    """Every tag is closed in order, identifiers are unique, and nothing points outside the page."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.links, self.tags, self.text, self.labels = [], [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("href", "src", "xlink:href", "srcset", "action") if values.get(name)]
        self.labels += [values["aria-label"]] if values.get("role") == "img" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        self.text.append(data)


def checked(page: Path) -> Checker:
    checker = Checker()
    checker.feed(page.read_text())
    assert not checker.open
    return checker


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def close(text: str, value: float) -> bool:
    return math.isclose(float(text), value, rel_tol=1e-12)


def test_when_written_then_every_file_is_there(report):
    names = {str(path.relative_to(report)) for path in report.rglob("*") if path.is_file()}
    plots = {
        f"plots/{series}_{topic}.png"
        for series in ("EURUSD-D1", "NZDUSD-D1")
        for topic in ("closes", "effort", "equity", "steps", "training", "calibration", "money")
    } | {"plots/skill.png"}
    kinds = ("leaderboard", "steps", "errors_by_step", "calibration", "months", "trades", "error_and_money")
    tables = {f"tables/{name}.csv" for name in ("leaderboard_overall", "cells", "verdicts", "skill", "money")} | {
        f"tables/{kind}_{series}.csv" for kind in kinds for series in ("EURUSD-D1", "NZDUSD-D1")
    }
    assert names == plots | tables | {"index.html", "report.md"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (report / "plots").iterdir())


def test_when_written_twice_then_same_bytes(study_folder, report, tmp_path):
    write_report(study_folder, tmp_path)
    for path in report.rglob("*"):
        if path.is_file():
            assert (tmp_path / path.relative_to(report)).read_bytes() == path.read_bytes(), path.name


def test_when_run_folders_move_then_same_bytes(study_folder, report, tmp_path):
    shutil.copytree(study_folder, tmp_path / "elsewhere")
    page = write_report(tmp_path / "elsewhere", tmp_path / "out")
    assert page.read_bytes() == (report / "index.html").read_bytes()


def test_when_user_has_own_matplotlib_settings_then_same_bytes(study_folder, report, tmp_path):
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 20, "savefig.bbox": "tight"}):
        page = write_report(study_folder, tmp_path)
    assert page.read_bytes() == (report / "index.html").read_bytes()


@pytest.mark.parametrize("series", ["EURUSD-D1", "NZDUSD-D1"])
def test_leaderboard_figures_against_a_plain_loop(study_folder, report, series):
    rows = {row["method"]: row for row in table(report / "tables" / f"leaderboard_{series}.csv")}
    assert set(rows) == set(KINDS)
    walk = read_json(study_folder / series / "random-walk" / "0" / "forecast.json")["metrics"]["overall"]["mse"]
    ewma = read_json(study_folder / series / "ewma-t" / "0" / "forecast.json")["metrics"]["overall"]["crps"]
    for method, row in rows.items():
        gathered: dict[str, list[float]] = {}
        for folder in sorted((study_folder / series / method).iterdir()):
            if read_json(folder / "run.json")["status"] != "done":
                continue
            found = {}
            if (folder / "forecast.json").exists():
                forecast = read_json(folder / "forecast.json")
                found |= forecast["metrics"]["overall"]
                found |= {"mse_ratio": found["mse"] / walk, "crps_ratio": found["crps"] / ewma}
                found |= {"forecast_seconds": forecast["seconds"], "latency_p50_ms": forecast["latency_p50_ms"]}
                found |= {name: forecast[name] for name in ("latency_p99_ms", "paths_per_second")}
            if (folder / "train.json").exists():
                train = read_json(folder / "train.json")
                found |= {"train_seconds": train["seconds"], "trained_parameters": train["trained_parameters"]}
                found |= {"stored_bytes": train["stored_bytes"], "peak_memory_bytes": train["peak_memory_bytes"]}
            found |= read_json(folder / "backtest.json")["figures"]
            for key, value in found.items():
                if value is not None:
                    gathered.setdefault(key, []).append(value)
        assert row["kind"] == KINDS[method]
        for key in [name for name in row if f"{name}_sd" in row]:
            values = gathered.get(key, [])
            assert (row[key] == "") == (not values), (method, key)
            assert not values or close(row[key], sum(values) / len(values)), (method, key)
            assert (row[f"{key}_sd"] == "") == (len(values) < 2)
            assert len(values) < 2 or math.isclose(
                float(row[f"{key}_sd"]), statistics.stdev(values), rel_tol=1e-9, abs_tol=1e-15
            )


def test_overall_figures_against_a_plain_loop(report):
    parts = [
        {row["method"]: row for row in table(report / "tables" / f"leaderboard_{series}.csv")}
        for series in ("EURUSD-D1", "NZDUSD-D1")
    ]
    overall = table(report / "tables" / "leaderboard_overall.csv")
    for row in overall:
        first, second = (part[row["method"]] for part in parts)
        assert close(row["net_profit"], float(first["net_profit"]) + float(second["net_profit"]))
        assert close(row["total_return"], (float(first["total_return"]) + float(second["total_return"])) / 2)
        assert close(row["max_drawdown"], max(float(first["max_drawdown"]), float(second["max_drawdown"])))
        assert row["mse"] == row["rmse"] == row["crps"] == ""
        if KINDS[row["method"]] != "benchmark":
            assert close(row["mse_ratio"], math.sqrt(float(first["mse_ratio"]) * float(second["mse_ratio"])))
    ratios = [float(row["crps_ratio"]) for row in overall if row["crps_ratio"]]
    assert ratios == sorted(ratios)
    assert [row["crps_ratio"] == "" for row in overall] == [False] * len(ratios) + [True] * (len(overall) - len(ratios))


def test_steps_against_a_plain_loop(study_folder, report):
    for row in table(report / "tables" / "steps_EURUSD-D1.csv"):
        values = [
            read_json(path)["metrics"]["by_step"][row["h"]]["crps"]
            for path in sorted((study_folder / "EURUSD-D1" / row["method"]).glob("*/forecast.json"))
        ]
        ewma = read_json(study_folder / "EURUSD-D1" / "ewma-t" / "0" / "forecast.json")["metrics"]["by_step"][row["h"]]
        assert close(row["crps_ratio"], sum(values) / len(values) / ewma["crps"])


def test_page_is_well_formed_and_self_contained(report):
    page = checked(report / "index.html")
    assert len(page.ids) == len(set(page.ids))
    anchors = {link[1:] for link in page.links if link.startswith("#")}
    files = {link for link in page.links if not link.startswith("#")}
    assert anchors and anchors <= set(page.ids)
    assert files and all((report / link).is_file() for link in files)
    text = (report / "index.html").read_text()
    ours = re.sub(r'<script type="text/plain" id="plotly">.*?</script>', "", text, flags=re.DOTALL)
    assert not re.search(r"https?:|[\"'=]//[a-z]|@import|url\((?!#)|<img|<link|\bfetch\(|import\(", ours)
    assert len(page.labels) == text.count("data-chart=") and all(page.labels)
    assert (report / "index.html").stat().st_size < 8_000_000


def test_every_chart_of_the_page_has_its_data_and_none_is_left_over(report):
    text = (report / "index.html").read_text()
    store = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert set(store["charts"]) == set(re.findall(r'data-chart="([^"]*)"', text))
    used = set(re.findall(r'"\$([^"]*)"', json.dumps(store["charts"])))
    assert used == set(store["arrays"])
    for chart in store["charts"].values():
        for trace in chart["d"]:
            x, y = (
                store["arrays"][trace[key][1:]] if isinstance(trace[key], str) else trace[key] for key in ("x", "y")
            )
            assert trace["type"] == "heatmap" or len(x) == len(y) > 0


def test_plotly_is_inside_the_page_byte_for_byte(report):
    text = (report / "index.html").read_text()
    packed = re.search(r'id="plotly">(.*?)</script>', text, re.DOTALL)[1]
    installed = resources.files("plotly").joinpath("package_data/plotly.min.js").read_bytes()
    assert gzip.decompress(base64.b64decode(packed)) == installed


def test_page_knows_both_themes_and_every_method(report):
    text = (report / "index.html").read_text()
    assert text.count("prefers-color-scheme:dark") >= 2
    words = " ".join(checked(report / "index.html").text)
    assert all(method in words for method in KINDS)
    assert "Source: ECB statistics" in words and "2014-12-31" in words and "d9413a60" in words


def test_when_a_cell_failed_then_its_message_is_a_row_everywhere(report):
    series, method, seed = FAILED
    assert FAILURE in "".join(checked(report / "index.html").text)
    assert "&lt;1e-4&gt;" in (report / "index.html").read_text()
    assert f"{method} did not finish, seed {seed} failed" in (report / "report.md").read_text().replace("\\", "")
    rows = [row for row in table(report / "tables" / "cells.csv") if row["status"] == "failed"]
    assert [(row["series"], row["method"], row["seed"], row["failure"]) for row in rows] == [
        (series, method, str(seed), FAILURE)
    ]


def test_when_all_seeds_of_a_method_failed_then_the_rest_is_reported(tmp_path):
    study = write_study(tmp_path, series=("NZDUSD-D1",), methods=("lora", "adapter", "random-walk"), seeds=(1,))
    out = write_report(study, tmp_path / "out").parent
    rows = {row["method"]: row for row in table(out / "tables" / "leaderboard_NZDUSD-D1.csv")}
    assert rows["adapter"]["net_profit"] == "" and FAILURE in rows["adapter"]["failures"] and rows["lora"]["mse"]
    checked(out / "index.html")


@pytest.mark.parametrize(
    "missing", ["train.json", "forecast.json", "forecasts.parquet", "backtest.json", "equity.parquet"]
)
def test_when_a_file_is_missing_everywhere_then_a_report_all_the_same(tmp_path, missing):
    study = write_study(tmp_path, series=("EURUSD-D1",), seeds=(0,), origins=30)
    for path in study.rglob(missing):
        path.unlink()
    checked(write_report(study, tmp_path / "out"))


def test_when_only_run_json_remains_then_a_report_of_nothing(tmp_path):
    study = write_study(tmp_path, series=("EURUSD-D1",), seeds=(0,), origins=30)
    for path in [path for path in study.rglob("*") if path.is_file() and path.name != "run.json"]:
        path.unlink()
    page = checked(write_report(study, tmp_path / "out"))
    assert not page.labels and "No figures." in " ".join(page.text)


def test_when_json_is_damaged_then_the_cell_is_a_failed_row(tmp_path):
    study = write_study(tmp_path, series=("EURUSD-D1",), seeds=(0,), origins=30)
    write_text(study / "EURUSD-D1" / "lora" / "0" / "backtest.json", "{")
    out = write_report(study, tmp_path / "out").parent
    rows = {row["method"]: row for row in table(out / "tables" / "leaderboard_EURUSD-D1.csv")}
    assert "backtest.json cannot be read" in rows["lora"]["failures"]


def test_when_a_table_is_damaged_then_the_error_names_it_and_the_cure(tmp_path):
    study = write_study(tmp_path, series=("EURUSD-D1",), seeds=(0,), origins=30)
    path = study / "EURUSD-D1" / "lora" / "0" / "equity.parquet"
    write_text(path, "not parquet")
    with pytest.raises(UserError, match=r"equity\.parquet: cannot be read .*run the study again"):
        write_report(study, tmp_path / "out")


@pytest.mark.parametrize("make", [False, True])
def test_when_the_study_is_empty_or_absent_then_the_error_says_what_to_run(tmp_path, make):
    folder = tmp_path / "nothing"
    if make:
        folder.mkdir()
    with pytest.raises(UserError, match="tunetrade study"):
        write_report(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_when_names_are_hostile_then_they_stay_text(tmp_path):
    study = write_study(
        tmp_path, series=("EURUSD-D1",), methods=("lora", "random-walk", "ewma-t"), seeds=(0,), origins=30
    )
    name = '<script>alert("$x$")</script>|`&'
    edit_json(study / "EURUSD-D1" / "lora" / "0" / "run.json", lambda run: run.update(method=name, unique_id=name))
    edit_json(study / "EURUSD-D1" / "ewma-t" / "0" / "run.json", lambda run: run.update(method="_=cmd()", study=name))
    for method in ("lora", "random-walk"):
        edit_json(study / "EURUSD-D1" / method / "0" / "run.json", lambda run: run.update(study=name))
    out = write_report(study, tmp_path / "out").parent
    page = checked(out / "index.html")
    assert page.tags.count("script") == 3 and name in "".join(page.text)
    assert not re.search(r"(?<!\\)<", (out / "report.md").read_text())
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", path.name) for path in out.rglob("*"))


def test_when_a_message_looks_like_a_formula_then_a_spreadsheet_will_not_run_it(tmp_path):
    study = write_study(tmp_path, series=("EURUSD-D1",), methods=("lora",), seeds=(0,), origins=30)
    edit_json(
        study / "EURUSD-D1" / "lora" / "0" / "run.json",
        lambda run: run.update(status="failed", failure="=cmd|' /C calc'!A0"),
    )
    out = write_report(study, tmp_path / "out").parent
    assert table(out / "tables" / "cells.csv")[0]["failure"].startswith("'=")


def test_when_a_series_has_one_step_and_few_origins_then_a_report_all_the_same(tmp_path):
    study = write_study(tmp_path, series=("EURUSD-D1",), seeds=(0,), origins=2, horizon=1)
    checked(write_report(study, tmp_path / "out"))


def test_when_there_are_many_methods_then_labels_and_colours_still_differ(tmp_path):
    names = (*(f"method-{index}" for index in range(16)), "random-walk", "ewma-t")
    study = write_study(tmp_path, series=("EURUSD-D1",), methods=names, seeds=(0,), origins=30)
    page = checked(write_report(study, tmp_path / "out"))
    assert all(name in " ".join(page.text) for name in names)


def test_one_leftover_of_a_killed_run_is_not_a_cell(study_folder, report, tmp_path):
    shutil.copytree(study_folder, tmp_path / "demo")
    shutil.copytree(study_folder / "EURUSD-D1" / "lora" / "0", tmp_path / "demo" / "EURUSD-D1" / "lora" / ".partial-x")
    page = write_report(tmp_path / "demo", tmp_path / "out")
    assert page.read_bytes() == (report / "index.html").read_bytes()


def test_report_loads_neither_torch_nor_backtrader(study_folder, tmp_path):
    code = (
        "import sys; import tunetrade.report as r; assert 'matplotlib' not in sys.modules; from pathlib import Path;"
        f"r.write_report(Path({str(study_folder)!r}), Path({str(tmp_path)!r}));"
        "assert not {'torch', 'backtrader', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_equity_of_the_fixture_ends_at_its_net_profit(study_folder):
    """The fixture itself is consistent, so the plots and the tables of these tests tell one story."""
    for path in study_folder.rglob("equity.parquet"):
        figures = read_json(path.parent / "backtest.json")["figures"]
        assert math.isclose(pd.read_parquet(path)["equity"].iloc[-1] - 10_000, figures["net_profit"], abs_tol=1e-6)
