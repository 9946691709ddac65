"""MetaTrader's files: every form of the same deals reads the same, what is missing is named, trades are rebuilt."""

import mt5_files as mt5
import numpy as np
import pandas as pd
import pytest
from traded import DEPOSIT, random_run

from forecasting.errors import DataError
from strategies.deals import closed_trades, deals_of, hedging_deals
from strategies.exports import read_export
from strategies.tester import fill_times

DEALS = [
    mt5.deal("2021.03.01 10:00:00", 2, "buy", "in", 0.2, 1.2, commission=-0.7),
    mt5.deal("2021.03.01 12:00:00", 3, "sell", "out", 0.1, 1.21, commission=-0.35, profit=100.0),
    mt5.deal("2021.03.02 09:00:00", 4, "sell", "in/out", 0.3, 1.19, commission=-1.2, swap=-0.5, profit=-100.0),
    mt5.deal("2021.03.03 09:30:05", 5, "buy", "out", 0.2, 1.1750, profit=1300.0, comment="sl 1.17500"),
]


def read(tmp_path, text, encoding="utf-16"):
    return read_export(mt5.write(tmp_path / "export.html", text, encoding))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8", "utf-8-sig", "cp1252"])
def test_a_tester_report_reads_the_same_in_every_encoding(tmp_path, encoding):
    found = read(tmp_path, mt5.tester_html(DEALS), encoding)
    assert found.facts["initial deposit"] == "10 000.00"
    assert found.deals["deal"].tolist() == ["1", "2", "3", "4", "5"]
    assert found.deals["balance"].iloc[-1] == pytest.approx(10_000 + 1300 - 2.25 - 0.5)
    assert found.deals["time"].iloc[-1] == pd.Timestamp("2021-03-03 09:30:05")
    assert found.positions is None
    assert found.hedging is None


@pytest.mark.parametrize(("separator", "comma"), [(",", False), (";", False), (";", True), ("\t", True)])
def test_a_csv_of_the_deals_reads_like_the_page(tmp_path, separator, comma):
    page = read(tmp_path, mt5.tester_html(DEALS)).deals
    table = read(tmp_path, mt5.deals_csv(DEALS, separator, comma), "utf-8").deals
    pd.testing.assert_frame_equal(page, table)


def test_a_history_has_positions_beside_its_deals_and_hidden_cells_shift_nothing(tmp_path):
    row = ["2021.03.01 10:00:00", "77", "EURUSD", "sell", "0.10", "1.20000", "1.21000", "", "2021.03.02 10:00:00",
           "1.21000", "-0.70", "-1.10", "-1 100.00"]  # fmt: skip
    found = read(tmp_path, mt5.history_html([row], DEALS))
    (position,) = found.positions.to_dict("records")
    assert (position["direction"], position["lots"], position["exit_price"]) == (-1, 0.1, 1.21)
    assert position["net"] == pytest.approx(-1101.8)
    assert position["comment"] == "sl 1.21"
    assert found.hedging is True
    assert found.deals["commission"].tolist() == [0.0, -0.7, -0.35, -1.2, 0.0]


def test_netting_deals_become_trades_as_worked_by_hand(tmp_path):
    deals = read(tmp_path, mt5.tester_html(DEALS)).deals.iloc[1:]
    trades, still_open = closed_trades(deals, netting=True)
    # 0.2 in for 0.70; half of it out; a sale of 0.3 closes 0.1 and opens 0.2 short; the stop closes those.
    assert trades["direction"].tolist() == [1, 1, -1]
    assert trades["lots"].tolist() == pytest.approx([0.1, 0.1, 0.2])
    assert trades["commission"].tolist() == pytest.approx([-0.35 - 0.35, -0.35 - 0.4, -0.8])
    assert trades["entry_price"].tolist() == [1.2, 1.2, 1.19]
    assert trades["net"].tolist() == pytest.approx([99.3, -101.25, 1299.2])
    assert trades["comment"].tolist() == ["", "", "sl 1.17500"]
    assert len(still_open) == 0


def frame(*deals):
    names = ("time", "deal", "symbol", "type", "direction", "volume", "price", "order", "commission", "swap", "profit",
             "comment")  # fmt: skip
    table = pd.DataFrame([dict(zip(names, deal, strict=True)) for deal in deals])
    return table.assign(time=pd.to_datetime(table["time"], format="%Y.%m.%d %H:%M:%S"))


