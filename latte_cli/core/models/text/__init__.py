"""Texts to the states that a transformer reads."""
