"""The networks: Latte and what surrounds it."""
