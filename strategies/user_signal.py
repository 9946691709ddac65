"""A user's own signal, `signal = "path/to/file.py:function"`: found, loaded and checked as strictly as ours.

The file is code of the user's own and runs as such; its hash stands in every fingerprint and every line of the ledger.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from forecasting.errors import ConfigError, UserError
from forecasting.files import sha256_of

Moves = Callable[[Any, Any, Any], Any]
"""(forecasts, market, rules) -> moves [N], or a tuple of moves and their standard errors; see `strategies.views`."""

_loaded: dict[tuple[str, str], Moves] = {}


def is_user_signal(name: str) -> bool:
    """Whether a signal's name is a place in a Python file rather than one of ours."""
    return name.endswith(".py") or ".py:" in name


def place_of(name: str) -> tuple[Path, str]:
    """File and function of a name; ConfigError where it is not one or the file is not there."""
    path, colon, function = name.rpartition(":")
    if not colon or not path.endswith(".py") or not function.isidentifier():
        raise ConfigError(f"signal {name!r} must be a file and a function, such as my_signal.py:moves")
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"signal {name!r}: there is no file {path}; name it as seen from {Path.cwd()}")
    return file, function


def signal_sha(name: str) -> str:
    """Hash of the file of a user's signal, "" for ours: part of what a result depends on."""
    return sha256_of(place_of(name)[0]) if is_user_signal(name) else ""


def user_moves(name: str) -> Moves:
    """The function of a name, loaded once for each content of its file; ConfigError says what is wrong with it."""
    file, function = place_of(name)
    key = (name, sha256_of(file))
    if key not in _loaded:
        _loaded[key] = _load(name, file, function)
    return _loaded[key]


def _load(name: str, file: Path, function: str) -> Moves:
    spec = importlib.util.spec_from_file_location(f"tunetrade_signal_{sha256_of(str(file))[:16]}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's code raises
        raise ConfigError(f"signal {name!r}: {file} cannot be loaded: {_cause(error, file)}; mend the file") from error
    found = getattr(module, function, None)
    if not callable(found):
        raise ConfigError(f"signal {name!r}: {file} has no function {function}; define `def {function}(...)` there")
    return found  # type: ignore[no-any-return]


def asked(name: str, forecasts: Any, market: Any, rules: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Moves [N] of a user's signal and their standard errors where it gives some, float64.

    UserError in one line names the file, the function and the cause. The function gets copies, so what it writes to
    them is lost. Every row is asked for again without its neighbours, and the first, the middle and the last alone: a
    signal whose answer depends on other cutoffs than its own may know the future, and would not trade live as it did
    in the backtest.
    """
    answer = _checked(name, forecasts, market, rules)
    count = len(forecasts)
    single = [slice(row, row + 1) for row in sorted({0, count // 2, count - 1})]
    for part in [*single, slice(0, None, 2), slice(1, None, 2)] if count > 1 else ():
        fewer = _checked(name, some_rows(forecasts, part), some_rows(market, part), rules)
        if len(fewer) != len(answer):
            raise UserError(f"signal {name!r} gives standard errors for some cutoffs only; give them for all or none")
        for what, many, few in zip(("move", "standard error"), answer, fewer, strict=False):
            strange = np.flatnonzero(~np.isclose(few, many[part], rtol=1e-9, atol=0))
            if len(strange):
                row = int(np.arange(count)[part][strange[0]])
                raise UserError(
                    f"signal {name!r}: its {what} at {forecasts.cutoff[row]} is {many[row]:g} among {count} cutoffs "
                    f"and {few[strange[0]]:g} {'alone' if len(few) == 1 else f'among {len(few)}'}; each row must "
                    "depend on its own row only"
                )
    return answer[0], answer[1] if len(answer) == 2 else None


def some_rows(record: Any, part: slice) -> Any:
    """A record of arrays [N, ...] reduced to some of its rows."""
    arrays = {field.name: getattr(record, field.name) for field in fields(record)}
    return replace(record, **{k: v[part] for k, v in arrays.items() if isinstance(v, np.ndarray)})


def _checked(name: str, forecasts: Any, market: Any, rules: Any) -> tuple[np.ndarray, ...]:
    """Moves, or moves and standard errors, of so many rows as asked for."""
    try:
        given = user_moves(name)(_copied(forecasts), _copied(market), rules)
        answer = [np.asarray(values, np.float64) for values in (given if isinstance(given, tuple) else (given,))]
    except UserError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise UserError(f"signal {name!r} failed: {_cause(error, place_of(name)[0])}; mend that function") from error
    if len(answer) > 2:
        raise UserError(f"signal {name!r} gave a tuple of {len(answer)}; give moves, or moves and standard errors")
    for what, values in zip(("move", "standard error"), answer, strict=False):
        _check_values(name, what, values, forecasts)
    return tuple(answer)


def _check_values(name: str, what: str, values: np.ndarray, forecasts: Any) -> None:
    if values.shape != (len(forecasts),):
        raise UserError(
            f"signal {name!r} gave shape {values.shape} for {len(forecasts)} cutoffs; give one {what} for each"
        )
    wrong = ~np.isfinite(values)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"signal {name!r} gave {values[at]} (NaN or endless) at {forecasts.cutoff[at]}; give 0 to stay flat"
        )
    if what == "standard error" and (values < 0).any():
        at = int(np.flatnonzero(values < 0)[0])
        raise UserError(
            f"signal {name!r} gave a standard error of {values[at]:g} at {forecasts.cutoff[at]}; give 0 or more"
        )


def _copied(record: Any) -> Any:
    """A record of copies that refuse to be written to, so that a slip shows."""
    arrays = {field.name: getattr(record, field.name) for field in fields(record)}
    copies = {name: value.copy() for name, value in arrays.items() if isinstance(value, np.ndarray)}
    for copy in copies.values():
        copy.flags.writeable = False
    return replace(record, **copies)


def _cause(error: Exception, file: Path) -> str:
    """Type and message of an exception and the line of the user's file that led to it, in one line."""
    trace, line = error.__traceback__, getattr(error, "lineno", None)
    while trace:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f" (line {line})" if line else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"
