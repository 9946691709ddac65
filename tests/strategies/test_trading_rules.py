import dataclasses
import re
from pathlib import Path

import pytest

from forecasting.errors import ConfigError, OptionError
from strategies.contract import BrokerRules
from strategies.rules import TradingRules
from strategies.signals import SignalRules


def test_defaults_hold_together_and_are_plain():
    values = dataclasses.asdict(TradingRules())
    assert all(isinstance(value, (int, float, str)) for value in values.values())
    assert TradingRules(**values) == TradingRules()


def test_every_key_and_default_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "STUDY.md").read_text(encoding="utf-8")
    for section, record in (("trading", TradingRules()), ("broker", BrokerRules())):
        (row,) = (line for line in text.split("\n") if line.startswith(f"| `[{section}]`"))
        for key, value in dataclasses.asdict(record).items():
            assert f"`{key}`" in row, key
            if isinstance(value, float) and value:
                assert re.search(rf"`{key}`( and `\w+`)? {value:g}\b|`{key}` {value}0?\b", row), key


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("signal", "mean-vs-lats"),
        ("threshold_k", -0.1),
        ("lots", 0.0),
        ("lots", float("nan")),
        ("lots", True),
        ("probability_margin", 0.5),
        ("probability_margin", float("nan")),
        ("quantile_level", 0.2),
        ("quantile_level", 0.5),
        ("sizing", "kely"),
        ("risk_percent", 101.0),
        ("target_volatility", -0.1),
        ("kelly_fraction", 1.5),
        ("max_lots", 0.0),
        ("max_leverage", float("inf")),
        ("stop", "150"),
        ("stop", "points:-1"),
        ("stop", "atr:nan"),
        ("stop", "atr:"),
        ("stop", "quantile:0.95"),
        ("take_profit", "quantile:0.05"),
        ("take_profit", "quantile:0.9000001"),
        ("trailing", "quantile:0.05"),
        ("trailing", "pips:10"),
        ("expiry_bars", -1),
        ("expiry_bars", 1.5),
    ],
)
def test_a_wrong_value_is_named_with_its_field_and_a_cure(field, value):
    with pytest.raises(ConfigError) as caught:
        TradingRules(**{field: value})
    message = str(caught.value)
    assert message.startswith(field) or field == "signal"
    assert repr(value) in message
    assert any(words in message for words in ("such as", "did you mean", "it must be", "quantiles for it are"))


def test_what_goes_together_is_checked_together():
    with pytest.raises(OptionError, match=r'sizing is "risk", which needs a stop'):
        TradingRules(sizing="risk")
    assert TradingRules(sizing="risk", trailing="atr:2.0").trailing == "atr:2.0"
    with pytest.raises(OptionError, match=r"lots is 2\.0, above max_lots 1\.0"):
        TradingRules(lots=2.0, max_lots=1.0)


def test_a_signal_sees_every_rule_that_decides():
    rules = TradingRules(
        "quantile", 2.0, 0.2, 0.1, 0.25, "risk", 2.0, 0.2, 0.5, 50.0, 5.0, "atr:1", "atr:2", "atr:3", 2
    )
    seen = rules.signal_rules
    for field in dataclasses.fields(TradingRules):
        if field.name != "resize":
            assert getattr(seen, field.name) == getattr(rules, field.name) != getattr(TradingRules(), field.name)
    added = {field.name for field in dataclasses.fields(SignalRules)} - set(dataclasses.asdict(rules))
    assert added == {"broker", "bars_per_year"}
