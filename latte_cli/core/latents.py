"""Constants of Stable Diffusion's autoencoder and its latents (Rombach et al. 2022)."""

VAE_FACTOR = 8
"""Downsampling factor of height and width: three halvings."""
LATENT_CHANNELS = 4
SCALING_FACTOR = 0.18215
"""Latents are encoder samples times this, about one over their standard deviation."""
LOGVAR_RANGE = (-30.0, 20.0)
"""Clipping range of the encoder's log-variance, as in diffusers' DiagonalGaussianDistribution."""
