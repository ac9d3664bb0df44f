"""Text-to-video pipelines as folders in diffusers' layout."""
