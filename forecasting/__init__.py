"""Closes in, predictive distributions out; this wing knows nothing of trading or sockets."""
