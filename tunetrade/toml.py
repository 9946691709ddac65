"""Plain values as TOML, the inverse of `tomllib` for what a study file holds."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> str:
    """A document of numbers, texts, lists and nested sections; ends in a newline.

    >>> print(toml({"name": "a", "method": {"p-tuning": {"tokens": 8, "learning_rate": 1e-05}}}), end="")
    name = "a"
    <BLANKLINE>
    [method.p-tuning]
    tokens = 8
    learning_rate = 1e-05
    """
    own = [f"{_key(key)} = {_value(value)}" for key, value in values.items() if not isinstance(value, Mapping)]
    inner = [toml(value, (*path, key)) for key, value in values.items() if isinstance(value, Mapping)]
    head = [f"[{'.'.join(map(_key, path))}]"] if path and (own or not inner) else []
    block = "\n".join([*head, *own])
    return "\n".join([*([block + "\n"] if block else []), *inner])


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_value, value))}]"
    raise TypeError(f"TOML has no way to write {value!r}")
