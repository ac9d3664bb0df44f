import shutil
from pathlib import Path

import pytest
from PIL import Image

from latte_cli.core.checkpoints.autoencoder import DEMO_FOLDER, open_autoencoder
from latte_cli.core.checkpoints.save import save_weights
from latte_cli.core.planning.autoencoder import encoding_flops
from latte_cli.core.planning.cache import add_caching
from latte_cli.core.planning.plan import Plan
from latte_cli.core.recipes import cache
from latte_cli.core.settings.schema import CacheSettings, DataSettings, Settings, VaeSettings

FRAMES = 5


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An experiment of three videos of FRAMES frames each."""
    for name in ("a", "b", "c"):
        (tmp_path / "root" / name).mkdir(parents=True)
        for frame in range(FRAMES):
            Image.new("RGB", (16, 16)).save(tmp_path / "root" / name / f"{frame}.bmp")
    return Settings(
        data=DataSettings(root=tmp_path / "root", image_size=16, num_frames=2),
        vae=VaeSettings(weights="demo"),
        cache=CacheSettings(dir=tmp_path / "cache"),
    )


def plan_of(settings: Settings, *, resume: int | None = None, overwrite: bool = False) -> Plan:
    plan = Plan()
    add_caching(plan, settings, resume=resume, overwrite=overwrite)
    return plan


def encode(frames):  # type: ignore[no-untyped-def]
    return frames[:, [0] * 8, ::8, ::8]


def test_a_plan_shows_the_videos_left_to_encode_and_their_size(settings: Settings) -> None:
    rows = dict(plan_of(settings).rows)
    assert rows["to encode"] == f"3 of 3 videos, about {3 * FRAMES} frames"
    assert rows["disk"] == f"about {3 * FRAMES * 8 * 2 * 2 * 2} B", "8 x 2 x 2 float16 values a frame"
    assert {"memory", "time"} <= rows.keys()
    assert ": MindSpore 500 MB, encoding " in rows["memory"]
    list(cache.CacheRun(settings, resume=1, encode=encode))
    assert dict(plan_of(settings).rows)["to encode"] == f"1 of 3 videos, about {FRAMES} frames"
    assert dict(plan_of(settings, overwrite=True).rows)["to encode"].startswith("3 of 3 videos")


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors", ".bin"])
def test_a_plan_shows_memory_and_time_for_any_format_of_the_weights(
    settings: Settings, tmp_path: Path, suffix: str
) -> None:
    demo = open_autoencoder("demo")
    save_weights(tmp_path / f"vae{suffix}", demo.mapped.tensors)
    shutil.copy(DEMO_FOLDER / "config.json", tmp_path)
    expected = dict(plan_of(settings).rows)
    other = settings.model_copy(update={"vae": VaeSettings(weights=str(tmp_path / f"vae{suffix}"))})
    rows = dict(plan_of(other).rows)
    assert rows["memory"] == expected["memory"]
    assert "time" in rows


def test_a_plan_shows_the_problems_that_a_run_would_report(settings: Settings, tmp_path: Path) -> None:
    assert plan_of(settings, resume=3).problems == [
        "--resume 3: expected auto, or the index of a video: 0 to 2"
    ]
    list(cache.CacheRun(settings, encode=encode))
    data = settings.data.model_copy(update={"image_size": 32})
    larger = settings.model_copy(update={"data": data})
    assert plan_of(larger).problems == [
        f"cache.dir: {tmp_path}/cache: data.image_size: the cache was made with 16, this run has 32:"
        " use another --out, or --overwrite"
    ]
    assert plan_of(larger, overwrite=True).problems == []


def test_encoding_counts_the_operations_of_each_layer_at_its_size() -> None:
    shapes = {
        "encoder.conv_in.weight": (4, 3, 3, 3),
        "encoder.conv_in.bias": (4,),
        "encoder.down_blocks.0.resnets.0.conv1.weight": (4, 4, 3, 3),
        "encoder.down_blocks.0.downsamplers.0.conv.weight": (4, 4, 3, 3),
        "encoder.down_blocks.3.resnets.1.conv_shortcut.weight": (8, 4, 1, 1),
        "encoder.mid_block.attentions.0.to_q.weight": (8, 8),
        "encoder.conv_out.weight": (8, 8, 3, 3),
        "quant_conv.weight": (8, 8, 1, 1),
        "decoder.conv_in.weight": (8, 4, 3, 3),
    }
    full, half, eighth = 64**2, 32**2, 8**2
    products = (
        (4 * 3 * 9 + 4 * 4 * 9) * full + 4 * 4 * 9 * half + (8 * 4 + 8 * 8 + 8 * 8 * 9 + 8 * 8) * eighth
    )
    assert encoding_flops(shapes, 64) == 2 * products
