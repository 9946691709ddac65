"""The face of the house: one command that ties forecasting, strategies and bridge together."""

__version__ = "0.1.0"
