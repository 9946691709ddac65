"""Closes to tokens and back; the scale is explicit state that travels with the tokens."""

from typing import Any

from forecasting.codecs.bins import BinsCodec, BinState
from forecasting.codecs.codec import Codec, positions_needed
from forecasting.codecs.digits import DigitsCodec
from forecasting.codecs.text import TextCodec
from forecasting.errors import CheckpointError, unknown

AnyCodec = BinsCodec | DigitsCodec | TextCodec

CODECS: dict[str, type[BinsCodec] | type[DigitsCodec] | type[TextCodec]] = {
    "bins": BinsCodec,
    "digits": DigitsCodec,
    "text": TextCodec,
}


def codec_from_dict(settings: dict[str, Any]) -> AnyCodec:
    """Inverse of every codec's `as_dict`; CheckpointError where no codec is of that kind."""
    kind = settings.get("kind")
    if kind not in CODECS:
        raise CheckpointError(f"codec.json: {unknown('codec', str(kind), CODECS)}")
    return CODECS[kind].from_dict(settings)


__all__ = [
    "CODECS", "AnyCodec", "BinState", "BinsCodec", "Codec", "DigitsCodec", "TextCodec", "codec_from_dict",
    "positions_needed",
]  # fmt: skip
