"""A simulated MetaTrader 5 terminal: the Expert Advisor's own code, compiled by a C++ compiler and run on Linux.

What it proves and what it does not stands in bridge/terminal/README.md: MetaEditor has the last word on whether the
code compiles.
"""
