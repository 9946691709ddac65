"""The Tester's report of a run: every field in the Tester's order, money that adds up, a page that needs nothing."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import mt5_files as mt5
import numpy as np
import pytest
from synthetic import edit_json
from traded import DEPOSIT, equity_of, random_run, trades_of, write_run

from strategies.tester import report_figures
from strategies.tester_fields import FIELDS
from tunetrade.cli import main
from tunetrade.report.tester import write_tester
from tunetrade.report.tester_plots import envelope
from tunetrade.report.tester_run import read_traded_run

DOCUMENT = Path(__file__).parents[2] / "docs" / "TESTER.md"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    trades, equity = random_run(1, 1200)
    return write_run(tmp_path_factory.mktemp("run"), trades, equity)


@pytest.fixture(scope="module")
def page(run_folder) -> str:
    write_tester(read_traded_run(run_folder), run_folder)
    return (run_folder / "tester.html").read_text()


@pytest.fixture(scope="module")
def sections(run_folder, page) -> dict[str, list[list[str]]]:
    """The CSV's sections by title."""
    found: dict[str, list[list[str]]] = {}
    before: list[str] = []
    with (run_folder / "tester.csv").open(newline="") as file:
        for row in csv.reader(file):
            if row and not before:
                rows = found[row[0]] = []
            elif row:
                rows.append(row)
            before = row
    return found


def test_the_fields_stand_in_the_order_of_the_tester(page, run_folder):
    trades, equity = random_run(1, 1200)
    figures = report_figures(trades, equity, DEPOSIT)
    shown = re.findall(r"<span>([^<]*)</span><span>([^<]*)</span>", page)
    assert [label for label, _ in shown] == [field.label for field in FIELDS]
    assert [text.replace("\u2212", "-") for _, text in shown] == [field.text(figures) for field in FIELDS]


def test_costs_lead_from_gross_to_net(sections):
    (_, gross), *costs, (_, net) = sections["Costs"]
    assert [name for name, _ in costs] == ["Spread", "Slippage", "Commission", "Swap"]
    assert float(gross) + sum(float(value) for _, value in costs) == pytest.approx(float(net))
    assert float(net) == pytest.approx(float(dict(sections["Figures"])["total_net_profit"]))


def test_long_and_short_and_times_add_up_to_all(sections):
    trades, _ = random_run(1, 1200)
    for name, *values in sections["Long and short"][1:]:
        if name in ("total_trades", "total_net_profit", "gross_loss", "costs", "profit_before_costs"):
            total, long, short = map(float, values)
            assert total == pytest.approx(long + short)
    for name in ("hour", "weekday", "month"):
        heads, *rows = sections[f"By {name}"]
        columns = dict(zip(heads[1:], np.array([row[1:] for row in rows], float).T, strict=True))
        assert columns["entries"].sum() == len(trades)
        assert columns["net_of_entries"].sum() == pytest.approx(trades["net_profit"].sum())
        assert (columns["profit_of_exits"] + columns["loss_of_exits"]).sum() == pytest.approx(
            trades["net_profit"].sum()
        )


def test_times_are_the_servers_with_utc_beside(sections):
    trades, _ = random_run(1, 1200)
    heads, first, *_ = sections["Trades"]
    row = dict(zip(heads, first, strict=True))
    opened = trades["entry_time"].iloc[0].tz_localize(None) - np.timedelta64(1, "h")
    assert row["entry_utc"] == opened.strftime("%Y.%m.%d %H:%M:%S")
    assert row["entry_time"] == (opened + np.timedelta64(2, "h")).strftime("%Y.%m.%d %H:%M:%S")  # winter


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.anchors: set[str] = set()
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href"):
                (self.anchors.add(value) if str(value).startswith("#") else self.sources.append(value))
            if name == "id":
                self.ids.append(value)


def test_the_page_needs_nothing_from_elsewhere(page):
    read = Page()
    read.feed(page)
    assert read.sources == []
    assert not read.tags & {"script", "link", "iframe"}
    assert {anchor[1:] for anchor in read.anchors} <= set(read.ids)
    assert len(read.ids) == len(set(read.ids))
    assert "prefers-color-scheme:dark" in page
    assert 'name="viewport"' in page


