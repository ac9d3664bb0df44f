"""Files of published sizes with random values, written one tensor at a time."""

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np

from latte_cli.core.checkpoints.dtypes import DTYPES, Bits, Dtype
from latte_cli.core.checkpoints.save import save_weights
from latte_cli.core.checkpoints.tensors import Shape
from latte_cli.core.models.pipeline.writer import SCHEDULER
from tests.peers.golden_cases import SD_AUTOENCODER, weights

GOLDEN = Path(__file__).parents[1] / "golden"
SHARDS = 4  # that T5-XXL is published in
T5_XXL: dict[str, Any] = {  # google/t5-v1_1-xxl
    "architectures": ["T5EncoderModel"],
    "d_ff": 10240,
    "d_kv": 64,
    "d_model": 4096,
    "dense_act_fn": "gelu_new",
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": True,
    "is_gated_act": True,
    "layer_norm_epsilon": 1e-6,
    "model_type": "t5",
    "num_heads": 64,
    "num_layers": 24,
    "pad_token_id": 0,
    "relative_attention_max_distance": 128,
    "relative_attention_num_buckets": 32,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 32128,
}


@dataclass(frozen=True)
class Drawn:
    """A tensor drawn from its name when it is written, as `golden_cases.weights` draws it."""

    name: str
    shape: Shape
    dtype: Dtype = DTYPES["float32"]

    def bits(self) -> Bits:
        values = weights(self.name, self.shape)
        if self.dtype.name == "bfloat16":  # truncated, not rounded: any values will do
            return (values.view(np.uint32) >> 16).astype(np.uint16)
        return values

    def release(self) -> None:
        """Nothing: the values are in no file."""


def latte_xl(path: Path) -> Path:
    """Latte-XL/2 for 256 pixels and 16 frames as it is published: a .pt with averaged weights."""
    save_weights(path, _tensors(_keys("Latte-XL-2_uncond_256_f16")["tensors"]), entry="ema")
    return path


def autoencoder(folder: Path) -> Path:
    """Stable Diffusion's autoencoder, a folder in diffusers' layout."""
    tensors = _tensors(_keys("sd-vae-ft-mse")["diffusers"])
    save_weights(folder / "diffusion_pytorch_model.safetensors", tensors)
    _write(folder / "config.json", {"_class_name": "AutoencoderKL", **SD_AUTOENCODER})
    return folder


def latte_1(folder: Path) -> Path:
    """A pipeline of Latte-1's size: T5-XXL in four bfloat16 shards, the transformer in float32."""
    encoder, transformer = folder / "text_encoder", folder / "transformer"
    _shards(encoder, {name: Drawn(name, shape, DTYPES["bfloat16"]) for name, shape in t5_shapes()})
    _write(encoder / "config.json", T5_XXL)
    keys = _keys("LatteTransformer3DModel_Latte-1")
    save_weights(transformer / "diffusion_pytorch_model.safetensors", _tensors(keys["tensors"]))
    _write(transformer / "config.json", {"_class_name": "LatteTransformer3DModel", **keys["config"]})
    autoencoder(folder / "vae")
    shutil.copytree(GOLDEN / "t2v" / "pipeline" / "tokenizer", folder / "tokenizer")
    _write(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    shutil.copy(GOLDEN / "t2v" / "pipeline" / "model_index.json", folder)
    return folder


def t5_shapes() -> Iterator[tuple[str, Shape]]:
    """Names and shapes of T5-XXL's encoder."""
    width, inner, hidden = T5_XXL["d_model"], T5_XXL["num_heads"] * T5_XXL["d_kv"], T5_XXL["d_ff"]
    yield "shared.weight", (T5_XXL["vocab_size"], width)
    for place in range(T5_XXL["num_layers"]):
        attention, dense = (f"encoder.block.{place}.layer.{part}" for part in (0, 1))
        for letter in "qkv":
            yield f"{attention}.SelfAttention.{letter}.weight", (inner, width)
        yield f"{attention}.SelfAttention.o.weight", (width, inner)
        if place == 0:
            buckets = T5_XXL["relative_attention_num_buckets"]
            yield (
                f"{attention}.SelfAttention.relative_attention_bias.weight",
                (buckets, T5_XXL["num_heads"]),
            )
        yield f"{attention}.layer_norm.weight", (width,)
        for name in ("wi_0", "wi_1"):
            yield f"{dense}.DenseReluDense.{name}.weight", (hidden, width)
        yield f"{dense}.DenseReluDense.wo.weight", (width, hidden)
        yield f"{dense}.layer_norm.weight", (width,)
    yield "encoder.final_layer_norm.weight", (width,)


def clips(folder: Path, *, count: int, frames: int) -> Path:
    """Movies of a test picture, 320 x 256 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture = f"testsrc2=size=320x256:rate=25:duration={frames / 25},hue=h={40 * number}"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-f", "lavfi", "-i", picture]
        subprocess.run([*command, "-pix_fmt", "yuv420p", str(folder / f"{number}.mp4")], check=True)
    return folder


def _tensors(listed: Mapping[str, Any]) -> dict[str, Drawn]:
    """The tensors of a list of names, types and shapes, in float32."""
    return {name: Drawn(name, tuple(shape)) for name, (_, shape) in listed.items()}


def _shards(folder: Path, tensors: Mapping[str, Drawn]) -> None:
    """Write tensors in shards of about the same size, with their index."""
    total = sum(map(_count, tensors.values()))
    shards: list[dict[str, Drawn]] = [{} for _ in range(SHARDS)]
    done = 0
    for name, tensor in tensors.items():
        shards[min(done * SHARDS // total, SHARDS - 1)][name] = tensor
        done += _count(tensor)
    places = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{SHARDS:05d}.safetensors"
        save_weights(folder / file, shard)
        places |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": 2 * total}, "weight_map": places}
    _write(folder / "model.safetensors.index.json", index)


def _count(tensor: Drawn) -> int:
    return int(np.prod(tensor.shape))


def _keys(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / "keys" / f"{name}.json").read_text())


def _write(path: Path, content: Mapping[str, Any] | Iterable[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2))
