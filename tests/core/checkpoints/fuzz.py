"""Convert thousands of damaged checkpoints: each succeeds or raises LatteError, quickly and in little memory.

    python -m tests.core.checkpoints.fuzz --count 100000 --seed 0

A case is drawn from its number alone, so a failure is repeated with --first and --count 1. Of a file: bytes
flipped, runs of bytes cut out, doubled, zeroed, or taken from elsewhere in it or from another file, lengths
and counts set to edge values, the end cut off. Of a pickle in a zip besides: instructions spliced in, with
the checksums made right again, so that the damage gets past them.
"""

import argparse
import os
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from latte_cli.core.checkpoints.save import save_weights
from latte_cli.core.errors import LatteError
from latte_cli.core.recipes.convert import run
from tests.core.checkpoints import hostile
from tests.core.checkpoints.reference import GOLDEN

SECONDS, MEGABYTES = 5.0, 1000
_SOURCES = [
    "bad/good.pt",
    "bad/expand_bomb.pt",
    "bad/huge_numel.pt",
    "bad/traversal_storage_key.pt",
    "latte/variants/ckpt_train.pt",
    "latte/variants/ckpt_dit_style_opt_args.pt",
    "latte/variants/legacy_train.pt",
    "latte/variants/legacy_noncontiguous_shared_ema.pt",
    "latte/variants/noncontiguous_shared_ema.pt",
    "latte/variants/nn_parameters_ema.pt",
    "latte/variants/bf16_ema.pt",
    "vae/ldm_bare.safetensors",
    "vae/ldm_full_sd_first_stage_fp16.ckpt",
]
_EDGES = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1]
_SPLICES = [
    b"cos\nsystem\n",
    hostile.text("posix") + hostile.text("system") + b"\x93",
    hostile.text("x") + b"\x85R",
    hostile.tensor((1 << 20, 1 << 20), (0, 0)),
    hostile.tensor((4,), (1,), offset=-1),
    hostile.storage(count=1 << 50),
    hostile.sizes(1 << 40, 0),
    hostile.integer(1 << 127),
    *(bytes([code]) for code in range(256)),
]


