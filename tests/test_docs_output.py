"""The output in the documentation matches its commands, and stderr has only messages of the program.

Every command of a `console` block is run, in the block's order, in a folder with what it needs. In the
documentation `...` stands for lines left out. Where a command would need hours, published data or a device, a
smaller one runs in its place; what then differs, as do times and sizes of a machine, is a pattern of `VARY`.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.pages import ROOT, Block, Shown, blocks, console, words
from tests.small_hub import SmallHub, small_hub

GOLDEN = ROOT / "tests" / "golden"
LATTE = GOLDEN / "latte"
OURS = re.compile(
    r"(note|warning|info): |opening videos |encoding |checking |training |sampling |calibrating |measuring "
    r"|evaluating |fetching hf://|row |\s*$"
)
"""What the program itself writes to stderr: notes, warnings and progress."""

SMALLER = {
    "latte demo": "latte demo --set train.steps=2 --set sample.steps=2",
    "latte bench --row cache=off --row cache=on --parallel 1 --parallel 2 --steps 15 --out bench.json": (
        "latte bench --row cache=on --steps 2 --out bench.json"
    ),
}
NOT_RUN = (  # needs weights of 50 MB, or a caption that has changed since
    "latte evaluate --clips 64 --i3d",
    "latte train --cache latents",
)
VARY = (  # pattern, its replacement
    (r"\d+\.\d dB", "# dB"),
    (r"roughly .+", "roughly #"),
    (r"(would fetch .+ )\d+ [kM]B", r"\1#"),
    (r"ok +\S+ \(\S+\), Linux \S+", "ok # Linux"),  # Python
    (r"mindspore \S+, mindone \S+, numpy \S+, \d+ others", "# others"),
    (r"ok +\S+ computes", "ok # computes"),
    (r"^.+, \d+ cores, \d+ GB; cpu; MindSpore \S+,", "# cores;"),
    (r"(\n\| +\d[^\n]*)+", "\n| row"),  # measured rows of a table
    (r"-+:", "-:"),
    (r" +", " "),
)


def varied(text: str) -> str:
    for pattern, standing in VARY:
        text = re.sub(pattern, standing, text, flags=re.M)
    return text.strip("\n")


def matches(shown: list[str], found: str) -> bool:
    """Whether the output is as shown; `...` matches any lines."""
    lines = [
        r"(.*\n)*?" if line == "..." else re.escape(f"{line}\n")
        for line in varied("\n".join(shown)).split("\n")
    ]
    return re.fullmatch("".join(lines), f"{varied(found)}\n") is not None


@pytest.fixture
def hub() -> Iterator[SmallHub]:
    """Small files under the published names."""
    with small_hub() as small:
        small.add(
            "maxin-cn/Latte",
            dict.fromkeys(("skytimelapse.pt", "ffs.pt"), LATTE / "uncond" / "ckpt_train.pt"),
        )
        small.add("maxin-cn/Latte-1", GOLDEN / "t2v" / "pipeline")
        small.add("stabilityai/sd-vae-ft-mse", GOLDEN / "vae" / "diffusers")
        yield small


@pytest.fixture
def latte(hub: SmallHub, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a line in an empty folder, with the small hub as the hub."""
    folder = tmp_path / "here"
    folder.mkdir()
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }

    def run(line: str, **changes: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "latte_cli", *words(line)[1:]]
        return subprocess.run(
            command, cwd=folder, env=environment | changes, capture_output=True, text=True, check=False
        )

    run.folder = folder  # type: ignore[attr-defined]
    return run


def provide(folder: Path) -> None:
    """The files that the commands of the pages expect in their folder."""
    (folder / "configs").symlink_to(ROOT / "configs")
    shutil.copy(LATTE / "class" / "ckpt_train.pt", folder)
    shutil.copy(GOLDEN / "t2v" / "transformer_state_dict.pt", folder / "t2v.pt")
    shutil.copytree(GOLDEN / "t2v" / "pipeline", folder / "models" / "tiny")
    prompts = next(block.text for block in blocks("text") if block.text.startswith("# one prompt per line"))
    (folder / "prompts.txt").write_text(prompts)


