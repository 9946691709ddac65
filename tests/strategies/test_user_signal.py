"""A user's own signal: found by name, held to the checks that ours pass, and wrong in one line."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made import make_bars, make_forecasts

from forecasting.errors import ConfigError, UserError
from strategies.contract import BrokerRules
from strategies.market import market_of
from strategies.plans import plan_of
from strategies.rules import TradingRules
from strategies.user_signal import signal_sha

BARS = make_bars(np.linspace(1.1, 1.2, 12), np.linspace(1.1, 1.2, 12))
FORECASTS = make_forecasts(BARS, np.arange(4, 9), BARS.closes[4:9, None] + [[0.01, -0.02]])


def plan(file, function="moves", forecasts=FORECASTS):
    rules, broker = TradingRules(signal=f"{file}:{function}", stop="points:100"), BrokerRules()
    return plan_of(BARS, BARS, forecasts, rules, broker, market_of(BARS, broker), 3)


def written(folder, body, head="def moves(forecasts, market, rules):"):
    file = folder / "my signal.py"
    file.write_text(f"import numpy as np\n{head}\n    {body}\n", encoding="utf-8")
    return file


def test_its_moves_decide_and_all_else_is_as_ever(tmp_path):
    file = written(tmp_path, "return forecasts.mean[:, 0] - market.last_close - 0.004 * rules.lots")
    found = plan(file)
    assert found.side.tolist() == [0] * 4 + [1] * 6 + [0] * 2
    assert found.stop[4] == round(BARS.closes[4] - 0.001, 5)
    assert found.reasons[4] == f"long: {file}:moves +0.0096 beyond 1e-05"
    assert plan(written(tmp_path, "return np.full(len(forecasts), 0.9e-5)")).side.tolist() == [0] * 12


def test_the_example_of_the_documentation_trades(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "EXECUTION.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    file = tmp_path / "my_signal.py"
    file.write_text(code, encoding="utf-8")
    cone = np.array([0.99, 0.995, 0.998, 1.0, 1.002, 1.01, 1.02])
    quantiles = BARS.closes[4:9, None, None] * np.stack([np.ones(7), cone], axis=1)
    quantiles[3] = quantiles[3] * 0.98
    found = plan(file, forecasts=replace(FORECASTS, quantiles=quantiles))
    assert found.side[4:9].tolist() == [1, 1, 1, -1, 1]


def test_it_stays_flat_within_twice_its_error(tmp_path):
    """Its own errors where it gives them, else those of the mean of the last step."""
    errors = np.full((5, 2), [9.0, 4.9e-4])
    errors[3, 1] = 5.1e-4
    unsure = replace(FORECASTS, mean_se=errors)
    assert plan(written(tmp_path, "return np.full(len(forecasts), 1e-3)"), forecasts=unsure).side[4:9].tolist() == [
        1, 1, 1, 0, 1,
    ]  # fmt: skip
    own = "return np.full(len(forecasts), -1e-3), np.where(market.last_close > 1.15, 5.1e-4, 4.9e-4)"
    wanted = np.where(BARS.closes[4:9] > 1.15, 0, -1).tolist()
    assert plan(written(tmp_path, own), forecasts=unsure).side[4:9].tolist() == wanted
    assert set(wanted) == {0, -1}


def test_it_cannot_reach_the_records_that_decide(tmp_path):
    body = "x = forecasts.mean; x = x if x.base is None else x.base; x.flags.writeable = True; x[:] = 9; return x[:, 0]"
    before = FORECASTS.mean.copy()
    assert plan(written(tmp_path, body)).side[4] == 1
    assert FORECASTS.mean.tobytes() == before.tobytes()


def test_its_file_is_part_of_what_a_result_depends_on(tmp_path):
    file = written(tmp_path, "return forecasts.mean[:, 0]")
    first = signal_sha(f"{file}:moves")
    assert plan(file).side[4] == 1
    written(tmp_path, "return -forecasts.mean[:, 0]")
    assert plan(file).side[4] == -1
    assert signal_sha(f"{file}:moves") != first != signal_sha("threshold") == ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return 1 / 0", ("failed: ZeroDivisionError: division by zero (line 3)",)),
        ("raise KeyError('a\\nb')", ("failed: KeyError", "(line 3)")),
        ("return np.zeros(3)", ("gave shape (3,) for 5 cutoffs", "one move for each")),
        ("return forecasts.mean", ("gave shape (5, 2) for 5 cutoffs",)),
        ("return None", ("for 5 cutoffs",)),
        ("return np.zeros(5), np.zeros(4)", ("gave shape (4,) for 5 cutoffs", "one standard error for each")),
        ("return np.zeros(len(forecasts)), np.full(len(forecasts), -1.0)", ("a standard error of -1", "0 or more")),
        ("return (np.zeros(5),) * 3", ("a tuple of 3", "moves and standard errors")),
        ("x = forecasts.sigma; return x, x + len(x)", ("its standard error at", "its own row only")),
        ("x = forecasts.sigma; return (x, x) if len(x) > 1 else x", ("for some cutoffs only",)),
        ("return ['up'] * 5", ("failed: ValueError",)),
        ("return np.where(forecasts.mean[:, 0] > 1.15, np.nan, 0)", ("gave nan", "2021-03-01T06:00")),
        ("return np.full(5, np.inf)", ("gave inf", "give 0 to stay flat")),
        ("forecasts.mean[:] = 2; return forecasts.mean[:, 0]", ("read-only",)),
        ("return np.arange(len(forecasts)) / 10", ("among 5 cutoffs and 0 alone", "its own row only")),
        ("x = market.last_close; return np.where(x == x[1 % len(x)], np.append(x[1:], x[-1]) - x, 0)", ("among 3",)),
        ("return forecasts.mean[:, 0] - forecasts.mean.max()", ("among 5 cutoffs", "its own row only")),
    ],
)
def test_what_is_wrong_names_file_function_and_cause_in_one_line(tmp_path, body, words):
    file = written(tmp_path, body)
    with pytest.raises(UserError) as caught:
        plan(file)
    message = str(caught.value)
    assert message.startswith(f"signal '{file}:moves'")
    assert "\n" not in message
    assert all(word in message for word in words)


@pytest.mark.parametrize(
    ("head", "function", "words"),
    [
        ("def moves(:", "moves", "cannot be loaded: SyntaxError"),
        ("raise RuntimeError('no')\ndef moves():", "moves", "cannot be loaded: RuntimeError: no (line 2)"),
        ("def moves():", "move", "has no function move; define `def move(...)` there"),
        ("def moves():", "", "must be a file and a function"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_rules(tmp_path, head, function, words):
    file = written(tmp_path, "return 0", head)
    with pytest.raises(ConfigError) as caught:
        TradingRules(signal=f"{file}:{function}")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no file nowhere\.py; name it as seen from"):
        TradingRules(signal="nowhere.py:moves")
    with pytest.raises(ConfigError, match=r"must be a file and a function, such as my_signal\.py:moves"):
        TradingRules(signal="nowhere.py")
