"""Descriptions and costs of sampling with reuse, for plans."""

from pathlib import Path

from latte_cli.core.diffusion.reuse import FullSteps


def full_steps_text(full_steps: FullSteps, steps: int, file: Path | None) -> str:
    """Which steps are computed in full. file: their source; None if they are evenly spaced."""
    places = " ".join(map(str, full_steps))
    return f"{len(full_steps)} of {steps}, {f'from {file}' if file else 'evenly spaced'}: {places}"


def guidance_text(scale: float, every: int) -> str:
    """Guidance, to follow the number of steps; empty without guidance."""
    if scale == 1:
        return ""
    often = "" if every == 1 else f", both branches once in {every} full steps"
    return f", guidance {scale:g}{often}"


def forward_passes(steps: int, full_steps: FullSteps | None, *, guided: bool, guidance_every: int) -> int:
    """Number of full forward passes for a clip, counting each branch of guidance."""
    full = steps if full_steps is None else len(full_steps)
    return full + -(-full // guidance_every) if guided else full
