"""Kernels for what MindSpore is slow at on CPU, each with plain operators as the other path."""
