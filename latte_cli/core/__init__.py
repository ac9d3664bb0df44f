"""The library behind the commands: models, data, diffusion, training and the recipes that combine them."""
