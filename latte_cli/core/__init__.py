"""What the commands share: models, data, diffusion, training and the recipes that join them."""
