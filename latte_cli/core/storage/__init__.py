"""Files on disk: atomic writes, validated reads, append-only journals, locks and digests."""
