"""Videos: find, label and read them, and cut clips from them."""