def test_netting_enlargement_averages_and_hedging_keeps_tickets():
    deals = frame(
        mt5.deal("2021.03.01 10:00:00", 2, "buy", "in", 0.1, 1.0),
        mt5.deal("2021.03.01 11:00:00", 3, "buy", "in", 0.3, 1.2),
        mt5.deal("2021.03.01 12:00:00", 4, "sell", "out", 0.3, 1.3, profit=30.0),
        mt5.deal("2021.03.01 13:00:00", 5, "sell", "out", 0.1, 1.4, profit=10.0),
    )
    averaged, _ = closed_trades(deals, netting=True)
    assert averaged["entry_price"].tolist() == pytest.approx([1.15, 1.15])
    tickets, _ = closed_trades(deals, netting=False)
    assert tickets["ticket"].tolist() == ["3", "2"]
    assert tickets["entry_price"].tolist() == [1.2, 1.0]
    assert not hedging_deals(deals)


def test_both_sides_at_once_is_a_hedging_account():
    deals = frame(
        mt5.deal("2021.03.01 10:00:00", 2, "buy", "in", 0.1, 1.0),
        mt5.deal("2021.03.01 11:00:00", 3, "sell", "in", 0.1, 1.2),
        mt5.deal("2021.03.01 12:00:00", 4, "buy", "out", 0.1, 1.3, profit=-10.0),
        mt5.deal("2021.03.01 13:00:00", 5, "sell", "out", 0.1, 1.4, profit=40.0),
    )
    assert hedging_deals(deals)
    trades, _ = closed_trades(deals, netting=False)
    assert trades[["ticket", "direction", "entry_price"]].to_numpy().tolist() == [["3", -1, 1.2], ["2", 1, 1.0]]


@pytest.mark.parametrize("seed", range(5))
def test_trades_to_deals_and_back_are_the_same_trades(seed):
    trades, equity = random_run(seed)
    entered, left = fill_times(trades, 60.0, close_only=False)
    deals = deals_of(trades.assign(entry_time=entered, exit_time=left), "EURUSD", DEPOSIT, netting=True)
    assert deals["balance"].iloc[-1] == pytest.approx(equity["equity"].iloc[-1])
    assert (deals["direction"] == "in/out").any()
    back, still_open = closed_trades(deals.iloc[1:], netting=True)
    assert len(still_open) == 0
    for ours, theirs in (
        ("lots", "lots"),
        ("entry_price", "entry_price"),
        ("exit_price", "exit_price"),
        ("swap", "swap"),
    ):
        np.testing.assert_allclose(back[theirs], trades[ours], atol=1e-9)
    np.testing.assert_allclose(back["net"], trades["net_profit"], atol=1e-8)
    assert (back["entry_time"].to_numpy() == entered.to_numpy()).all()


def test_faults_name_the_file_and_the_cure(tmp_path):
    with pytest.raises(DataError, match=r"no such file"):
        read_export(tmp_path / "none.html")
    with pytest.raises(DataError, match=r"neither a Deals table .* terminal in English"):
        read(tmp_path, "<html><table><tr><td>Zeit</td><td>Symbol</td></tr></table></html>")
    with pytest.raises(DataError, match=r"neither a Deals table"):
        read(tmp_path, "", "utf-8")
    with pytest.raises(DataError, match=r"Excel workbook"):
        read(tmp_path, "PK\x03\x04", "utf-8")
    with pytest.raises(DataError, match=r"price of deal 3 is '1.2x'"):
        read(tmp_path, mt5.deals_csv(DEALS).replace("1.21000", "1.2x"), "utf-8")
    with pytest.raises(DataError, match=r"price of deal 3 is 'nan'"):
        read(tmp_path, mt5.deals_csv(DEALS).replace("1.21000", "nan"), "utf-8")
    deals = read(tmp_path, mt5.tester_html(DEALS[1:])).deals.iloc[1:]
    with pytest.raises(DataError, match=r"deal 3 .* closes 0.1 lots more .* whole history"):
        closed_trades(deals, netting=True)
