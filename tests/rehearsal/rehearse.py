"""Run the README's commands on folders of published sizes, with few steps, and record time and memory.

    python -m tests.rehearsal.rehearse xl --work FOLDER          Latte-XL/2: 8 GB of disk, 18 GB of memory
    python -m tests.rehearsal.rehearse latte-1 --work FOLDER     Latte-1: 15 GB of disk, 8 GB of memory

Weights are random, drawn from seeds; what is made once stays in the folder. Each command is asked for its
plan (--dry-run), then run; the table goes to FOLDER/xl.md or FOLDER/latte-1.md, from where it is taken to
docs/rehearsal.md. It needs Linux. `--only NAME...` runs some of the commands.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.rehearsal import folders
from tests.rehearsal.watching import Expected, Fact, plan_of, watch

ROOT = Path(__file__).parents[2]
LATTE = [sys.executable, "-m", "latte_cli"]
HEADINGS = (
    "command",
    "memory, plan",
    "memory, peak",
    "without mapped files",
    "steps, plan",
    "whole run",
    "processor",
)


class Rehearsal(NamedTuple):
    """A command, its short description, and what it runs on."""

    name: str
    arguments: Sequence[str]


def xl(work: Path) -> list[Rehearsal]:
    """Latte-XL/2 at 256 pixels and 16 frames."""
    source, vae, clips = work / "xl.pt", work / "vae", work / "clips"
    _once(source, folders.latte_xl)
    _once(vae, folders.autoencoder)
    _once(clips, lambda path: folders.clips(path, count=2, frames=16))
    config = ["-c", str(ROOT / "configs" / "ffs.yaml"), "--device", "cpu"]
    sets = {
        "vae.weights": vae,
        "data.root": clips,
        "data.random_flip": "false",
        "data.frame_stride": 1,
        "run_dir": work / "run",
    }
    common = [*config, *_set(sets)]
    cache, weights = str(work / "latents"), str(work / "xl.ckpt")
    training = {
        "train.batch_size": 1,
        "train.steps": 2,
        "train.recompute": "true",
        "train.dtype": "float32",
        "train.log_every": 1,
        "train.checkpoint_every": 2,
    }
    sampling = ["sample", *common, "--checkpoint", weights, "--steps", "2", "--num-samples", "1"]
    return [
        Rehearsal("convert", ["convert", "--source", str(source), "--target", weights, "--force"]),
        Rehearsal("cache", ["cache", *common, "--out", cache, "--overwrite"]),
        Rehearsal("sample", [*sampling, "--out", str(work / "samples")]),
        Rehearsal("sample-latents", [*sampling, "--out", str(work / "samples"), "--format", "latents"]),
        Rehearsal("train", ["train", *common, *_set(training), "--cache", cache]),
    ]


def latte_1(work: Path) -> list[Rehearsal]:
    """Latte-1: an image and a clip."""
    pipeline = work / "latte-1"
    _once(pipeline, folders.latte_1)
    prompt = ["--pipeline", str(pipeline), "--prompt", "sunset over the sea", "--device", "cpu"]
    sampling = ["sample", *prompt, "--steps", "1", "--out", str(work / "samples")]
    size = ["--height", "256", "--width", "256", "--num-frames", "1"]
    return [
        Rehearsal("image-256", [*sampling, *size]),
        Rehearsal("latents-512", [*sampling, "--format", "latents"]),
        Rehearsal("clip-512", sampling),
    ]


def _once(path: Path, make: Callable[[Path], Path]) -> None:
    """Create missing files, atomically."""
    if not path.exists():
        print(f"making {path}", flush=True)
        partial = path.with_name(f"partial-{path.name}")
        if partial.is_dir():
            shutil.rmtree(partial)
        make(partial).rename(path)


def _set(values: dict[str, object]) -> list[str]:
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


def row(name: str, plan: Expected, fact: Fact) -> str:
    """A row of the table."""
    memory = "" if plan.memory is None else f"{plan.memory / 1e9:.2f} GB"
    seconds = "" if plan.seconds is None else f"{plan.seconds:.0f} s"
    taken = (f"{fact.peak / 1e9:.2f} GB", f"{fact.own / 1e9:.2f} GB")
    cells = (name, memory, *taken, seconds, f"{fact.seconds:.0f} s", f"{fact.processor_seconds:.0f} s")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Rehearse."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["xl", "latte-1"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rehearsals = (xl if options.what == "xl" else latte_1)(options.work.resolve())
    facts = options.work / f"{options.what}.json"
    rows: dict[str, str] = json.loads(facts.read_text()) if facts.exists() else {}
    for name, arguments in rehearsals:
        if options.only and name not in options.only:
            continue
        plan = plan_of([*LATTE, *arguments], folder=ROOT)
        rows[name] = row(name, plan, watch([*LATTE, *arguments], folder=ROOT))
        print(rows[name], flush=True)
        facts.write_text(json.dumps(rows, indent=2))
    lines = [f"| {' | '.join(HEADINGS)} |", "|" + " --- |" * len(HEADINGS), *rows.values()]
    (options.work / f"{options.what}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
