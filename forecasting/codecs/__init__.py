"""Closes to tokens and back; the scale is explicit state that travels with the tokens."""

from forecasting.codecs.bins import BinsCodec, BinState

__all__ = ["BinState", "BinsCodec"]
