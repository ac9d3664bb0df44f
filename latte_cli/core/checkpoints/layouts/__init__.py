"""The names that each kind of model gives its tensors."""
