"""Forecasts in, trades and money out; this wing never loads a model."""
