"""What every codec tells the rest of the program, whatever its tokens mean."""

from typing import Any, Protocol

import numpy as np

from forecasting.errors import ConfigError
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


def scale_of(
    half_lives: tuple[float, ...], weights: tuple[float, ...], power: float, dof: float, floor: float
) -> Scale:
    """The volatility of a codec with these settings; ConfigError where they make no sense."""
    try:
        return Scale(half_lives, weights, power, dof, floor)
    except ConfigError as error:
        raise ConfigError(f"codec.{error}") from None


def plain_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings read from JSON without their kind, lists as tuples."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    values.pop("kind", None)
    return values
