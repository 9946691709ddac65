"""What each column of a leaderboard is: where it comes from, how it reads, which value is better and what it means.

One list serves the tables, the CSV files and the glossary, so a definition cannot drift from the figure it explains.
"""

from dataclasses import dataclass
from typing import Literal

Better = Literal["less", "more", "nominal", "none"]
Combine = Literal["geometric", "mean", "sum", "max", "none"]

NOMINAL_COVERAGE = {"coverage50": 0.5, "coverage80": 0.8, "coverage90": 0.9}


@dataclass(frozen=True)
class Column:
    """A figure of the leaderboard.

    style: how `formats.column_text` writes it. better: which value is marked as best (`nominal`: nearest to the nominal
    coverage). combine: how series are put together in the overall table. traded: only rows that traded may be best,
    since a strategy that does nothing has the smallest of all drawdowns.
    """

    key: str
    label: str
    group: str
    style: str
    better: Better
    combine: Combine
    definition: str
    traded: bool = False


ERROR, MONEY, COST = "Error", "Money", "Cost"

COLUMNS: tuple[Column, ...] = (
    Column(
        "mse_ratio",
        "MSE ÷ RW",
        ERROR,
        "ratio",
        "less",
        "geometric",
        "Mean squared error divided by that of the random walk (which repeats the last close). Below"
        " 1 is better than no forecast at all. Like the MSE it holds sampling noise.",
    ),
    Column(
        "crps_ratio",
        "CRPS ÷ EWMA‑t",
        ERROR,
        "ratio",
        "less",
        "geometric",
        "CRPS divided by that of EWMA-t, a random walk with a Student-t cone of recent volatility."
        " Below 1 means better probabilities. Like CRPS it holds sampling noise; differences within two Monte Carlo"
        " standard errors are not differences, and then none is marked as best.",
    ),
    Column(
        "mse",
        "MSE",
        ERROR,
        "error",
        "less",
        "none",
        "Mean squared error of the predicted mean close, over all origins and steps, in squared price."
        " Where the mean is that of sampled paths, so above all with the codecs digits and text, it holds sampling"
        " noise and the excess that this adds (mse_mc_error in forecast.json); the best is marked as with CRPS.",
    ),
    Column("rmse", "RMSE", ERROR, "error", "less", "none", "Square root of the MSE, in price."),
    Column("nrmse", "NRMSE", ERROR, "error", "less", "none", "RMSE divided by the range of the true closes."),
    Column(
        "mae", "MAE", ERROR, "error", "less", "none", "Mean absolute error of the predicted median close, in price."
    ),
    Column(
        "mase",
        "MASE",
        ERROR,
        "ratio",
        "less",
        "geometric",
        "MAE divided by the mean absolute one-bar move of the training part; it grows with the"
        " horizon, so compare rows, not with 1.",
    ),
    Column("rmae", "rMAE", ERROR, "ratio", "less", "geometric", "MAE divided by that of the random walk."),
    Column(
        "crps",
        "CRPS",
        ERROR,
        "error",
        "less",
        "none",
        "Continuous ranked probability score of the whole predicted distribution, in price: the"
        " absolute error, generalised to a cone. Exact at step 1; later steps are estimated from sampled paths, with"
        " a Monte Carlo standard error (crps_mc_se in forecast.json). The best is marked only where every other lies"
        " more than two such errors of the difference behind.",
    ),
    Column(
        "coverage80",
        "Coverage 80",
        ERROR,
        "percent1",
        "nominal",
        "mean",
        "Share of closes inside the predicted 10-90 % band; 80 % is right, less means cones too narrow, more too wide.",
    ),
    Column(
        "directional_accuracy",
        "Direction",
        ERROR,
        "percent1",
        "more",
        "mean",
        "Share of moves whose sign was predicted; unchanged closes are dropped. Coin tossing gives 50 %.",
    ),
    Column(
        "net_profit",
        "Net profit",
        MONEY,
        "money",
        "more",
        "sum",
        "Final equity less the deposit, after all costs, in the account's currency.",
    ),
    Column(
        "profit_before_costs",
        "Before costs",
        MONEY,
        "money",
        "more",
        "sum",
        "The same without spread, slippage, commission and swap.",
        traded=True,
    ),
    Column("costs", "Costs", MONEY, "money", "none", "sum", "Spread, slippage and commission paid, less swap."),
    Column("spread", "Spread", MONEY, "money", "none", "sum", "What the spread took from closed trades."),
    Column("slippage", "Slippage", MONEY, "money", "none", "sum", "What slippage took from closed trades."),
    Column("commission", "Commission", MONEY, "money", "none", "sum", "Commission of closed trades, both sides."),
    Column("swap", "Swap", MONEY, "money", "none", "sum", "Swap of closed trades, negative where it was paid."),
    Column(
        "total_return",
        "Return",
        MONEY,
        "percent2",
        "more",
        "mean",
        "Net profit as a share of the deposit, over the whole test.",
    ),
    Column(
        "sharpe",
        "Sharpe",
        MONEY,
        "number2",
        "more",
        "mean",
        "Mean over standard deviation of daily net returns, annualised, risk-free rate 0.",
        traded=True,
    ),
    Column(
        "sortino",
        "Sortino",
        MONEY,
        "number2",
        "more",
        "mean",
        "As Sharpe, over the root mean square of the negative returns only.",
        traded=True,
    ),
    Column(
        "max_drawdown",
        "Max drawdown",
        MONEY,
        "percent2",
        "less",
        "max",
        "Largest fall of equity from a peak, as a share of the peak.",
        traded=True,
    ),
    Column(
        "max_drawdown_days",
        "Longest (days)",
        MONEY,
        "count",
        "less",
        "max",
        "Calendar days of the longest time from a peak until equity regains it, or until the data end.",
        traded=True,
    ),
    Column(
        "profit_factor",
        "Profit factor",
        MONEY,
        "number2",
        "more",
        "none",
        "Money won by winning trades over money lost by losing ones; above 1 is a profit.",
        traded=True,
    ),
    Column("trades", "Trades", MONEY, "count", "none", "sum", "Closed trades."),
    Column(
        "win_rate",
        "Win rate",
        MONEY,
        "percent1",
        "none",
        "mean",
        "Share of trades that ended above zero after costs. Says nothing without the size of wins and losses.",
    ),
    Column("exposure", "Exposure", MONEY, "percent1", "none", "mean", "Share of bars with an open position."),
    Column("turnover", "Turnover", MONEY, "number1", "none", "mean", "Traded value over average equity, per year."),
    Column("trained_parameters", "Trained", COST, "si", "less", "max", "Parameters that training changed."),
    Column("stored_bytes", "Stored", COST, "bytes", "less", "max", "Bytes on disk that this method adds to the base."),
    Column("train_seconds", "Train time", COST, "seconds", "less", "sum", "Seconds of training, validation included."),
    Column(
        "peak_memory_bytes",
        "Peak memory",
        COST,
        "bytes",
        "less",
        "max",
        "Largest resident memory of the training process.",
    ),
    Column(
        "forecast_seconds", "Inference time", COST, "seconds", "none", "sum", "Seconds to forecast the whole test part."
    ),
    Column(
        "latency_p50_ms",
        "Latency p50",
        COST,
        "ms",
        "less",
        "mean",
        "Median (p50: half take less) time of one forecast, alone, as live trading asks for it.",
    ),
    Column(
        "latency_p99_ms",
        "Latency, slowest of 30",
        COST,
        "ms",
        "none",
        "max",
        "Time of the slowest of 30 single forecasts. It says as much of the machine at that moment as of the method, so"
        " none is marked as best.",
    ),
    Column("paths_per_second", "Paths/s", COST, "si", "none", "mean", "Sampled futures a second, in batches."),
)

BY_KEY = {column.key: column for column in COLUMNS}
KEY_COLUMNS = tuple(
    BY_KEY[key]
    for key in (
        "mse_ratio",
        "crps_ratio",
        "directional_accuracy",
        "net_profit",
        "profit_before_costs",
        "total_return",
        "sharpe",
        "max_drawdown",
        "trades",
        "trained_parameters",
        "train_seconds",
        "latency_p50_ms",
    )
)
COMBINED = {
    "geometric": "overall: geometric mean over series",
    "mean": "overall: mean over series",
    "sum": "overall: sum over series",
    "max": "overall: largest over series",
    "none": "no overall figure: not comparable between series",
}


def of_group(group: str) -> tuple[Column, ...]:
    """Columns of one group, in order."""
    return tuple(column for column in COLUMNS if column.group == group)
