"""The diffusion process: schedule, losses and samplers, for any callable model."""
