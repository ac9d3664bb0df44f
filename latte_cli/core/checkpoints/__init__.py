"""Weights in files: PyTorch, safetensors and MindSpore, read without executing anything."""
