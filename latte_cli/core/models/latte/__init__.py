"""Latte, unconditional, on class labels or on CLIP's states."""
