"""One use case per module: convert, cache, train, sample, evaluate, bench."""
