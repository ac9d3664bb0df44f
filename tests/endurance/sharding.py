"""The memory that train.shard_optimizer saves: python tests/endurance/sharding.py (see --help). Exit code 1
if a worker stores more than its share of the optimizer's state, or if its peak memory does not decrease as
much.

Steps of Latte-S/2 in float32 on clips of two frames of 8 x 8 latents, by two workers, with and without it.
With LATTE_KERNELS=off each step is one graph, as on Ascend.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

LARGEST_SHARE = 1.02  # as a multiple of the state divided by the number of workers
LEAST_SEEN = 0.9  # decrease of the peak memory, as a share of the bytes saved


def work(folder: Path, shard: bool, steps: int, preset: str) -> None:
    """Train some steps as a worker, and write losses, the bytes of its optimizer state and the peak."""
    from latte_cli.core.bench.machine import peak_bytes
    from latte_cli.core.bench.synthetic import SyntheticSource
    from latte_cli.core.machine.device import use_device
    from latte_cli.core.parallel.collective import join
    from latte_cli.core.parallel.scheduler import serve
    from latte_cli.core.parallel.world import current_world
    from latte_cli.core.settings.schema import Settings
    from latte_cli.core.training.sharding import Part

    world = current_world()
    if world.is_scheduler:
        serve()
        return
    device = use_device("cpu")
    collective = join(world)
    from latte_cli.core.models.architectures import build_model
    from latte_cli.core.training.starting import make_trainer

    train = {"batch_size": 1, "steps": steps + 1, "dtype": "float32", "shard_optimizer": shard}
    data = {"image_size": 64, "num_frames": 2, "frame_stride": 1}
    settings = Settings.model_validate({"model": {"preset": preset}, "data": data, "train": train})
    trainer = make_trainer(settings, build_model(settings), collective=collective)
    reports = trainer.run(SyntheticSource(settings, "latents"), None)
    losses = [next(reports).losses.loss for _ in range(steps)]
    figures = {"losses": losses, "peak": peak_bytes(device)}
    tensors = [one.held if isinstance(one, Part) else one for one in trainer.optimizer.state().values()]
    figures["state"] = sum(tensor.asnumpy().nbytes for tensor in tensors if tensor is not None)
    (folder / f"{world.rank}.json").write_text(json.dumps(figures))
    collective.barrier()


def measured(shard: bool, workers: int, options: argparse.Namespace) -> list[dict[str, float]]:
    """The figures of all workers of a run in new processes."""
    with tempfile.TemporaryDirectory() as name:
        flags = ["--steps", str(options.steps), "--preset", options.preset, "--folder", name]
        flags += ["--workers", str(workers), *(["--shard"] if shard else [])]
        subprocess.run([sys.executable, __file__, *flags], check=True, stdout=sys.stderr)
        return [json.loads(Path(name, f"{rank}.json").read_text()) for rank in range(workers)]


def main() -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--preset", default="Latte-S/2")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shard", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        from latte_cli.core.parallel.commands import Cluster
        from latte_cli.core.parallel.launch import launch, same_command
        from latte_cli.core.parallel.shutdown import own_exit_code
        from latte_cli.core.parallel.world import current_world

        with own_exit_code():
            world = current_world()
            if world.launcher is None and not world.is_scheduler:
                return launch(same_command(), Cluster(options.workers), log_dir=options.folder / "logs")
            work(options.folder, options.shard, options.steps, options.preset)
        return 0
    whole, shared = (measured(shard, options.workers, options) for shard in (False, True))
    holds = True
    for rank, (one, other) in enumerate(zip(whole, shared, strict=True)):
        saved = one["state"] - other["state"]
        fallen = one["peak"] - other["peak"]
        print(
            f"worker {rank}: state {one['state'] / 1e6:.1f} MB, shared {other['state'] / 1e6:.1f} MB;"
            f" peak {one['peak'] / 1e6:.0f} MB, shared {other['peak'] / 1e6:.0f} MB;"
            f" losses {one['losses']}, shared {other['losses']}"
        )
        holds &= other["state"] <= LARGEST_SHARE * one["state"] / options.workers
        holds &= fallen >= LEAST_SEEN * saved
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
