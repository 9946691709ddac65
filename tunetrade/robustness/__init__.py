"""Robustness: what a tuned model and its trading do when prices go wrong. See docs/ROBUSTNESS.md."""
