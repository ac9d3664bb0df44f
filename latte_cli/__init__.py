"""Latte, the latent diffusion transformer for video, on MindSpore with MindONE."""

__version__ = "0.1.0"
