"""Files on disk: written whole, read with checks, appended line by line, locked, and their digests."""
