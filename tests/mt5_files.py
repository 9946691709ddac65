# ruff: noqa: E501 - lines of HTML as a terminal writes them
"""Files laid out as MetaTrader 5 writes them. No export of a terminal is at hand: the layout follows published reports."""

from pathlib import Path

DEAL_HEADS = (
    "Time", "Deal", "Symbol", "Type", "Direction", "Volume", "Price", "Order", "Commission", "Swap", "Profit", "Balance",
    "Comment",
)  # fmt: skip
POSITION_HEADS = (
    "Time", "Position", "Symbol", "Type", "Volume", "Price", "S / L", "T / P", "Time", "Price", "Commission", "Swap",
    "Profit",
)  # fmt: skip
NUMBERS = (5, 6, 8, 9, 10, 11)
NBSP = "\u00a0"


def money(value: float, space: str = NBSP) -> str:
    return f"{value:,.2f}".replace(",", space)


def deal(
    time, number, kind, direction, volume, price, commission=0.0, swap=0.0, profit=0.0, comment="", symbol="EURUSD"
):
    """Cells of a row of Deals; the balance is filled in by `deal_cells`."""
    return [time, str(number), symbol, kind, direction, volume, price, number, commission, swap, profit, comment]


def deal_cells(deals, deposit=10_000.0, space=NBSP) -> list[list[str]]:
    balance = deposit
    opening = money(deposit, space)
    rows = [["2021.01.01 00:00:00", "1", "", "balance", "", "", "", "", "0.00", "0.00", opening, opening, ""]]
    for time, number, symbol, kind, direction, volume, price, order, commission, swap, profit, comment in deals:
        balance += commission + swap + profit
        rows.append(
            [time, number, symbol, kind, direction, f"{volume:.2f}", f"{price:.5f}", str(order), money(commission, space),
             money(swap, space), money(profit, space), money(balance, space), comment]
        )  # fmt: skip
    return rows


def tester_html(deals, symbol="EURUSD", deposit=10_000.0) -> str:
    """A Strategy Tester report: settings, results, an Orders table and Deals with their row of totals."""
    rows = [_tr(cells) for cells in deal_cells(deals, deposit)]
    totals = '<tr align="right"><td nowrap colspan="8"></td><td>0.00</td><td>0.00</td><td>0.00</td><td>0.00</td><td></td></tr>'
    return f"""<!DOCTYPE html PUBLIC "-//W3C//DTD HTML 4.01//EN" "http://www.w3.org/TR/html4/strict.dtd">
<html><head><title>Strategy Tester: Expert</title><meta http-equiv="Content-Type" content="text/html; charset=UTF-16">
<style type="text/css"><!-- td {{font: 8pt Tahoma;}} --></style></head><body><div align="center">
<table width="700" cellspacing="0" cellpadding="3" border="0"><tr align="center"><td colspan="13"><div><b>Strategy Tester Report</b><br></div></td></tr>
<tr align="left"><td nowrap colspan="3">Expert:</td><td nowrap colspan="10" align="left"><b>TuneTrade</b></td></tr>
<tr align="left"><td nowrap colspan="3">Symbol:</td><td nowrap colspan="10" align="left"><b>{symbol}</b></td></tr>
<tr align="left"><td nowrap colspan="3">Period:</td><td nowrap colspan="10"><b>H1 (2021.02.01 - 2021.06.01)</b></td></tr>
<tr align="left"><td nowrap colspan="3">Currency:</td><td nowrap colspan="10"><b>USD</b></td></tr>
<tr align="left"><td nowrap colspan="3">Initial Deposit:</td><td nowrap colspan="10"><b>{money(deposit)}</b></td></tr>
<tr><td nowrap colspan="3">Total Net Profit:</td><td nowrap><b>1 234.00</b></td><td nowrap colspan="3">Balance Drawdown Absolute:</td><td><b>0.00</b></td></tr>
</table><table width="700" cellspacing="1" cellpadding="3" border="0">
<tr align="center"><th colspan="13" style="height: 25px"><div style="font: 10pt Tahoma"><b>Orders</b></div></th></tr>
{_heads(("Open Time", "Order", "Symbol", "Type", "Volume", "Price", "S / L", "T / P", "Time", "State", "Comment"))}
{_tr(["2021.02.01 10:00:00", "2", symbol, "buy", "0.10 / 0.10", "", "", "", "2021.02.01 10:00:00", "filled", ""])}
<tr><td colspan="13" style="height: 10px"></td></tr>
<tr align="center"><th colspan="13" style="height: 25px"><div style="font: 10pt Tahoma"><b>Deals</b></div></th></tr>
{_heads(DEAL_HEADS)}
{chr(10).join(rows)}
{totals}
</table></div></body></html>"""


