"""Speed and memory claims, as ratios measured side by side in one run."""
