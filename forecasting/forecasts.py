"""The record that crosses from the model to everything else: what is believed about the next H closes at each cutoff.

It holds NumPy arrays only and travels as a long Parquet table, so signals, backtests and reports run without torch.
"""

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from forecasting.errors import DataError

QUANTILE_LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
QUANTILE_COLUMNS = tuple(f"q{round(100 * level):02d}" for level in QUANTILE_LEVELS)
TABLE_COLUMNS = (
    "unique_id", "cutoff", "ds", "h", "y", "mean", "mean_se", *QUANTILE_COLUMNS, "p_up", "p_up_se", "crps",
    "anchor", "sigma", "input_sha", "crps_noise",
)  # fmt: skip


@dataclass(frozen=True)
class Forecast:
    """What is believed at one cutoff; prices in quote currency.

    cutoff: close time of the last context bar, datetime64[ns] UTC. ds [H]: the calendar's stamps of the bars ahead.
    anchor: the last close. sigma: one-bar volatility of simple returns at step 1. mean [H], mean_se [H]: predictive
    mean and its Monte Carlo standard error (0 at step 1, which is exact). quantiles [Q, H] at QUANTILE_LEVELS. p_up
    [H]: probability of a close above the anchor (a tie counts half).
    """

    unique_id: str
    cutoff: np.datetime64
    ds: np.ndarray
    anchor: float
    sigma: float
    mean: np.ndarray
    mean_se: np.ndarray
    quantiles: np.ndarray
    p_up: np.ndarray
    p_up_se: np.ndarray
    input_sha: str

    @property
    def horizon(self) -> int:
        """Number of bars forecast, H."""
        return len(self.mean)


@dataclass(frozen=True)
class Forecasts:
    """Forecasts at N cutoffs of one series, in time order; each field is `Forecast`'s with a leading axis [N, ...]."""

    unique_id: str
    cutoff: np.ndarray
    ds: np.ndarray
    anchor: np.ndarray
    sigma: np.ndarray
    mean: np.ndarray
    mean_se: np.ndarray
    quantiles: np.ndarray
    p_up: np.ndarray
    p_up_se: np.ndarray
    input_sha: np.ndarray

    def __len__(self) -> int:
        return len(self.cutoff)

    @property
    def horizon(self) -> int:
        """Number of bars forecast, H."""
        return int(self.mean.shape[1])

    def row(self, index: int) -> Forecast:
        """The forecast at one cutoff."""
        return Forecast(
            unique_id=self.unique_id,
            cutoff=self.cutoff[index],
            ds=self.ds[index],
            anchor=float(self.anchor[index]),
            sigma=float(self.sigma[index]),
            mean=self.mean[index],
            mean_se=self.mean_se[index],
            quantiles=self.quantiles[index],
            p_up=self.p_up[index],
            p_up_se=self.p_up_se[index],
            input_sha=str(self.input_sha[index]),
        )


def concatenate(parts: list[Forecasts]) -> Forecasts:
    """Join forecasts of one series made in successive chunks."""
    arrays = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Forecasts)
        if field.name != "unique_id"
    }
    return Forecasts(unique_id=parts[0].unique_id, **arrays)


def to_table(forecasts: Forecasts, y: np.ndarray, crps: np.ndarray, crps_noise: np.ndarray) -> pd.DataFrame:
    """Long table with a row for each cutoff and step, columns TABLE_COLUMNS.

    y [N, H]: the closes that came (NaN where not yet known); crps [N, H]: the score of each predictive distribution,
    computed where the paths were still at hand; crps_noise [N, H]: one draw of each score's sampling noise, signed, 0
    where it is exact (`distributions.crps_noise`).
    """
    count, horizon = forecasts.mean.shape

    def steps(values: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(values).reshape(-1)

    def repeated(values: np.ndarray) -> np.ndarray:
        return np.repeat(values, horizon)

    columns: dict[str, object] = {
        "unique_id": np.full(count * horizon, forecasts.unique_id, dtype=object),
        "cutoff": pd.DatetimeIndex(repeated(forecasts.cutoff)).tz_localize("UTC"),
        "ds": pd.DatetimeIndex(steps(forecasts.ds)).tz_localize("UTC"),
        "h": np.tile(np.arange(1, horizon + 1, dtype=np.int16), count),
        "y": steps(y),
        "mean": steps(forecasts.mean),
        "mean_se": steps(forecasts.mean_se),
        "p_up": steps(forecasts.p_up),
        "p_up_se": steps(forecasts.p_up_se),
        "crps": steps(crps),
        "crps_noise": steps(crps_noise),
        "anchor": repeated(forecasts.anchor),
        "sigma": repeated(forecasts.sigma),
        "input_sha": repeated(forecasts.input_sha.astype(object)),
    }
    columns |= {name: steps(forecasts.quantiles[:, q]) for q, name in enumerate(QUANTILE_COLUMNS)}
    return pd.DataFrame({name: columns[name] for name in TABLE_COLUMNS})


_INCOMPLETE = "forecast table is incomplete: a cutoff lacks steps; make it anew with `tunetrade forecast`"


def from_table(table: pd.DataFrame) -> Forecasts:
    """Inverse of `to_table`, without the truth columns.

    Raises DataError where the table does not hold every step of every cutoff, in order, of one series.
    """
    horizon = int(table["h"].max()) if len(table) else 0
    if not horizon or len(table) % horizon or table["unique_id"].nunique() != 1:
        raise DataError(_INCOMPLETE)

    def grid(name: str) -> np.ndarray:
        return np.asarray(table[name].to_numpy(np.float64).reshape(-1, horizon))

    def stamps(name: str) -> np.ndarray:
        naive = table[name].dt.tz_convert("UTC").dt.tz_localize(None)
        return np.asarray(naive.to_numpy("datetime64[ns]").reshape(-1, horizon))

    cutoff = stamps("cutoff")
    if (grid("h") != np.arange(1, horizon + 1)).any() or (cutoff != cutoff[:, :1]).any():
        raise DataError(_INCOMPLETE)
    return Forecasts(
        unique_id=str(table["unique_id"].iloc[0]),
        cutoff=cutoff[:, 0],
        ds=stamps("ds"),
        anchor=grid("anchor")[:, 0],
        sigma=grid("sigma")[:, 0],
        mean=grid("mean"),
        mean_se=grid("mean_se"),
        quantiles=np.stack([grid(name) for name in QUANTILE_COLUMNS], axis=1),
        p_up=grid("p_up"),
        p_up_se=grid("p_up_se"),
        input_sha=table["input_sha"].to_numpy(object)[::horizon].astype(str),
    )
