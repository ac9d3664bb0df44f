"""Latte-1's text-to-video transformer, with diffusers' names."""
