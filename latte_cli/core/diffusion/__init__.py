"""The diffusion process: schedule, losses and samplers. Knows a callable, never a model."""
