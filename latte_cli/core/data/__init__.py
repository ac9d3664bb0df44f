"""Clips: finding, decoding, transforming and batching them; the cache of latents."""
