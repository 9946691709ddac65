"""Where bars come from: one module a kind of source, each turning its format into the table that bars.py checks."""