def history_html(positions, deals=(), account="12345678&nbsp;(USD,&nbsp;Broker-Demo,&nbsp;demo,&nbsp;Hedge)") -> str:
    """A history of an account: Positions with a hidden cell after the type, Deals with Cost hidden and Fee beside.

    positions: cells by POSITION_HEADS.
    """
    hidden = '<td class="hidden" colspan="8"></td>'
    rows = []
    for position in positions:
        cells = [f"<td>{cell}</td>" for cell in position]
        rows.append('<tr bgcolor="#FFFFFF" align="right">' + "".join([*cells[:4], hidden, *cells[4:]]) + "</tr>")
    heads = [f"<td nowrap><b>{name}</b></td>" for name in POSITION_HEADS[:-1]]
    positions_head = f'<tr align="center" bgcolor="#E5F0FC">{"".join(heads)}<td colspan="2"><b>Profit</b></td></tr>'
    deal_heads = [*DEAL_HEADS[:9], "Fee", *DEAL_HEADS[9:]]
    titles = [f"<td nowrap><b>{name}</b></td>" for name in deal_heads]
    titles.insert(8, '<td nowrap class="hidden"><b>Cost</b></td>')
    lines = []
    for cells in deal_cells(deals):
        parts = [f"<td>{cell}</td>" for cell in [*cells[:9], "0.00", *cells[9:]]]
        parts.insert(8, '<td class="hidden">1.00</td>')
        lines.append(f'<tr align="right">{"".join(parts)}</tr>')
    return f"""<html><head><title>Trade History Report</title></head><body><table>
<tr align="left"><th colspan="4" nowrap align="right">Account:</th><th colspan="10" align="left"><b>{account}</b></th></tr>
<tr align="center"><th colspan="14"><b>Positions</b></th></tr>
{positions_head}
{chr(10).join(rows)}
<tr align="center"><th colspan="14"><b>Deals</b></th></tr>
<tr align="center" bgcolor="#E5F0FC">{"".join(titles)}</tr>
{chr(10).join(lines)}
<tr align="left"><td><b>Balance:</b></td><td colspan="2">10 000.00</td></tr>
<tr align="center"><th colspan="14"><b>Open Positions</b></th></tr>
{_heads(("Time", "Position", "Symbol", "Type", "Volume", "Price", "S / L", "T / P", "Market Price", "Swap", "Profit"))}
{_tr(["2021.03.09 10:00:00", "99", "EURUSD", "buy", "0.10", "1.2", "", "", "1.3", "0.00", "5.00"])}
</table></body></html>"""


def deals_csv(deals, separator=",", decimal_comma=False) -> str:
    """The Deals table alone, as a spreadsheet saves it."""
    lines = ["Deals", separator.join(DEAL_HEADS)]
    for cells in deal_cells(deals, space=" "):
        if decimal_comma:
            lines.append(separator.join(c.replace(".", ",") if n in NUMBERS else c for n, c in enumerate(cells)))
        else:
            lines.append(separator.join(cells))
    return "\n".join(lines) + "\n"


def write(file: Path, text: str, encoding: str = "utf-16") -> Path:
    """Write as a terminal does: UTF-16 with its byte order mark, unless told otherwise."""
    file.write_bytes(b"\xff\xfe" + text.encode("utf-16-le") if encoding == "utf-16" else text.encode(encoding))
    return file


def _tr(cells) -> str:
    return '<tr bgcolor="#FFFFFF" align="right">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _heads(names) -> str:
    return (
        '<tr align="center" bgcolor="#E5F0FC">' + "".join(f"<td nowrap><b>{name}</b></td>" for name in names) + "</tr>"
    )
