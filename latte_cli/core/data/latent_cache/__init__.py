"""The cache of latents: format, writing, reading and verification."""
