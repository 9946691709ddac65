"""What every codec tells the rest of the program, whatever its tokens mean."""

from functools import cached_property
from typing import Any, Protocol

import numpy as np

from forecasting.errors import ConfigError, DataError
from forecasting.scale import Scale


class Codec(Protocol):
    """Closes to tokens. Codecs of one token a bar are sampled by `sampler`, those of several by `spelling`."""

    @property
    def vocabulary(self) -> int:
        """Number of tokens a model of this codec has."""
        ...

    @property
    def warm_up(self) -> int:
        """Closes before a context from which only the scale is taken, M."""
        ...

    @property
    def scale(self) -> Scale:
        """How volatility follows returns."""
        ...

    @property
    def cuts(self) -> bool:
        """Whether a context too long for the model may lose its oldest closes."""
        ...

    def encode(self, closes: np.ndarray, times: np.ndarray, tokens: int) -> tuple[np.ndarray | list[np.ndarray], Any]:
        """Ids of each window's last `tokens` closes, N rows, equally long where they are one array; and the state."""
        ...

    def most_tokens(self, closes: int) -> int:
        """Tokens of the longest text of so many closes."""
        ...

    def check_windows(self, context: int, horizon: int) -> None:
        """ConfigError where the codec cannot write such windows."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """Plain settings for `codec.json`, its `kind` among them."""
        ...


def positions_needed(codec: Codec, context: int, horizon: int) -> int:
    """Positions a model must have for such windows; the last token predicted is never read."""
    return codec.most_tokens((1 if codec.cuts else context) + horizon) - 1


class Scaled:
    """A codec's volatility, of the settings that every codec has."""

    half_lives: tuple[float, ...]
    weights: tuple[float, ...]
    power: float
    dof: float
    floor: float

    @cached_property
    def scale(self) -> Scale:
        """How volatility follows returns; ConfigError where the settings make no sense."""
        try:
            return Scale(self.half_lives, self.weights, self.power, self.dof, self.floor)
        except ConfigError as error:
            raise ConfigError(f"codec.{error}") from None

    @property
    def warm_up(self) -> int:
        """Closes before a context from which only the scale is taken, M."""
        return self.scale.warm_up


def check_closes(closes: np.ndarray) -> None:
    """DataError where a close cannot be encoded; closes [N, T]."""
    if not np.all(np.isfinite(closes) & (closes > 0)):
        value = closes[~(np.isfinite(closes) & (closes > 0))].flat[0]
        raise DataError(f"a close is {value}; closes must be positive and finite: drop or fill such bars first")


def plain_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings read from JSON without their kind, lists as tuples."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    values.pop("kind", None)
    return values
