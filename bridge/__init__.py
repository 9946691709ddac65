"""The live link: a ZeroMQ server that streams forecasts to trading terminals."""
