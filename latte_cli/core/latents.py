"""What latents are: the constants of Stable Diffusion's autoencoder (Rombach et al. 2022)."""

VAE_FACTOR = 8
"""Pixels of a frame's side to one of its latents': three halvings."""
LATENT_CHANNELS = 4
SCALING_FACTOR = 0.18215
"""Latents are the encoder's draw times this, about one over their standard deviation."""
LOGVAR_RANGE = (-30.0, 20.0)
"""The encoder's log-variance is clipped to it, as in diffusers' DiagonalGaussianDistribution."""
