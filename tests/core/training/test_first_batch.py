"""The picture of a run's first batch: the first clips of training, as the model gets them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latte_cli.core.data.captions.files import NO_CAPTION
from latte_cli.core.data.clips.batches import Batch
from latte_cli.core.data.clips.captioned import CaptionedSource
from latte_cli.core.data.clips.frames import FrameSource
from latte_cli.core.data.videos.find import index_clips
from latte_cli.core.data.videos.transforms import to_pixels
from latte_cli.core.errors import LatteError
from latte_cli.core.experiment.loading import load_settings
from latte_cli.core.planning.first_batch import add_first_batch
from latte_cli.core.planning.plan import Plan
from latte_cli.core.recipes import train as recipe
from latte_cli.core.settings.schema import Settings
from latte_cli.core.training import first_batch as sheet
from latte_cli.core.training.first_batch import draw_batch, first_batch

Frames = np.ndarray[Any, np.dtype[np.uint8]]
SIDE = 32


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """experiment(assignment=value, ...): settings of two classes of videos of six frames."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in ("cats/one", "cats/two", "dogs/three"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "videos" / name / f"{number}.png")

    def settings(**changes: Any) -> Settings:
        overrides = {
            "run_dir": "run",
            "device": "cpu",
            "data.root": "videos",
            "data.image_size": SIDE,
            "data.num_frames": 2,
            "data.frame_stride": 2,
            "data.random_flip": True,
            "vae.weights": "demo",
            "model.hidden_size": 24,
            "model.depth": 2,
            "model.num_heads": 3,
            "model.patch_size": 2,
            "model.condition": "class",
            "model.num_classes": 2,
            "train.batch_size": 4,
            "train.steps": 1,
            "train.dtype": "float32",
        }
        overrides |= {name.replace("__", "."): value for name, value in changes.items()}
        return load_settings(None, list(overrides.items()), command="train", demo=False)

    return settings


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Frames], list[str]]]:
    """Pictures and text lines of each row."""
    found: list[tuple[list[Frames], list[str]]] = []
    real = sheet._row

    def row(pictures: list[Image.Image], lines: list[str]) -> Image.Image:
        found.append(([np.asarray(picture) for picture in pictures], lines))
        return real(pictures, lines)

    monkeypatch.setattr(sheet, "_row", row)
    return found


def _source(settings: Settings) -> FrameSource:
    return FrameSource(index_clips(settings.data), settings.data)


