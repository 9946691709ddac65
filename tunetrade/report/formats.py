"""Numbers as text: a column shares one scale and one number of decimals, so that the eye can compare down it."""

import math
from collections.abc import Mapping, Sequence

from tunetrade.report.columns import Column

DASH = "–"
MINUS = "\u2212"
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
DECIMALS = {"ratio": 4, "number1": 1, "number2": 2, "percent1": 1, "percent2": 2, "count": 0}


def significant(value: float, digits: int = 3) -> str:
    """A number to some significant digits, without an exponent where it is of ordinary size.

    >>> significant(0.012345), significant(12345.6), significant(1.2e-7)
    ('0.0123', '12,346', '1.20·10⁻⁷')
    """
    if not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    # The size of the rounded number: 0.9997 to three digits is 1.00, not 1.000.
    size = int(f"{value:.{digits - 1}e}".split("e")[1])
    if not -4 <= size <= 8:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{signed(mantissa)}·{power_of_ten(int(exponent))}"
    return signed(f"{value:,.{max(0, digits - 1 - size)}f}")


def rounded(value: float) -> str:
    """A large count to two digits, as an estimate is read.

    >>> rounded(1743.0), rounded(85.4)
    ('1,700', '85')
    """
    size = 10.0 ** max(0, math.floor(math.log10(value)) - 1) if value >= 1 else 1.0
    return f"{round(value / size) * size:,.0f}"


def si(value: float) -> str:
    """Counts with k, M or G.

    >>> si(860), si(12_345), si(124_000_000)
    ('860', '12.3 k', '124 M')
    """
    return _with_unit(value, ("", "k", "M", "G"), 1000.0)


def size(value: float) -> str:
    """Bytes in decimal units.

    >>> size(1234), size(12_345_678)
    ('1.23 kB', '12.3 MB')
    """
    return _with_unit(value, ("B", "kB", "MB", "GB"), 1000.0)


def power_of_ten(exponent: int) -> str:
    """`10⁻⁶` and the like."""
    return "10" + str(exponent).translate(SUPERSCRIPT)


def percent(share: float, decimals: int = 2) -> str:
    """A share as a percentage."""
    return signed(f"{100 * share:.{decimals}f}") + " %"


def small_percent(share: float) -> str:
    """A share as a percentage with two significant digits, for differences that may be tiny."""
    return f"{significant(100 * share, 2)} %"


def signed(text: str) -> str:
    """Text of a number with a true minus sign, and no sign on a zero."""
    if text.startswith("-"):
        return MINUS + text[1:] if any(char in "123456789" for char in text) else text[1:]
    return text


def visible(text: str) -> str:
    """A positive figure that would round to nothing, as a bound.

    >>> visible("0.0000"), visible("0.0012")
    ('< 0.0001', '0.0012')
    """
    return text if any(digit in text for digit in "123456789") else f"< {text[:-1]}1"


def column_unit(column: Column, values: Sequence[float], currency: str = "") -> str:
    """What stands under the column's label: its unit or the power of ten taken out."""
    if column.style == "error":
        exponent = _exponent(values)
        return f"× {power_of_ten(exponent)}" if exponent else ""
    if column.style == "money":
        return currency
    return {"percent1": "%", "percent2": "%", "ms": "ms", "seconds": "s"}.get(column.style, "")


def column_text(column: Column, value: float | None, values: Sequence[float]) -> str:
    """One figure of a column, written to the scale of all `values` of the column; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return DASH
    if column.style in WRITERS:
        return WRITERS[column.style](value)
    scale, decimals = 1.0, DECIMALS.get(column.style, 0)
    if column.style == "error":
        scale = 10.0 ** -_exponent(values)
        decimals = _decimals(scale * _largest(values), 4)
    elif column.style.startswith("percent"):
        scale = 100.0
    elif column.style == "money":
        decimals = 0 if _largest(values) >= 1000 else 2
    elif column.style == "count" and value != round(value):
        # A mean over seeds of a count need not be whole.
        decimals = 1
    return signed(f"{scale * value:,.{decimals}f}")


def column_values(column: Column, rows: Sequence[Mapping[str, float]]) -> list[float]:
    """All figures of a column that exist."""
    return [row[column.key] for row in rows if column.key in row]


WRITERS = {"seconds": significant, "ms": significant, "si": si, "bytes": size}


def _with_unit(value: float, units: Sequence[str], base: float) -> str:
    if not math.isfinite(value):
        return DASH
    index = 0
    # 999.6 k reads better as 1.00 M.
    while abs(value) >= 0.9995 * base and index < len(units) - 1:
        value, index = value / base, index + 1
    whole = index == 0 and value == round(value)
    text = f"{value:,.0f}" if whole else significant(value, 3)
    return f"{signed(text)} {units[index]}".rstrip()


def _largest(values: Sequence[float]) -> float:
    return max((abs(value) for value in values), default=0.0)


def _exponent(values: Sequence[float]) -> int:
    """Power of ten, a multiple of 3, that brings the largest value between 1 and 1000; 0 from 0.1 to 10,000."""
    largest = _largest(values)
    if largest == 0 or 0.1 <= largest < 10_000:
        return 0
    return 3 * math.floor(math.log10(largest) / 3)


def _decimals(largest: float, digits: int) -> int:
    return max(0, digits - 1 - math.floor(math.log10(largest))) if largest > 0 else 0
