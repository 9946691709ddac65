"""How uncertain a Sharpe ratio is: standard errors by Lo, by Mertens, and for dependent returns. Figures of a day.

Lo, "The Statistics of Sharpe Ratios", Financial Analysts Journal 58 (2002): sqrt((1 + S^2 / 2) / T) for independent
normal returns, and by the generalised method of moments for dependent ones. Mertens, "Comments on variance of the IID
estimator in Lo (2002)" (2002): sqrt((1 - g3 S + (g4 - 1) / 4 S^2) / T) for independent returns of any shape, g4 being
raw kurtosis. The dependent form is the long-run variance of the influence z - S (z^2 - 1) / 2, z being the standardised
returns; without dependence it is Mertens' form.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from forecasting.bootstrap import block_length
from forecasting.long_run import LEAST, cosines, long_run_variance
from strategies.deflated import Moments, moments


@dataclass(frozen=True)
class SharpeErrors:
    """Standard errors of a Sharpe ratio of `found.observations` returns; NaN where undefined.

    lo, mertens: for independent returns. dependent: for autocorrelated ones, with `degrees` of freedom.
    """

    found: Moments
    lo: float
    mertens: float
    dependent: float
    degrees: int


def sharpe_errors(returns: np.ndarray) -> SharpeErrors:
    """Standard errors of the Sharpe ratio of returns [D]."""
    found, count = moments(returns), len(returns)
    if not math.isfinite(found.sharpe):
        return SharpeErrors(found, math.nan, math.nan, math.nan, 0)
    mertens = 1 - found.skewness * found.sharpe + (found.kurtosis - 1) / 4 * found.sharpe**2
    used = 0
    dependent = math.nan
    if cosines(count) >= LEAST:
        used = max(LEAST, cosines(count, max(1, round(float(block_length(returns[:, None])[0])))))
        standard = (returns - returns.mean()) / returns.std()
        influence = standard - found.sharpe * (standard**2 - 1) / 2
        dependent = math.sqrt(float(long_run_variance(influence, used)) / count)
    return SharpeErrors(
        found,
        lo=math.sqrt((1 + found.sharpe**2 / 2) / count),
        mertens=math.sqrt(max(mertens, 0.0) / count),
        dependent=dependent,
        degrees=used,
    )


def probability_above(errors: SharpeErrors, benchmark: float = 0.0) -> float:
    """Probability that the true Sharpe ratio of a day lies above `benchmark`, also where returns depend on each other.

    Student's t with `errors.degrees` of freedom; `strategies.deflated.probabilistic_sharpe` is the same for independent
    returns. NaN where there is no error.
    """
    if not errors.dependent > 0:
        return math.nan
    return float(stats.t.cdf((errors.found.sharpe - benchmark) / errors.dependent, errors.degrees))