def test_the_same_run_gives_the_same_bytes(run_folder, page, tmp_path):
    write_tester(read_traded_run(run_folder), tmp_path)
    for name in ("tester.html", "tester.csv"):
        assert (tmp_path / name).read_bytes() == (run_folder / name).read_bytes()


def test_a_run_without_trades_has_a_page(tmp_path):
    times = np.arange("2021-02-01T01", "2021-02-03T01", dtype="datetime64[h]")
    write_run(tmp_path, trades_of([]), equity_of(times, np.full(len(times), DEPOSIT)), spread_points=10.0)
    assert main(["tester", str(tmp_path)]) == 0
    assert "No trades." in (tmp_path / "tester.html").read_text()


def test_a_long_curve_keeps_its_ends_and_extremes():
    values = np.random.default_rng(0).normal(size=50_000)
    x, y = envelope(np.arange(50_000), values)
    assert len(y) < 3000
    assert (y.min(), y.max(), x[0], x[-1]) == (values.min(), values.max(), 0, 49_999)


def test_the_document_has_every_definition():
    text = DOCUMENT.read_text(encoding="utf-8")
    for field in FIELDS:
        assert f"| {field.label} | {field.definition.replace('|', chr(92) + '|')} |" in text


def test_the_verb_prints_json(run_folder, tmp_path, capsys):
    assert main(["tester", str(run_folder), "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["report"] == str(tmp_path / "tester.html")
    assert found["figures"]["total_trades"] == len(random_run(1, 1200)[0])


def test_reconcile_reads_our_own_report_and_finds_no_difference(run_folder, page, capsys):
    assert main(["reconcile", str(run_folder), str(run_folder / "tester.csv")]) == 0
    assert "without a difference" in capsys.readouterr().out


def test_reconcile_tells_writes_and_returns_1_where_trades_differ(run_folder, tmp_path, capsys):
    rows = [
        mt5.deal("2021.02.08 10:00:00", 2, "buy", "in", 0.1, 1.2),
        mt5.deal("2021.02.08 12:00:00", 3, "sell", "out", 0.1, 1.2),
    ]
    report = mt5.write(tmp_path / "ReportTester.html", mt5.tester_html(rows))
    out = tmp_path / "differences.csv"
    assert main(["reconcile", str(run_folder), str(report), "--out", str(out)]) == 1
    told = capsys.readouterr().out
    assert "is missing there" in told
    assert f"all in {out}" in told
    with out.open(newline="") as file:
        assert len(list(csv.DictReader(file))) >= len(random_run(1, 1200)[0])
    assert main(["reconcile", str(run_folder), str(report), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert sum(found["money"].values()) == pytest.approx(found["theirs_net"] - found["ours_net"])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda run: (run / "backtest.json").unlink(), "was not traded"),
        (lambda run: (run / "equity.parquet").unlink(), "equity.parquet is missing"),
        (lambda run: (run / "trades.parquet").write_bytes(b"no"), "cannot be read"),
        (lambda run: (run / "run.json").write_text("{"), "is damaged"),
        (
            lambda run: edit_json(run / "backtest.json", lambda r: r["broker"].update(timezone="mars")),
            "time zone 'mars'",
        ),
    ],
)
def test_faults_are_one_line(tmp_path, capsys, spoil, words):
    trades, equity = random_run(0, 100)
    spoil(write_run(tmp_path, trades, equity))
    assert main(["tester", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_an_older_ledger_and_a_negative_tolerance_are_refused(tmp_path, capsys):
    trades, equity = random_run(0, 100)
    write_run(tmp_path, trades, equity)
    trades.drop(columns=["mfe", "swap"]).to_parquet(tmp_path / "trades.parquet")
    assert main(["tester", str(tmp_path)]) == 2
    assert "has no swap, mfe: an older version traded it" in capsys.readouterr().err
    assert main(["reconcile", str(tmp_path), "x.html", "--points", "-1"]) == 2
    assert "--points -1: give a tolerance of 0 or more" in capsys.readouterr().err
