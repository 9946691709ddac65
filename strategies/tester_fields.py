"""Fields of the Strategy Tester's report: label, exact definition, and the text of the figures, in the Tester's order.

`LAYOUT` stands as the report does, three columns wide; docs/TESTER.md prints the same definitions. Numbers are written
as MetaTrader writes them, thousands apart by a space, except that what is undefined is a dash. Imports nothing
internal.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Figures = Mapping[str, float]
"""What `strategies.tester.report_figures` gives."""

DASH = "–"


@dataclass(frozen=True)
class Field:
    """One field of the report: its label there, what it is exactly, and how its text is made of the figures."""

    label: str
    definition: str
    text: Callable[[Figures], str]


def money_text(value: float) -> str:
    """Money as MetaTrader writes it: two decimals, thousands apart.

    >>> money_text(-12345.678)
    '-12 345.68'
    """
    return DASH if math.isnan(value) else _unsigned_zero(f"{value:,.2f}".replace(",", " "))


def number_text(value: float, decimals: int = 2) -> str:
    """A number with a fixed number of decimals, a dash for NaN."""
    return DASH if math.isnan(value) else _unsigned_zero(f"{value:.{decimals}f}")


def share_text(value: float) -> str:
    """A share as a percentage, as MetaTrader writes it.

    >>> share_text(0.0464)
    '4.64%'
    """
    return DASH if math.isnan(value) else f"{_unsigned_zero(f'{100 * value:.2f}')}%"


def span_text(seconds: float) -> str:
    """A time span as hours, minutes and seconds.

    >>> span_text(93784)
    '26:03:04'
    """
    if math.isnan(seconds):
        return DASH
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _unsigned_zero(text: str) -> str:
    return text if any(digit in text for digit in "123456789") else text.removeprefix("-")


def _money(key: str) -> Callable[[Figures], str]:
    return lambda figures: money_text(figures[key])


def _number(key: str, decimals: int = 2) -> Callable[[Figures], str]:
    return lambda figures: number_text(figures[key], decimals)


def _count(key: str) -> Callable[[Figures], str]:
    return lambda figures: number_text(figures[key], 0)


def _span(key: str) -> Callable[[Figures], str]:
    return lambda figures: span_text(figures[key])


def _with(first: Callable[[Figures], str], second: Callable[[Figures], str]) -> Callable[[Figures], str]:
    def both(figures: Figures) -> str:
        text, more = first(figures), second(figures)
        return text if more == DASH else f"{text} ({more})"

    return both


def _share(key: str) -> Callable[[Figures], str]:
    return lambda figures: share_text(figures[key])


def _change(key: str) -> Callable[[Figures], str]:
    return lambda figures: share_text(figures[key] - 1)


def _drawdown_fields(name: str, curve: str) -> tuple[Field, Field, Field]:
    key = name.lower()
    return (
        Field(f"{name} Drawdown Absolute", f"deposit - lowest {curve}", _money(f"{key}_dd_absolute")),
        Field(
            f"{name} Drawdown Maximal",
            f"largest fall from a peak of the {curve} to a later low, in money (in percent of that peak)",
            _with(_money(f"{key}_dd_maximal"), _share(f"{key}_dd_maximal_share")),
        ),
        Field(
            f"{name} Drawdown Relative",
            f"largest such fall of the {curve} in percent of its peak (that fall in money)",
            _with(_share(f"{key}_dd_relative"), _money(f"{key}_dd_relative_money")),
        ),
    )


def _fixed(text: str) -> Callable[[Figures], str]:
    return lambda _: text


_BALANCE = _drawdown_fields("Balance", "balance after each closed trade (deposit first)")
_EQUITY = _drawdown_fields("Equity", "equity at each bar's close (deposit first)")

LAYOUT: tuple[tuple[Field | None, ...], ...] = (
    (Field("History Quality", "share of correct one-minute data; not measured here: prices are bars", _fixed(DASH)),),
    (
        Field("Bars", "bars traded", _count("bars")),
        Field("Ticks", "ticks modelled; none: fills are computed from bars", _fixed("0")),
        Field("Symbols", "symbols traded", _fixed("1")),
    ),
    (
        Field("Total Net Profit", "Gross Profit + Gross Loss", _money("total_net_profit")),
        _BALANCE[0],
        _EQUITY[0],
    ),
    (Field("Gross Profit", "sum of the results of profit trades", _money("gross_profit")), _BALANCE[1], _EQUITY[1]),
    (Field("Gross Loss", "sum of the results of loss trades", _money("gross_loss")), _BALANCE[2], _EQUITY[2]),
    (
        Field("Profit Factor", "Gross Profit / -Gross Loss", _number("profit_factor")),
        Field("Expected Payoff", "Total Net Profit / Total Trades", _money("expected_payoff")),
        Field("Margin Level", "least equity / margin at a close with margin in use", _share("margin_level")),
    ),
    (
        Field("Recovery Factor", "Total Net Profit / Equity Drawdown Maximal, in money", _number("recovery_factor")),
        Field(
            "Sharpe Ratio",
            "mean / population standard deviation of ln(equity / equity a bar before), of bars in which equity "
            "changed, x sqrt(252 x bars a day), of weekly bars x sqrt(252 / 5); risk-free rate 0; not below -5",
            _number("sharpe_ratio"),
        ),
        Field(
            "Z-Score",
            "runs test of wins and losses: (N (R - 0.5) - P) / sqrt(P (P - N) / (N - 1)), N trades, R runs, "
            "P = 2 x wins x losses (confidence that they depend on each other, 2 Phi(|Z|) - 1 of the Z printed)",
            _with(_number("z_score"), _share("z_confidence")),
        ),
    ),
    (
        Field(
            "AHPR",
            "arithmetic mean of balance after a trade / balance before it (less 1)",
            _with(_number("ahpr", 4), _change("ahpr")),
        ),
        Field(
            "LR Correlation",
            "correlation of the balance after each closed trade (deposit first) with its least-squares line over the "
            "number of the trade",
            _number("lr_correlation"),
        ),
        Field("OnTester result", "none: there is no custom criterion", _fixed("0")),
    ),
    (
        Field(
            "GHPR",
            "(final balance / deposit) ** (1 / N), N trades (less 1)",
            _with(_number("ghpr", 4), _change("ghpr")),
        ),
        Field(
            "LR Standard Error",
            "root of the sum of squares about that line / (points - 2), in money",
            _number("lr_standard_error"),
        ),
    ),
    (
        Field("Total Trades", "closed trades, closed parts of positions included", _count("total_trades")),
        Field(
            "Short Trades (won %)",
            "short trades (share with a result of 0 or more)",
            _with(_count("short_trades"), _share("short_won")),
        ),
        Field(
            "Long Trades (won %)",
            "long trades (share with a result of 0 or more)",
            _with(_count("long_trades"), _share("long_won")),
        ),
    ),
    (
        Field("Total Deals", "orders executed; a reversal on a netting account is one", _count("total_deals")),
        Field(
            "Profit Trades (% of total)",
            "trades with a result of 0 or more",
            _with(_count("profit_trades"), _share("profit_share")),
        ),
        Field(
            "Loss Trades (% of total)",
            "trades with a result below 0",
            _with(_count("loss_trades"), _share("loss_share")),
        ),
    ),
    (
        None,
        Field("Largest profit trade", "best result", _money("largest_profit")),
        Field("Largest loss trade", "worst result", _money("largest_loss")),
    ),
    (
        None,
        Field("Average profit trade", "Gross Profit / Profit Trades", _money("average_profit")),
        Field("Average loss trade", "Gross Loss / Loss Trades", _money("average_loss")),
    ),
    (
        None,
        Field(
            "Maximum consecutive wins ($)",
            "length of the longest series of profit trades, the first of equals (its sum)",
            _with(_count("longest_wins"), _money("longest_wins_money")),
        ),
        Field(
            "Maximum consecutive losses ($)",
            "length of the longest series of loss trades, the first of equals (its sum)",
            _with(_count("longest_losses"), _money("longest_losses_money")),
        ),
    ),
    (
        None,
        Field(
            "Maximal consecutive profit (count)",
            "largest sum of a series of profit trades (its length)",
            _with(_money("richest_wins_money"), _count("richest_wins")),
        ),
        Field(
            "Maximal consecutive loss (count)",
            "largest loss of a series of loss trades (its length)",
            _with(_money("richest_losses_money"), _count("richest_losses")),
        ),
    ),
    (
        None,
        Field("Average consecutive wins", "mean length of series of profit trades, rounded", _count("average_wins")),
        Field("Average consecutive losses", "mean length of series of loss trades, rounded", _count("average_losses")),
    ),
    (
        Field(
            "Correlation (Profits,MFE)",
            "correlation of results with the best open results of the trades",
            _number("correlation_profits_mfe"),
        ),
        Field(
            "Correlation (Profits,MAE)",
            "correlation of results with the worst open results of the trades",
            _number("correlation_profits_mae"),
        ),
        Field("Correlation (MFE,MAE)", "correlation of best with worst open results", _number("correlation_mfe_mae")),
    ),
    (
        Field(
            "Minimal position holding time",
            "shortest time from opening a position to closing the last of it; an exit within a bar counts at its end",
            _span("holding_minimal"),
        ),
        Field("Maximal position holding time", "longest such time", _span("holding_maximal")),
        Field("Average position holding time", "mean of such times", _span("holding_average")),
    ),
)
"""The report's fields as its columns and rows stand; None leaves a place free."""

FIELDS: tuple[Field, ...] = tuple(field for row in LAYOUT for field in row if field is not None)
