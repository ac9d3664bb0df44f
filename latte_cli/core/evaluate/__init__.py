"""How good clips are: how far the set is from real ones, and how like the nearest of them each is."""
