"""The error of fewer full steps: python tests/endurance/reuse.py RUN_DIR [--steps 50 --full 25] (see --help).

Measures stretches of reuse on a few clips of a run, then samples other clips by schedules with the same
number of full steps: the calibrated one, evenly spaced ones, and TeaCache's rule (arXiv 2411.19108). By that
rule a step is full if the changes of the first block's modulated input since the last full step, mapped by a
polynomial, add up to a threshold, here the one that gives this clip as many full steps. The polynomial is
that of Latte-1, one fitted to this model's outputs, or none. Prints a table of PSNR to the clips with every
step in full. --speed measures the time of denoising instead, in turns.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.checkpoints.layouts.matching import TIMESTEP_CHANNELS
from latte_cli.core.checkpoints.runs import chosen_checkpoint
from latte_cli.core.diffusion.reuse import even_schedule, minimax_schedule
from latte_cli.core.evaluate.pixels import psnr, squared_distances
from latte_cli.core.experiment.loading import load_settings
from latte_cli.core.machine.device import use_device
from latte_cli.core.models.positions import timestep_rows
from latte_cli.core.sampling.decoding import load_decoder
from latte_cli.core.sampling.denoise import Denoiser, Trajectory, class_condition
from latte_cli.core.sampling.from_run import guidance_of, load_trained, walk_of
from latte_cli.core.sampling.stretches import longest_stretch, stretch_errors
from latte_cli.core.settings.schema import Settings

Array = NDArray[Any]
HELD_OUT = 1000  # seed of the first clip that is not used for calibration
POLYNOMIAL = (
    -2464.34137,
    308.044764,
    80.7447667,
    -4.11385132,
    0.111001402,
)  # of Latte-1, highest power first
THRESHOLDS = 20  # tried by bisection
LOWEST = -100.0  # threshold; the polynomial is negative for changes above 0.25


class Run:
    """The clips of a trained run by one sampler."""

    def __init__(self, settings: Settings):
        self.settings, self.sample = settings, settings.sample
        use_device(settings.device)
        self.model: Any = load_trained(settings, chosen_checkpoint(settings, None))
        self.denoiser = Denoiser(self.model)
        self.steps, self.walk = walk_of(settings, self.sample)
        side = settings.data.image_size
        self.decode = load_decoder(settings.vae, side, side)

    def clip(self, seed: int, place: int) -> Trajectory:
        classes = self.denoiser.num_classes
        return Trajectory(
            denoiser=self.denoiser,
            walk=self.walk,
            evaluations=self.steps,
            condition=class_condition(None if classes is None else place % classes, classes),
            seed=seed,
            guidance_scale=guidance_of(self.sample, conditional=classes is not None),
            guidance_every=self.sample.guidance_every,
        )

    def frames(self, steps: Iterator[Any]) -> Array:
        *_, last = steps
        return self.decode(np.asarray(last.x_t[0], np.float32))

    def modulated(self, clip: Trajectory, x_t: Array, timesteps: Array) -> Array:
        """The modulated input of the first block, in the conditional branch."""
        model, inputs = self.model, np.ascontiguousarray(x_t, np.float32)
        prepared = model.prepare(clip.condition[0][:, None])
        condition = model.modulation(timestep_rows(TIMESTEP_CHANNELS, timesteps), prepared)[0]
        parts = np.asarray(model.blocks[0].adaLN_modulation(condition)).reshape(1, 6, 1, -1)
        tokens = np.asarray(model.embed(inputs), np.float64)
        centred = tokens - tokens.mean(-1, keepdims=True)
        normal = centred / np.sqrt(tokens.var(-1, keepdims=True) + 1e-6)
        return np.asarray(normal * (1 + parts[:, 1]) + parts[:, 0])


def teacache(
    run: Run, clip: Trajectory, threshold: float, polynomial: Sequence[float]
) -> tuple[Iterator[Any], list[int]]:
    """The steps of a clip by TeaCache's rule, and a list of the full ones, complete after the last step."""
    model, places, full = clip.model(), count(), []
    before: Array = np.zeros(0)
    added = 0.0

    def evaluate(x_t: Array, timesteps: Array) -> Array:
        nonlocal before, added
        place, now = next(places), run.modulated(clip, x_t, timesteps)
        if 0 < place < run.steps - 1:
            added += float(np.polyval(polynomial, change(now, before)))
        before = now
        if place not in (0, run.steps - 1) and added < threshold:
            return model.reuse(x_t, timesteps)
        added = 0.0
        full.append(place)
        return model.keep(x_t, timesteps)

    return clip.by(evaluate), full


def change(now: Array, before: Array) -> float:
    """The relative L1 change."""
    return float(np.abs(now - before).mean() / np.abs(before).mean())


def changes(run: Run, clip: Trajectory) -> list[tuple[float, float]]:
    """The change of the first block's input and of the model's output between consecutive steps."""
    model, seen = clip.model(), []

    def recorded(x_t: Array, timesteps: Array) -> Array:
        output = model(x_t, timesteps)
        seen.append((run.modulated(clip, x_t, timesteps), output))
        return output

    for _ in clip.by(recorded):
        pass
    return [(change(after[0], before[0]), change(after[1], before[1])) for before, after in pairwise(seen)]


def fitted(run: Run, clips: int) -> list[float]:
    """TeaCache's polynomial for this model, of degree 4, from the run's first clips."""
    found = np.array([pair for place in range(clips) for pair in changes(run, run.clip(place, place))])
    low, middle, high = np.quantile(found[:, 0], [0, 0.5, 1])
    print(f"changes of the first block's input: {low:.3f} to {high:.3f}, median {middle:.3f}")
    return list(np.polyfit(found[:, 0], found[:, 1], 4))


