"""The cases of the campaign: a damaged or added file, a command, and the text that it must print."""

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

DEEP = "[" * 100_000
Spoil = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """A file to damage, a command to run, and what the command must print."""

    name: str
    spoil: Spoil
    command: str
    expected: str
    lines: int = 1
    """Maximum number of lines on stderr: several if each names another file."""


# Functions that damage or add a file. Paths are relative to the working directory of the case.


def text(path: str, content: str | bytes) -> Spoil:
    def spoil() -> None:
        Path(path).unlink(missing_ok=True)
        Path(path).write_bytes(content.encode() if isinstance(content, str) else content)

    return spoil


def values(path: str, **changes: Any) -> Spoil:
    def spoil() -> None:
        content = json.loads(Path(path).read_text())
        for key, value in changes.items():
            part = content
            *sections, name = key.split("__")
            for section in sections:
                part = part[section]
            part[name] = value
        Path(path).write_text(json.dumps(content))

    return spoil


def every_line(path: str, change: Callable[[dict[str, Any]], Any]) -> Spoil:
    def spoil() -> None:
        lines = [json.dumps(change(json.loads(line))) for line in Path(path).read_text().splitlines()]
        Path(path).write_text("\n".join(lines) + "\n")

    return spoil


def link(path: str, target: str) -> Spoil:
    def spoil() -> None:
        if Path(path).is_dir():
            shutil.rmtree(path)
        Path(path).unlink(missing_ok=True)
        Path(path).symlink_to(target)

    return spoil


def pipe(path: str) -> Spoil:
    def spoil() -> None:
        Path(path).unlink(missing_ok=True)
        os.mkfifo(path)

    return spoil


def times_1000(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: times_1000(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [times_1000(inner) for inner in value]
    return value * 1000 if isinstance(value, int) and not isinstance(value, bool) else value


def noise(size: int) -> bytes:
    return random.Random(0).randbytes(size)


def huge_array(path: str) -> Spoil:
    """Write an .npy file whose header claims 10**12 values."""

    def spoil() -> None:
        head = str({"descr": "<f4", "fortran_order": False, "shape": (10**12,)}).ljust(117) + "\n"
        Path(path).write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode())

    return spoil


def sharded(file: str) -> Spoil:
    """Move the transformer's weights into a shard, which the index calls `file`."""

    def spoil() -> None:
        folder = Path("pipeline/transformer")
        weights = folder / "diffusion_pytorch_model.safetensors"
        names = list(load_file(weights))
        weights.rename(folder / "part.safetensors")
        index = {"metadata": {}, "weight_map": dict.fromkeys(names, file)}
        (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))

    return spoil


def factors(a: tuple[int, ...], b: tuple[int, ...], *, target: str = "attn1.to_v", alpha: str = "") -> Spoil:
    def spoil() -> None:
        name = f"transformer.transformer_blocks.0.{target}"
        arrays = {f"{name}.lora_A.weight": np.ones(a), f"{name}.lora_B.weight": np.ones(b)}
        metadata = {"alpha": alpha} if alpha else None
        save_file({key: np.asarray(v, np.float32) for key, v in arrays.items()}, "lora.safetensors", metadata)

    return spoil


def metadata(**changes: str) -> Spoil:
    """Change metadata of the run's last checkpoint."""

    def spoil() -> None:
        path = Path("run/ckpt/step-00000004.safetensors")
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        header["__metadata__"] |= changes
        head = json.dumps(header).encode()
        head += b" " * (-len(head) % 8)
        path.write_bytes(len(head).to_bytes(8, "little") + head + content[8 + length :])

    return spoil


def swapped_shards() -> None:
    """Make the shards look like those of a cache with another header."""
    sums = Path("mindrecord/shard-00000.sums")
    sums.write_text(json.dumps(json.loads(sums.read_text()) | {"settings": "0" * 16}))