def foreign(stderr: str) -> list[str]:
    """Lines of stderr that are not the program's own."""
    return [line for line in stderr.splitlines() if not OURS.match(line)]


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("console"), ids=str)
def test_the_output_in_a_console_block_matches_its_commands(
    block: Block, latte: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    provide(latte.folder)  # type: ignore[attr-defined]
    for shown in (
        each for each in console() if f"$ {each.command}\n" in block.text and each.page == block.page
    ):
        if shown.command.startswith(NOT_RUN):
            continue
        changes = {"PATH": str(Path(sys.executable).parent)} if shown.command == "latte doctor" else {}
        done = latte(SMALLER.get(shown.command, shown.command), **changes)
        assert "Traceback" not in done.stderr, done.stderr
        found = done.stdout + ("\n".join(foreign(done.stderr)) if done.returncode else "")
        assert matches(shown.output, found), f"{shown}\nfound:\n{found}\n{done.stderr}"
        assert done.returncode or foreign(done.stderr) == []


@pytest.mark.parametrize("shown", [each for each in console() if each.command.startswith(NOT_RUN)], ids=str)
def test_blocks_that_are_not_run_contain_messages_of_the_program(shown: Shown) -> None:
    text = "\n".join(path.read_text("utf-8") for path in (ROOT / "latte_cli").rglob("*.py"))
    source = re.sub(r"""["']\s*\n\s*f?["']""", "", text)
    for line in shown.output:
        for part in re.split(r"\d+(?:\.\d+)?(?: draws)?|'.+'|: |^\w+ {2,}|captions|latents|\.\.\.", line):
            assert part.strip(" :;,+-()") in source, part


TINY = {
    "run_dir": "runs/tiny",
    "data": {"root": "videos", "image_size": 64, "num_frames": 4, "frame_stride": 1},
    "vae": {"weights": "hf://stabilityai/sd-vae-ft-mse"},
    "model": {"hidden_size": 24, "depth": 2, "num_heads": 2, "patch_size": 2},
    "train": {"batch_size": 1, "steps": 2, "dtype": "float32"},
    "sample": {"pretrained": "hf://maxin-cn/Latte/skytimelapse.pt", "num_samples": 1, "steps": 2},
}
SUBSTITUTES = (  # in the README's commands, so that each takes seconds
    ("configs/sky.yaml", "tiny.yaml"),
    ("--parallel 4", "--parallel 2"),
    ("--steps 50 --full-steps 25", "--steps 4 --full-steps 2"),
    ("calibrate -c tiny.yaml --steps 50", "calibrate -c tiny.yaml --steps 4 --budgets 2"),
    ('--prompt "sunset over the sea"', '--prompt "sunset over the sea" --steps 2'),
)


ELSEWHERE = (
    "latte convert",
    "latte bench",
    "latte evaluate",
)  # in console blocks; evaluate needs I3D's weights


@pytest.mark.slow
def test_the_commands_of_the_readme_run_in_order_and_write_nothing_foreign_to_stderr(
    latte: Callable[..., subprocess.CompletedProcess[str]], noise_videos: Callable[..., None]
) -> None:
    folder = latte.folder  # type: ignore[attr-defined]
    noise_videos(folder / "videos", "a", "b", "c", frames=8, size=(64, 64))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    readme = (ROOT / "README.md").read_text("utf-8").partition("## One file per experiment")[2]
    lines = re.findall(r"^latte .*?(?= +#|$)", readme.partition("```bash\n")[2].partition("```")[0], re.M)
    assert len(lines) >= 11
    for line in (each for each in lines if not each.startswith(ELSEWHERE)):
        smaller = line
        for name, substitute in SUBSTITUTES:
            smaller = smaller.replace(name, substitute)
        done = latte(smaller)
        assert (done.returncode, foreign(done.stderr)) == (0, []), f"{smaller}\n{done.stdout}\n{done.stderr}"
