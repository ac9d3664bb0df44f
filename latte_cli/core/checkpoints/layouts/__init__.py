"""Tensor names and shapes of each kind of model."""