def main() -> None:
    """Run the cases that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="how many files")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    started = time.monotonic()
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=_memory_disk()) as folder:
        outcome_of_each = cases(Path(folder), chosen.first, chosen.count, seed=chosen.seed)
        for done, outcome in enumerate(outcome_of_each, 1):
            outcomes[outcome] += 1
            if done % 5000 == 0:
                print(
                    f"{done} files, {time.monotonic() - started:.0f} s, {_peak_megabytes()} MB at most",
                    flush=True,
                )
    print(f"{dict(outcomes)}; every file ended in one of these; {_peak_megabytes()} MB at most")


def cases(folder: Path, first: int, count: int, *, seed: int) -> Iterator[str]:
    """Convert `count` damaged files and return "converted" or "refused" for each.

    Raises AssertionError naming the case when it takes too much processor time or memory, or leaves a file
    behind; whatever else a conversion raises comes through with the case's number as a note on stderr.
    """
    most = _peak_megabytes() + MEGABYTES
    for case in range(first, first + count):
        content = spoiled(np.random.default_rng([seed, case]))
        source, target = folder / "x.bin", folder / "y.ckpt"
        source.write_bytes(content)
        started = time.process_time()
        try:
            outcome = _convert(source, target)
        except BaseException:
            print(f"case {case} of seed {seed} failed: {len(content)} bytes", file=sys.stderr)
            raise
        left = sorted(path.name for path in folder.iterdir())
        assert left == (["x.bin", "y.ckpt"] if outcome == "converted" else ["x.bin"]), (case, seed, left)
        assert time.process_time() - started < SECONDS, (case, seed, "slow")
        assert _peak_megabytes() < most, (case, seed, "memory")
        target.unlink(missing_ok=True)
        yield outcome


def _convert(source: Path, target: Path) -> str:
    words = ""
    try:
        run(source, target)
    except LatteError as error:
        words = str(error)
    assert words.isprintable(), repr(words)
    return "refused" if words else "converted"


def spoiled(rng: np.random.Generator) -> bytes:
    """A checkpoint with one to eight kinds of damage."""
    content = _sources()[rng.integers(len(_sources()))]
    if content[:4] == b"PK\x03\x04" and rng.random() < 0.5:
        return _with_pickle(content, rng)
    return _damage(content, rng, spans=_telling_spans(content))


def _damage(content: bytes, rng: np.random.Generator, *, spans: list[tuple[int, int]] | None = None) -> bytes:
    spoilt = bytearray(content)
    for _ in range(min(8, rng.geometric(0.6))):
        start, end = spans[rng.integers(len(spans))] if spans else (0, len(spoilt))
        at = int(rng.integers(start, max(start + 1, min(end, len(spoilt)))))
        length = int(rng.integers(1, 1 + min(64, max(1, len(spoilt) - at))))
        kind = rng.integers(8)
        if kind == 0 and len(spoilt) > at:
            spoilt[at] ^= 1 << int(rng.integers(8))
        elif kind == 1 and len(spoilt) > at:
            spoilt[at] = int(rng.integers(256))
        elif kind == 2:
            del spoilt[at : at + length]
        elif kind == 3:
            spoilt[at:at] = spoilt[at : at + length]
        elif kind == 4:
            spoilt[at : at + length] = bytes(length)
        elif kind == 5:
            other = _sources()[rng.integers(len(_sources()))]
            begin = int(rng.integers(len(other)))
            spoilt[at : at + length] = other[begin : begin + length]
        elif kind == 6:
            width = int(rng.choice([1, 2, 4, 8]))
            value = _EDGES[rng.integers(len(_EDGES))] & ((1 << 8 * width) - 1)
            spoilt[at : at + width] = value.to_bytes(width, "little")
        elif rng.random() < 0.2:
            del spoilt[at:]
    return bytes(spoilt)


def _with_pickle(content: bytes, rng: np.random.Generator) -> bytes:
    """The zip with its pickle damaged or extended, with correct sizes and checksums."""
    folder = tempfile.SpooledTemporaryFile(max_size=1 << 22)  # noqa: SIM115
    with folder as file:
        file.write(content)
        with zipfile.ZipFile(file) as archive:  # type: ignore[arg-type]
            members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    pickled = members[name]
    if rng.random() < 0.5:
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(2, len(pickled)))
            pickled = pickled[:at] + _SPLICES[rng.integers(len(_SPLICES))] + pickled[at:]
    else:
        pickled = _damage(pickled, rng)
    return _zip({**members, name: pickled})


def _zip(members: dict[str, bytes]) -> bytes:
    """A plain zip of stored members; much faster than zipfile's."""
    body, directory = bytearray(), bytearray()
    for name, content in members.items():
        known = struct.pack(
            "<HHHHHIIIHH", 20, 0, 0, 0, 0, zlib.crc32(content), len(content), len(content), len(name), 0
        )
        directory += (
            b"PK\x01\x02" + struct.pack("<H", 20) + known + struct.pack("<HHHII", 0, 0, 0, 0, len(body))
        )
        directory += name.encode()
        body += b"PK\x03\x04" + known + name.encode() + content
    count = len(members)
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)
    return bytes(body + directory) + b"PK\x05\x06" + end


def _telling_spans(content: bytes) -> list[tuple[int, int]]:
    """The parts that describe the rest: most of a checkpoint is values, and any value is valid."""
    return [(0, min(len(content), 6000)), (max(0, len(content) - 4000), len(content)), (0, len(content))]


@cache
def _sources() -> list[bytes]:
    """The files to damage: recorded ones, and one of our own in each format."""
    sources = [(GOLDEN / name).read_bytes() for name in _SOURCES]
    from latte_cli.core.checkpoints.open import open_weights

    weights = open_weights(GOLDEN / "bad/good.pt")
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".ckpt", ".safetensors", ".pt"):
            path = Path(folder) / f"x{suffix}"
            save_weights(path, weights.tensors)
            content = path.read_bytes()
            sources += [content] * 2
        sources.append(content)
        plain = (Path(folder) / "x.ckpt").read_bytes()[
            :-17
        ]  # without the checksum, which would detect every change
        sources += [plain] * 2
    return sources


def _peak_megabytes() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _memory_disk() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    main()
