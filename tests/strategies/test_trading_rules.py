import dataclasses

import pytest

from forecasting.errors import ConfigError
from strategies.rules import TradingRules


def test_defaults_hold_together_and_are_plain():
    values = dataclasses.asdict(TradingRules())
    assert all(isinstance(value, (int, float, str)) for value in values.values())
    assert TradingRules(**values) == TradingRules()
    assert TradingRules().units == 10_000
    assert TradingRules(commission_per_lot=3.5).commission_per_unit == pytest.approx(3.5e-5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("signal", "mean-vs-lats"),
        ("threshold_k", -0.1),
        ("lots", 0.0),
        ("lots", float("nan")),
        ("lot_units", -1.0),
        ("deposit", 0.0),
        ("leverage", 0),
        ("leverage", float("inf")),
        ("spread_points", -1),
        ("spread_points", "dta"),
        ("spread_points", float("nan")),
        ("commission_per_lot", -3.5),
        ("commission_per_lot", True),
        ("probability_margin", 0.5),
        ("probability_margin", float("nan")),
    ],
)
def test_a_wrong_value_is_named_with_its_field_and_a_cure(field, value):
    with pytest.raises(ConfigError) as caught:
        TradingRules(**{field: value})
    message = str(caught.value)
    assert field in message
    assert repr(value) in message
    assert "such as" in message or "did you mean" in message
