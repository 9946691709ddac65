"""The one exception family that reaches a user.

Everything a user can cause and cure is a `UserError`: the command line prints its message as one line, exits non-zero
and shows no traceback. Any other exception is a defect of ours and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A fault the user can cure; the message names the offender and the cure."""


class DataError(UserError):
    """A source of bars that cannot be read or does not hold together."""


class ConfigError(UserError):
    """A study file, option or setting that is unknown, out of range or contradictory."""


class OptionError(ConfigError):
    """A setting of a record that begins with its bare name: whoever knows the section puts that before it."""


class CheckpointError(UserError):
    """A base model or run folder that is missing, damaged or of another shape than asked for."""


class LostProcessError(UserError):
    """A process that trains along with this one has ended; why, it has told itself."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Message for an unknown name: says which exist and, where one is close, the nearest.

    >>> unknown("method", "lorra", ["full", "lora"])
    "unknown method 'lorra' (did you mean 'lora'?); known: full, lora"
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    return f"unknown {kind} {name!r}{hint}; known: {', '.join(names)}"
