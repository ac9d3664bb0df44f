"""One readable use case a module: convert, cache, train, sample, bench."""
