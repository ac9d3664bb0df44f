"""Text encoders: T5 and CLIP."""
