"""The networks: transformers, autoencoder, text encoders, I3D."""
