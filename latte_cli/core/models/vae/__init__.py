"""The autoencoder between frames and latents."""