def teacache_frames(
    run: Run, clip: Trajectory, full: int, polynomial: Sequence[float]
) -> tuple[Array, list[int]]:
    """A clip by the rule with `full` full steps, or with the next higher number that a threshold gives."""
    low, high, best = LOWEST, 8.0, None
    for _ in range(THRESHOLDS):
        middle = (low + high) / 2
        steps, places = teacache(run, clip, middle, polynomial)
        frames = run.frames(steps)
        if len(places) >= full:
            low = middle
            if best is None or len(places) <= len(best[1]):
                best = (frames, places)
        else:
            high = middle
        if len(places) == full:
            break
    assert best is not None
    return best


def measured(run: Run, full: int, clips: int) -> list[Array]:
    """The errors of each stretch for the run's first clips."""
    errors = []
    for place in range(clips):
        *_, last = stretch_errors(run.clip(place, place), longest_stretch(run.steps, full))
        errors.append(last.errors)
    return errors


def decibels(found: Array, full: Array) -> float:
    """PSNR of a clip's frames to another's."""
    distance = squared_distances(found[None], full[None])[0, 0]
    return float(psnr(int(distance), full.size))


def compare(run: Run, full: int, *, samples: int, clips: int) -> None:
    """Print the table."""
    errors = measured(run, full, samples)
    schedules = {
        "calibrated": minimax_schedule(np.mean(errors, axis=0), full),
        "calibrated, largest error": minimax_schedule(np.max(errors, axis=0), full),
        "calibrated on one clip": minimax_schedule(errors[0], full),
        "even": even_schedule(run.steps, full),
        "even with the last": tuple(np.rint(np.linspace(0, run.steps - 1, full)).astype(int).tolist()),
    }
    rules = {
        "TeaCache, Latte-1's polynomial": POLYNOMIAL,
        "TeaCache, fitted polynomial": fitted(run, samples),
        "TeaCache, no polynomial": (1.0, 0.0),
    }
    found: dict[str, list[float]] = {}
    lengths: dict[str, list[int]] = {}
    for place in range(clips):
        clip = run.clip(HELD_OUT + place, place)
        full = run.frames(clip.denoise())
        for name, schedule in schedules.items():
            frames = run.frames(replace(clip, full_steps=schedule).denoise())
            found.setdefault(name, []).append(decibels(frames, full))
            lengths.setdefault(name, []).append(len(schedule))
        for name, polynomial in rules.items():
            frames, places = teacache_frames(run, clip, full, polynomial)
            found.setdefault(name, []).append(decibels(frames, full))
            lengths.setdefault(name, []).append(len(places))
    print("| schedule | full steps | PSNR, mean | least | largest |")
    print("| --- | --- | --- | --- | --- |")
    for name, values in found.items():
        numbers = sorted(set(lengths[name]))
        shown = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
        print(f"| {name} | {shown} | {np.mean(values):.1f} dB | {min(values):.1f} | {max(values):.1f} |")
    better = np.array(found["calibrated"])
    for name in ("even", "even with the last", *rules):
        wins = int((better > np.array(found[name])).sum())
        print(f"calibrated is nearer than {name} in {wins} of {clips} clips")
    print("calibrated:", *schedules["calibrated"], flush=True)


def speed(run: Run, full: int, rounds: int) -> None:
    """Measure in turns and print the time of denoising, with all steps in full and with fewer."""
    ways = {"all": None, "some": even_schedule(run.steps, full)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for place in range(rounds + 1):
        for name, schedule in ways.items():
            steps = replace(run.clip(place, place), full_steps=schedule).denoise()
            begun = time.perf_counter()
            for _ in steps:
                pass
            if place:  # the first one compiles
                seconds[name].append(time.perf_counter() - begun)
    ratios = np.array(seconds["all"]) / np.array(seconds["some"])
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    for name, values in seconds.items():
        print(f"{name}: {np.median(values) * 1e3:.1f} ms, least {min(values) * 1e3:.1f} ms")
    print(
        f"{full} of {run.steps}: {middle:.2f} times as fast ({low:.2f}-{high:.2f}), {rounds} rounds",
        flush=True,
    )


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--sampler", action="append", help="ddpm, ddim or dpm++; repeatable")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--full", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--guidance-every", type=int, default=1)
    parser.add_argument("--samples", type=int, default=3, help="clips to calibrate on")
    parser.add_argument("--clips", type=int, default=16, help="held-out clips")
    parser.add_argument("--speed", type=int, default=0, metavar="ROUNDS")
    wanted = parser.parse_args()
    settings = load_settings(
        wanted.run_dir / "settings.yaml", [("device", "cpu"), ("run_dir", str(wanted.run_dir))]
    )
    for sampler in wanted.sampler or ["ddpm", "ddim", "dpm++"]:
        how = {
            "sampler": sampler,
            "steps": wanted.steps,
            "respacing": None,
            "guidance_scale": wanted.guidance,
            "guidance_every": wanted.guidance_every,
        }
        run = Run(settings.model_copy(update={"sample": settings.sample.model_copy(update=how)}))
        print(f"\n{sampler}, {wanted.full} of {wanted.steps} steps, guidance {wanted.guidance:g}")
        if wanted.speed:
            speed(run, wanted.full, wanted.speed)
        else:
            compare(run, wanted.full, samples=wanted.samples, clips=wanted.clips)


if __name__ == "__main__":
    main()