RUN, CLIP = "run/samples/000-seed5-class1.json", "clips/000-seed7-a-cat.json"
REPLAY_RUN, REPLAY = f"sample --replay {RUN} --out out", f"sample --replay {CLIP} --out out"
TRAIN = "train -c experiment.yaml --run-dir out --steps 1 --cache"
SHARDS = f"{TRAIN} mindrecord --set cache.type=mindrecord"
VERIFY = "cache --verify -c experiment.yaml --out numpy"
DRAW = "sample --device cpu --pipeline pipeline --prompt x --steps 2 --format latents --out out"
LORA = f"{DRAW} --lora lora.safetensors"
CAPTIONS = "cache -c texts.yaml --out new --set data.captions"
RESUME = "train -c experiment.yaml --run-dir run --steps 5 --resume auto"
PROMPTS = "sample --device cpu --pipeline pipeline --steps 2 --format latents --out out --prompts-file p.txt"
MANIFEST, OUTSIDE = "numpy/manifest.jsonl", "expected a path inside the folder"
WEIGHTS = "pipeline/transformer/diffusion_pytorch_model.safetensors"

# fmt: off
SIDECARS = [
    Case("a name that leads out", values(CLIP, name="../../../../../escaped"), REPLAY, OUTSIDE),
    Case("an absolute name", values(CLIP, name="/tmp/escaped"), REPLAY, OUTSIDE),
    Case("a name with a NUL", values(CLIP, name="a\0b"), REPLAY, OUTSIDE),
    Case("a file that leads out", values(RUN, files=["../x.mp4"]), REPLAY_RUN, OUTSIDE),
    Case("a negative seed", values(CLIP, seed=-5), REPLAY, "seed: found -5, expected at least 0"),
    Case("a seed of 5,000 digits", text(CLIP, '{"pipeline": "p", "seed": ' + "9" * 5000), REPLAY, "JSON"),
    Case("a billion frames", values(CLIP, num_frames=10**9), REPLAY, "num_frames: found 1000000000"),
    Case("sizes for which no machine has room", values(CLIP, num_frames=65536, height=16384, width=16384), REPLAY, "of memory", 3),
    Case("100,000 brackets", text(CLIP, DEEP), REPLAY, "recursion limit"),
    Case("a row that is text", values(CLIP, row="x"), REPLAY, 'row: found "x", expected an integer'),
    Case("a row of 10**12", values(RUN, row=10**12), REPLAY_RUN, "row: found 1000000000000"),
    Case("another format", values(CLIP, formats=["exe"]), REPLAY, "formats.0"),
    Case("a billion steps", values(CLIP, steps=10**9), REPLAY, "steps: found 1000000000"),
    Case("a width of a billion", values(RUN, settings__model__hidden_size=999_999_996), REPLAY_RUN, "of memory"),
    Case("a class that the model does not have", values(RUN, class_label=7), REPLAY_RUN, "class_labels: found 7"),
    Case("an unknown setting", values(RUN, settings__model__dpth=2), REPLAY_RUN, "settings.model.dpth"),
    Case("weights that have changed", text("run/ckpt/step-00000004.safetensors", b"x"), REPLAY_RUN, "is not the file that"),
    Case("random bytes", text(CLIP, noise(4096)), REPLAY, "cannot be read as JSON"),
    Case("nothing", text(CLIP, ""), REPLAY, "cannot be read as JSON"),
    Case("a named pipe", pipe(CLIP), REPLAY, "found a pipe or a device"),
    Case("control", values(CLIP, later=1), f"{REPLAY} --dry-run", ""),
]
CACHES = [
    Case("integers x 1000", every_line(MANIFEST, times_1000), f"{TRAIN} numpy", "shape: found (4000,"),
    Case("more frames than the file has", every_line(MANIFEST, lambda e: e | {"frames": 4000, "shape": [4000, *e["shape"][1:]]}), f"{TRAIN} numpy", "videos can be read", 3),
    Case("random bytes", text(MANIFEST, noise(4096)), f"{TRAIN} numpy", "manifest.jsonl: line 1"),
    Case("random bytes on one line", text(MANIFEST, noise(64).replace(b"\n", b"x")), f"{TRAIN} numpy", "manifest.jsonl: line 1"),
    Case("a file that leads out", every_line(MANIFEST, lambda e: e | {"file": "../../../../etc/passwd"}), f"{TRAIN} numpy", OUTSIDE),
    Case("an absolute file", every_line(MANIFEST, lambda e: e | {"file": "/etc/passwd"}), f"{TRAIN} numpy", OUTSIDE),
    Case("a video that leads out", every_line(MANIFEST, lambda e: e | {"name": "../../x"}), f"{TRAIN} numpy", OUTSIDE),
    Case("100,000 brackets", text(MANIFEST, DEEP), f"{TRAIN} numpy", "recursion limit"),
    Case("values of other types", every_line(MANIFEST, lambda e: e | {"frames": "4"}), f"{TRAIN} numpy", 'frames: found "4"'),
    Case("a manifest that is a pipe", pipe(MANIFEST), f"{TRAIN} numpy", "found a pipe"),
    Case("a manifest that is a link to itself", link(MANIFEST, "manifest.jsonl"), f"{TRAIN} numpy", "symbolic links"),
    Case("a header with its integers x 1000", lambda: every_line("numpy/cache.json", times_1000) and values("numpy/cache.json", image_size=32000)(), f"{TRAIN} numpy", "data.image_size"),
    Case("a header of 100,000 brackets", text("numpy/cache.json", DEEP), f"{TRAIN} numpy", "recursion limit"),
    Case("a header that is a pipe", pipe("numpy/cache.json"), f"{TRAIN} numpy", "found a pipe"),
    Case("rows that do not go on", values("mindrecord/cache.json", rows=[2, 2]), SHARDS, "rows: found a list"),
    Case("a shard's sums of random bytes", text("mindrecord/shard-00000.sums", noise(99)), SHARDS, "videos can be read", 3),
    Case("a shard of random bytes", text("mindrecord/shard-00000.mindrecord", noise(34603084)), "cache --verify -c experiment.yaml --out mindrecord --type mindrecord --set cache.mirror=true", "missing, torn or stale", 3),
    Case("a shard of another cache", swapped_shards, SHARDS, "belongs to another cache"),
    Case("latents that are text", lambda: [text(str(path), "x")() for path in Path("numpy/latents").iterdir()], f"{TRAIN} numpy", "videos can be read", 3),
    Case("latents that claim 10**12 values", lambda: [huge_array(str(path))() for path in Path("numpy/latents").iterdir()], f"{TRAIN} numpy", "videos can be read", 3),
    Case("latents that are linked to /etc", link("numpy/latents", "/etc"), f"{TRAIN} numpy", "videos can be read", 3),
    Case("damage, verified", every_line(MANIFEST, times_1000), VERIFY, "2 of 2 entries are missing, torn or stale", 3),
    Case("captions' states that claim 10**12 values", lambda: [huge_array(str(path))() for path in Path("texts/text").glob("*.npy")], "cache --verify -c texts.yaml", "missing, torn or stale", 3),
    Case("captions of 100,000 brackets", text("texts/text/manifest.jsonl", DEEP), "train -c texts.yaml --run-dir out --steps 1", "recursion limit"),
    Case("control", lambda: None, VERIFY, "", 2),
]
PIPELINES = [
    Case("an index of 100,000 brackets", text("pipeline/model_index.json", DEEP), DRAW, "recursion limit"),
    Case("another kind of pipeline", values("pipeline/model_index.json", _class_name="FluxPipeline"), DRAW, "expected LattePipeline"),
    Case("a billion layers", values("pipeline/transformer/config.json", num_layers=10**9), DRAW, "num_layers: found 1000000000"),
    Case("more layers than weights", values("pipeline/transformer/config.json", num_layers=60000), DRAW, "depth: found 2"),
    Case("a negative size", values("pipeline/transformer/config.json", sample_size=-8), DRAW, "sample_size: found -8"),
    Case("a frame of 500,000 pixels", values("pipeline/transformer/config.json", sample_size=65536), DRAW, "expected at most 16384"),
    Case("another class of transformer", values("pipeline/transformer/config.json", _class_name="os.system"), DRAW, "_class_name"),
    Case("a scheduler that is a model", values("pipeline/scheduler/scheduler_config.json", _class_name="UNet2DConditionModel"), DRAW, "is not supported by MindONE"),
    Case("a scheduler of 10**12 steps", values("pipeline/scheduler/scheduler_config.json", num_train_timesteps=10**12), DRAW, "num_train_timesteps"),
    Case("a scheduler of unknown betas", values("pipeline/scheduler/scheduler_config.json", beta_schedule="x"), DRAW, "or give --sampler"),
    Case("an autoencoder of no layers", values("pipeline/vae/config.json", block_out_channels=[]), f"{DRAW} --format gif", "block_out_channels"),
    Case("an encoder of a billion layers", values("pipeline/text_encoder/config.json", num_layers=10**9), DRAW, "num_layers"),
    Case("an encoder of another model", values("pipeline/text_encoder/config.json", model_type="bert"), DRAW, "model_type"),
    Case("a tokenizer of random bytes", text("pipeline/tokenizer/spiece.model", noise(999)), DRAW, "spiece.model"),
    Case("a tokenizer's configuration that is a pipe", pipe("pipeline/tokenizer/added_tokens.json"), DRAW, "found a pipe"),
    Case("a tokenizer's configuration of 100,000 brackets", text("pipeline/tokenizer/tokenizer_config.json", DEEP), DRAW, "cannot be read as a tokenizer"),
    Case("a shard that leads out", sharded("../../../../etc/passwd"), DRAW, OUTSIDE),
    Case("an absolute shard", sharded("/etc/passwd"), DRAW, OUTSIDE),
    Case("a shard that is missing", sharded("other.safetensors"), DRAW, "is missing"),
    Case("an index of shards of 100,000 brackets", lambda: (sharded("part.safetensors")(), text(f"{WEIGHTS}.index.json", DEEP)()), DRAW, "JSON"),
    Case("weights that link to /etc/passwd", link(WEIGHTS, "/etc/passwd"), DRAW, "is not a known weights format"),
    Case("weights that are a pipe", pipe(WEIGHTS), DRAW, WEIGHTS.rpartition("/")[0]),
    Case("a configuration that is a pipe", pipe("pipeline/transformer/config.json"), DRAW, "found a pipe"),
    Case("a configuration that links to itself", link("pipeline/vae/config.json", "config.json"), f"{DRAW} --format gif", "symbolic links"),
    Case("control: a pipeline that is a link", lambda: (Path("pipeline").rename("elsewhere"), Path("pipeline").symlink_to("elsewhere")), f"{DRAW} --dry-run", ""),
    Case("control: shards", sharded("part.safetensors"), f"{DRAW} --dry-run", ""),
]
LORA_FILES = [
    Case("factors of one axis", factors((24,), (24, 1)), LORA, "expected lora_A (rank, inputs)"),
    Case("factors of no axis", factors((), ()), LORA, "expected lora_A (rank, inputs)"),
    Case("factors of two ranks", factors((2, 24), (24, 3)), LORA, "expected lora_A (rank, inputs)"),
    Case("factors of another width", factors((1, 8), (8, 1)), LORA, "found (8, 8), expected (24, 24)"),
    Case("factors of no layer", factors((1, 24), (24, 1), target="x"), LORA, "a projection of the transformer"),
    Case("an alpha of nan", factors((1, 24), (24, 1), alpha="nan"), LORA, "alpha: found"),
    Case("a pickle", text("lora.safetensors", b"\x80\x04cos\nsystem\n"), LORA, "pickles are never executed"),
    Case("text", text("lora.safetensors", "x"), LORA, "is not a known weights format"),
]
CAPTION_FILES = [
    Case("a missing column", text("c.csv", "video\ncats/one\n"), f"{CAPTIONS}=c.csv", "line 1: found 'video'"),
    Case("another delimiter", text("c.csv", "video;caption\ncats/one;x\n"), f"{CAPTIONS}=c.csv", "line 1: found"),
    Case("an open quote", text("c.csv", 'cats/one,"x\ndogs/two,y\n'), f"{CAPTIONS}=c.csv", "unexpected end of data"),
    Case("a cell of 10 MB", text("c.csv", f"cats/one,{'x' * 10_000_000}\n"), f"{CAPTIONS}=c.csv", "field larger than"),
    Case("a line of 10 MB", text("c.jsonl", f'{{"video": "{"x" * 10_000_000}"}}'), f"{CAPTIONS}=c.jsonl", "more than 1,048,576 bytes"),
    Case("100,000 brackets", text("c.jsonl", DEEP), f"{CAPTIONS}=c.jsonl", "recursion limit"),
    Case("a caption that is a number", text("c.jsonl", '{"video": "cats/one", "caption": 1}'), f"{CAPTIONS}=c.jsonl", "line 1: caption: found 1"),
    Case("half a character", text("c.jsonl", '{"video": "cats/one", "caption": "\\ud83d"}'), f"{CAPTIONS}=c.jsonl", "line 1"),
    Case("another encoding", text("c.csv", "cats/one,caf\xe9\n".encode("latin-1")), f"{CAPTIONS}=c.csv", "not UTF-8"),
    Case("a text of 10 MB beside a video", text("videos/cats/one.txt", "x" * 10_000_000), "cache -c texts.yaml --out new", "10,000,000 characters"),
    Case("a pipe", pipe("c.csv"), f"{CAPTIONS}=c.csv", "found a pipe"),
    Case("a class of 10,000 digits", text("l.txt", f"cats {'9' * 10_000}\ndogs 1\n"), "cache -c experiment.yaml --out new --set data.labels=l.txt", "at most 9 digits"),
    Case("videos that are not there", text("c.csv", "../../etc/passwd,x\n"), f"{CAPTIONS}=c.csv", "found none"),
    Case("control: a byte-order mark", text("c.csv", "\ufeffvideo,caption\r\ncats/one,x\r\ndogs/two,y\r\n"), f"{CAPTIONS}=c.csv --dry-run", ""),
]
PROMPT_FILES = [
    Case("random bytes", text("p.txt", noise(999)), PROMPTS, "not UTF-8 text"),
    Case("nothing", text("p.txt", "# none\n\n"), PROMPTS, "contains no prompts"),
    Case("an unknown option", text("p.txt", "a cat --size 5\n"), PROMPTS, "line 1: found --size"),
    Case("an invalid seed", text("p.txt", "a cat --seed -5\n"), PROMPTS, "line 1: --seed"),
    Case("a billion steps", text("p.txt", "a cat --steps 1000000000\n"), PROMPTS, "steps: found 1000000000"),
    Case("a prompt of 10 MB", text("p.txt", "x" * 10_000_000), PROMPTS, "10,000,000 characters"),
    Case("a folder", lambda: Path("p.txt").mkdir(), PROMPTS, "p.txt: cannot be read"),
]
EXPERIMENTS = [
    Case("aliases of aliases", text("x.yaml", "a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n"), "train -c x.yaml", "unknown key", 9),
    Case("a value inside itself", text("x.yaml", "train: &a\n  steps: *a\n"), "train -c x.yaml", "unconstructable recursive node"),
    Case("100,000 brackets", text("x.yaml", DEEP), "train -c x.yaml", "nested more than 16 levels deep"),
    Case("a number of 10,000 digits", text("x.yaml", "seed: " + "9" * 10_000), "train -c x.yaml", "not valid YAML"),
    Case("1 MB", text("x.yaml", "# x\n" * 250_000), "train -c x.yaml", "found more than"),
    Case("a key twice", text("x.yaml", "seed: 1\nseed: 2\n"), "train -c x.yaml", "duplicate key"),
    Case("an object", text("x.yaml", "seed: !!python/object/apply:os.system [touch PWNED]\n"), "train -c x.yaml", "not valid YAML"),
    Case("merged keys", text("x.yaml", "train:\n  <<: {steps: 3}\n"), "train -c x.yaml", "unknown key", 9),
    Case("random bytes", text("x.yaml", noise(999)), "train -c x.yaml", "not UTF-8"),
    Case("a link to itself", link("x.yaml", "x.yaml"), "train -c x.yaml", "symbolic links"),
    Case("a folder", lambda: Path("x.yaml").mkdir(), "train -c x.yaml", "Is a directory"),
]
EXPERIMENTS += [
    Case(name, text("x.yaml", content), "train -c x.yaml", "x.yaml", 9)
    for name, content in {
        "an unclosed bracket": "train: {steps: 3\n",
        "an unclosed quote": 'run_dir: "runs\n',
        "a tab as indentation": "train:\n\tsteps: 3\n",
        "a list of sections": "- train\n- data\n",
        "a text": "train\n",
        "two documents": "seed: 1\n---\nseed: 2\n",
        "a NUL": "run_dir: 'a\0b'\n",
        "an escape for a NUL": 'run_dir: "a\\0b"\n',
        "an unknown alias": "seed: *x\n",
        "an unknown tag": "seed: !thing 1\n",
        "a section that is a number": "train: 3\n",
        "a section that is a list": "train: [steps]\n",
        "a number that is text": "train: {steps: many}\n",
        "a number that is not a number": "train: {learning_rate: .nan}\n",
        "an infinite number": "train: {learning_rate: .inf}\n",
        "a negative number": "train: {batch_size: -1}\n",
        "a date": "run_dir: 2024-01-01\nseed: 2024-01-01\n",
        "keys that are numbers": "1: 2\n3: 4\n",
        "a key that is a list": "? [a, b]\n: 1\n",
        "an unknown key": "train: {stepz: 3}\n",
    }.items()
]
VIDEO = "train -c experiment.yaml --run-dir out --steps 1 --data bad"
VIDEOS = [
    Case(name, lambda file=file, content=content: (Path("bad").mkdir(), Path("bad", file).write_bytes(content)), VIDEO, "bad", 3)
    for name, (file, content) in {
        "an empty file": ("x.mp4", b""),
        "random bytes": ("x.mp4", noise(4096)),
        "zeros": ("x.mp4", bytes(100_000)),
        "a page of HTML": ("x.mp4", b"<!DOCTYPE html><title>404</title>"),
        "a pointer of Git LFS": ("x.mp4", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "a header alone": ("x.mp4", bytes.fromhex("000000186674797069736f6d0000020069736f6d69736f32")),
        "a box of 4 GB": ("x.mp4", b"\xff\xff\xff\xffmoov" + noise(999)),
        "a header of AVI alone": ("x.avi", b"RIFF\x00\x10\x00\x00AVI LIST" + noise(99)),
        "a header of Matroska alone": ("x.mkv", bytes.fromhex("1a45dfa3934282886d6174726f736b61")),
        "half a GIF": ("x.gif", b"GIF89a\xff\xff\xff\xff\xf7\x00\x00" + noise(99)),
        "a GIF of 65,535 pixels": ("x.gif", b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x02\x00;"),
        "text": ("x.webm", b"not a video\n"),
    }.items()
]
RUNS = [
    Case("a state of 100,000 brackets", metadata(progress=DEEP), RESUME, "progress: cannot be read as JSON"),
    Case("a negative step", metadata(progress='{"step": -1}'), RESUME, "progress: step: found -1"),
    Case("a state without numbers", metadata(progress="{}", crc32="[]"), RESUME, "step-00000004.safetensors"),
    Case("a benchmark of 100,000 brackets", text("b.json", DEEP), "bench -c experiment.yaml --row cache=on --compare b.json", "recursion limit"),
    Case("a benchmark of something else", text("b.json", '{"format": 1}'), "bench -c experiment.yaml --row cache=on --compare b.json", "b.json"),
]
# fmt: on
GROUPS = {
    "sidecar": SIDECARS,
    "cache": CACHES,
    "pipeline": PIPELINES,
    "LoRA files": LORA_FILES,
    "captions": CAPTION_FILES,
    "prompts": PROMPT_FILES,
    "experiment": EXPERIMENTS,
    "video": VIDEOS,
    "run": RUNS,
}