@pytest.mark.slow
def test_the_picture_shows_the_first_batch_of_training(
    experiment: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    from latte_cli.core.training import trainer

    settings = experiment(train__accumulation=2, data__use_image_num=1)
    taken: list[Batch] = []
    real = trainer.batches

    def recorded(*arguments: Any, **named: Any) -> Iterator[Batch]:
        for batch in real(*arguments, **named):
            taken.append(batch)
            yield batch

    monkeypatch.setattr(trainer, "batches", recorded)
    assert len(list(recipe.run(settings))) == 1
    drawn = first_batch(settings, _source(settings))
    assert drawn.drawn_from == taken[0].drawn_from
    assert {frame.mirror for clip in drawn.drawn_from for frame in clip} == {False, True}
    np.testing.assert_array_equal(drawn.values, taken[0].values)
    np.testing.assert_array_equal(drawn.places, taken[0].places)


def test_a_row_shows_the_pixels_and_condition_of_its_clip(
    experiment: Callable[..., Settings], rows: list[tuple[list[Frames], list[str]]]
) -> None:
    settings = experiment(model__condition_dropout=0.5, data__use_image_num=1)
    source = _source(settings)
    batch = first_batch(settings, source)
    draw_batch(batch, settings, source)
    assert len(rows) == 4
    shown_labels = set()
    for (pictures, lines), clip in zip(rows, batch.drawn_from, strict=True):
        for picture, frame in zip(pictures, clip, strict=True):
            original = np.asarray(Image.open(Path("videos", frame.name, f"{frame.frame}.png")))
            np.testing.assert_array_equal(picture, original[:, ::-1] if frame.mirror else original)
        mirrored = ", mirrored" if clip[0].mirror else ""
        assert lines[0] == (
            f"{clip[0].name}, frames {clip[0].frame} to {clip[0].frame + 2}{mirrored}; then 1 still images"
        )
        of_clip, of_image = lines[1].split(", ")
        for label, frame in ((of_clip, clip[0]), (of_image, clip[-1])):
            assert label in ("no class (dropped)", f"class {int(frame.name.startswith('dogs'))}")
            shown_labels.add(label)
    assert shown_labels == {"no class (dropped)", "class 0", "class 1"}


def test_the_shown_captions_are_those_that_the_model_gets(
    experiment: Callable[..., Settings], rows: list[tuple[list[Frames], list[str]]]
) -> None:
    settings = experiment(
        model__condition="text", model__num_classes=None, text__encoder="clip", model__condition_dropout=0.5,
        train__batch_size=8,
    )  # fmt: skip
    captions = {name: (f"a film of {name}",) for name in ("cats/one", "cats/two", "dogs/three")}
    source = CaptionedSource(_source(settings), captions)
    batch = first_batch(settings, source)
    draw_batch(batch, settings, source)
    sampler = sheet.CaptionSampler(captions, lambda _: np.zeros(0, np.float32), dropout=0.5)
    texts = [sampler.texts(batch, clip, 2, settings.seed)[0] for clip in range(8)]
    assert [lines[1] for _, lines in rows] == [text or "no caption (dropped)" for text in texts]
    assert NO_CAPTION in texts
    assert set(texts) > {NO_CAPTION}


def test_for_latents_the_encoded_frames_are_shown(experiment: Callable[..., Settings]) -> None:
    settings = experiment(model__condition="none", model__num_classes=None)
    source = _source(settings)
    batch = first_batch(settings, source)
    cached = Batch(
        **{**batch.__dict__, "content": "moments", "values": np.zeros((4, 2, 8, 4, 4), np.float32)}
    )
    np.testing.assert_array_equal(draw_batch(cached, settings, source), draw_batch(batch, settings, source))
    Path("videos").rename("moved")
    with pytest.raises(LatteError, match=r"^data\.root: videos: the cache's videos are not there$"):
        draw_batch(cached, settings, source)


def test_for_a_long_clip_some_frames_from_first_to_last_are_shown() -> None:
    assert sheet._spread(16) == list(range(16))
    shown = sheet._spread(128)
    assert (shown[0], shown[-1], len(shown)) == (0, 127, sheet.FRAMES_SHOWN)
    assert set(np.diff(shown)) <= {8, 9}


def test_the_plan_names_the_picture_or_the_reason_why_it_is_missing(
    experiment: Callable[..., Settings],
) -> None:
    plan = Plan()
    add_first_batch(plan, experiment())
    assert plan.rows == [("first batch", "run/first_batch.png: 4 clips, as the model gets them")]
    picture = np.asarray(Image.open("run/first_batch.png"))
    assert picture.shape == (4 * (2 * sheet.LINE + 3 * sheet.BORDER + SIDE), 320, 3)
    wrong = Plan(problems=["something is missing"])
    add_first_batch(wrong, experiment(run_dir="other"))
    assert (wrong.rows, Path("other").exists()) == ([], False)
    Path("taken").touch()
    refused = Plan()
    add_first_batch(refused, experiment(run_dir="taken"))
    assert refused.rows[0][1].startswith("not drawn: taken/first_batch.png: cannot be written")


def test_a_mirrored_clip_is_shown_mirrored(experiment: Callable[..., Settings]) -> None:
    settings = experiment()
    frames = np.asarray(Image.open("videos/cats/one/3.png"))[None]
    paths = {"cats/one": Path("videos/cats/one")}
    found = sheet._read(paths, [sheet.FrameOf("cats/one", 3, True)], settings.data)
    np.testing.assert_array_equal(found, frames[:, :, ::-1])
    np.testing.assert_array_equal(found, sheet.to_uint8(to_pixels(frames, SIDE, "crop_resize", mirror=True)))
