"""Latte: unconditional, or conditioned on class labels or CLIP's text states."""
