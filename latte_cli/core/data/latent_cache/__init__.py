"""The cache of latents: its format, writing, reading and checking it."""
