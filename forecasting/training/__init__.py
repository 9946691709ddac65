"""What the training loop (`forecasting.train`) is made of: settings, order and rates, precision, processes, state."""
