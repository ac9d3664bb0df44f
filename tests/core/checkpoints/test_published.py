"""Which files of a repository a name refers to, and the names of cached files."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from latte_cli.core.checkpoints.published import needed_files
from latte_cli.core.errors import LatteError
from latte_cli.core.experiment.local import pipeline_parts
from latte_cli.core.settings.schema import SampleSettings, VaeSettings
from latte_cli.core.storage.hub import name_of, parse_name

SHARDS = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
LATTE_1 = [
    ".gitattributes",
    "README.md",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors.index.json",
    *(f"text_encoder/{shard}" for shard in SHARDS),
    "text_encoder/pytorch_model.bin",
    "tokenizer/special_tokens_map.json",
    "tokenizer/spiece.model",
    "tokenizer/tokenizer_config.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.bin",
    "transformer/diffusion_pytorch_model.fp16.safetensors",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "vae_temporal_decoder/config.json",
    "vae_temporal_decoder/diffusion_pytorch_model.safetensors",
]
COMMON = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors.index.json",
    *(f"text_encoder/{shard}" for shard in SHARDS),
    "tokenizer/special_tokens_map.json",
    "tokenizer/spiece.model",
    "tokenizer/tokenizer_config.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
}
VAE = {"vae/config.json", "vae/diffusion_pytorch_model.safetensors"}
TEMPORAL = {"vae_temporal_decoder/config.json", "vae_temporal_decoder/diffusion_pytorch_model.safetensors"}


def needed(name: str, files: list[str], *parts: str) -> set[str]:
    chosen = needed_files(parse_name(name), files, parts)
    assert len(chosen) == len(set(chosen))
    return set(chosen)


def test_a_pipeline_needs_its_used_parts_with_one_set_of_weights_each() -> None:
    name = "hf://maxin-cn/Latte-1"
    video, image = pipeline_parts(decodes=True, temporal=True), pipeline_parts(decodes=True, temporal=False)
    assert needed(name, LATTE_1, *video) == COMMON | TEMPORAL | {"vae/config.json"}
    assert needed(name, LATTE_1, *image) == COMMON | VAE
    assert needed(name, LATTE_1, *pipeline_parts(decodes=False, temporal=True)) == COMMON
    without = [file for file in LATTE_1 if not file.startswith("vae_temporal_decoder/")]
    assert needed(name, without, *video) == COMMON | VAE


def test_a_folder_needs_its_configuration_and_the_best_weights() -> None:
    assert needed("hf://maxin-cn/Latte-1/vae", LATTE_1) == VAE
    clip = [
        "config.json",
        "flax_model.msgpack",
        "merges.txt",
        "model.safetensors",
        "pytorch_model.bin",
        "vocab.json",
    ]
    wanted = {"config.json", "merges.txt", "model.safetensors", "vocab.json"}
    assert needed("hf://openai/clip", clip, "text_encoder", "tokenizer") == wanted


def test_a_file_needs_only_itself_and_an_index_its_shards() -> None:
    assert needed("hf://maxin-cn/Latte/ffs.pt", ["ffs.pt", "ucf101.pt"]) == {"ffs.pt"}
    index = "model.safetensors.index.json"
    assert needed(f"hf://a/b/{index}", [index, *SHARDS, "model.safetensors"]) == {index, *SHARDS}
    with pytest.raises(
        LatteError, match=r"a/b does not have all the parts of model\.safetensors\.index\.json"
    ):
        needed(f"hf://a/b/{index}", [index, SHARDS[0]])


@pytest.mark.parametrize(
    "lost",
    [
        f"text_encoder/{SHARDS[0]}",
        "transformer/diffusion_pytorch_model.safetensors",
        "tokenizer/tokenizer_config.json",
    ],
)
def test_a_missing_file_is_not_replaced_by_another_file(lost: str) -> None:
    files = [file for file in LATTE_1 if file != lost and not file.endswith((".bin", ".fp16.safetensors"))]
    if "tokenizer" in lost:
        files = [file for file in files if not file.startswith("tokenizer/")]
    with pytest.raises(LatteError, match=r"^hf://maxin-cn/Latte-1"):
        needed("hf://maxin-cn/Latte-1", files, *pipeline_parts(decodes=True, temporal=True))


def test_a_path_in_the_hub_cache_is_shown_as_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "c" * 40
    snapshot = tmp_path / "models--me--my.model-1" / "snapshots" / commit
    assert name_of(str(snapshot)) == f"hf://me/my.model-1@{commit}"
    assert name_of(str(snapshot / "a" / "b.pt")) == f"hf://me/my.model-1/a/b.pt@{commit}"
    elsewhere = f"/elsewhere/models--me--mine/snapshots/{commit}/x.pt"
    for path in (elsewhere, "models/x.pt", "demo", str(tmp_path / "models--me--mine" / "refs" / "main")):
        assert name_of(path) == path
    assert VaeSettings(weights=str(snapshot)).model_dump(mode="json")["weights"] == name_of(str(snapshot))


def test_a_hub_name_in_a_setting_is_not_normalised_like_a_path() -> None:
    name = "hf://maxin-cn/Latte/sky.pt@refs/pr/1"
    settings = SampleSettings(pretrained=name)
    assert settings.model_dump(mode="json")["pretrained"] == name
    assert SampleSettings.model_validate(settings.model_dump(mode="json")) == settings
    parsed = parse_name(str(settings.pretrained))
    assert (parsed.repo, parsed.file, parsed.revision) == ("maxin-cn/Latte", "sky.pt", "refs/pr/1")
