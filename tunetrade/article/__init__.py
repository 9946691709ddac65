"""The source articles' protocol, reproduced as published and repaired: what its figures say, and what they hide."""
