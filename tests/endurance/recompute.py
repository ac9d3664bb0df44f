"""The memory that train.recompute saves: python tests/endurance/recompute.py (see --help). Exit code 1 if it
saves less than 20 % of the peak, or a loss differs by more than 1e-6.

Steps of Latte-S/2 on 16 frames of 32 x 32 latents, with and without it, each in a new process. Takes about
three minutes on two idle cores.
"""

import argparse
import json
import subprocess
import sys

LEAST_SAVED = 0.2  # as a share of the peak memory
LARGEST_DIFFERENCE = 1e-6


def child(recompute: bool, batch_size: int, steps: int) -> None:
    """Train some steps, and print losses, seconds and peak as JSON."""
    from latte_cli.core.bench.machine import peak_bytes
    from latte_cli.core.bench.synthetic import SyntheticSource
    from latte_cli.core.machine.device import use_device
    from latte_cli.core.settings.schema import Settings

    device = use_device("cpu")
    from latte_cli.core.models.architectures import build_model
    from latte_cli.core.training.starting import make_trainer

    train = {"batch_size": batch_size, "steps": steps, "dtype": "float32", "recompute": recompute}
    settings = Settings.model_validate({"model": {"preset": "Latte-S/2"}, "train": train})
    trainer = make_trainer(settings, build_model(settings))
    reports = trainer.run(SyntheticSource(settings, "latents"), None)
    done = [next(reports) for _ in range(steps - 1)]  # the last step would write a checkpoint
    figures = {"losses": [report.losses.loss for report in done], "seconds": done[-1].seconds}
    print(json.dumps(figures | {"peak": peak_bytes(device)}))


def main() -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--child", choices=["plain", "recompute"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child == "recompute", options.batch_size, options.steps)
        return 0
    found = {}
    for name in ("plain", "recompute"):
        flags = ["--batch-size", str(options.batch_size), "--steps", str(options.steps), "--child", name]
        out = subprocess.run([sys.executable, __file__, *flags], check=True, stdout=subprocess.PIPE).stdout
        found[name] = json.loads(out.splitlines()[-1])
        peak, seconds = found[name]["peak"] / 2**30, found[name]["seconds"]
        print(
            f"{name}: peak {peak:.2f} GiB, {seconds:.1f} s per step, losses {found[name]['losses']}",
            flush=True,
        )
    saved = 1 - found["recompute"]["peak"] / found["plain"]["peak"]
    pairs = zip(found["plain"]["losses"], found["recompute"]["losses"], strict=True)
    difference = max(abs(one - other) for one, other in pairs)
    print(f"saved {saved:.0%} of the peak; the losses differ by at most {difference:.1e}")
    return 0 if saved >= LEAST_SAVED and difference <= LARGEST_DIFFERENCE else 1


if __name__ == "__main__":
    sys.exit(main())
