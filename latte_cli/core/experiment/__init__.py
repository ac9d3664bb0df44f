"""Load experiment files and check them."""
