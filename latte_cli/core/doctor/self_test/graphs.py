"""Every graph that this program compiles, small: built, run, and what it computed.

`tests/ascend` compares their operators with MindSpore's documentation; `latte doctor --self-test` compares
their results with expected ones. Weights and inputs are drawn from names, see `drawing`.
"""

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np

from latte_cli.core.arrays import Array
from latte_cli.core.doctor.self_test.drawing import normal, weights
from latte_cli.core.doctor.self_test.rows import Results, described

CASES: dict[str, Callable[[], Results]] = {}
"""What runs each graph, by name."""
SIZES = {"hidden_size": 144, "depth": 2, "num_heads": 2, "patch_size": 2, "sample_size": 8, "num_frames": 4}
CAPTION_CHANNELS, TEXT_TOKENS, PADDING, CLASSES, IMAGES = 16, 7, 2, 3, 2
TIMESTEP, TRAINED_TIMESTEP = 500, 31
LOSS_SCALE = 1024.0  # of float16
CLIP_NORM, EMA_DECAY = 0.5, 0.15
FLOATS = ("float32", "float16", "bfloat16")


def case(name: str) -> Callable[[Callable[[], Results]], Callable[[], Results]]:
    """Register what runs the graph of a name."""

    def register(function: Callable[[], Results]) -> Callable[[], Results]:
        CASES[name] = function
        return function

    return register


def latte(dtype: str = "float32", **changes: Any) -> Any:
    """A Latte of two blocks."""
    from latte_cli.core.models.latte.shape import LatteShape
    from latte_cli.core.models.latte.transformer import Latte

    sizes: dict[str, Any] = {**SIZES, **changes}
    return _ready(Latte(LatteShape(**sizes), dtype=dtype), dtype)


def latte_t2v(dtype: str = "float32") -> Any:
    """A text-to-video transformer of a pair of blocks."""
    from latte_cli.core.models.latte_t2v.shape import TextToVideoShape
    from latte_cli.core.models.latte_t2v.transformer import LatteT2V

    sizes: dict[str, Any] = {**SIZES, "depth": SIZES["depth"] // 2, "caption_channels": CAPTION_CHANNELS}
    return _ready(LatteT2V(TextToVideoShape(**sizes), dtype=dtype), dtype)


def _ready(model: Any, dtype: str) -> Any:
    fill(model)
    if dtype != "float32" and ms.get_context("device_target") == "Ascend":
        model.use_flash_attention()
    return model


def fill(model: Any) -> None:
    """Give every trained parameter the values of its name."""
    for parameter in model.trainable_params():
        parameter.set_data(ms.Tensor(weights(parameter.name, *parameter.shape)))


def condition_of(model: Any, rows: int = 1) -> Any:
    """A row of condition, and for two rows, one without condition."""
    if hasattr(model.shape, "caption_channels"):
        from latte_cli.core.models.latte_t2v.transformer import pack_text

        states = normal("text", 1, TEXT_TOKENS, model.shape.caption_channels)
        return pack_text(states, (np.arange(TEXT_TOKENS) < TEXT_TOKENS - PADDING).astype(np.float32)[None])
    if model.shape.condition == "text":
        return normal("text", 1, 77, 768)
    if model.shape.condition == "class":
        return np.array([1, model.shape.num_classes][:rows], np.int32)
    return np.zeros(1, np.int32)


def sample(model: Any, *, rows: int = 1) -> Results:
    """A step's prediction, as sampling computes it, in one graph with what depends on the condition alone."""
    from latte_cli.core.checkpoints.layouts.matching import TIMESTEP_CHANNELS
    from latte_cli.core.models.positions import timestep_rows

    sinusoids = timestep_rows(TIMESTEP_CHANNELS, np.full(rows, TIMESTEP))

    def step(x_t: Any, sinusoids: Any, condition: Any) -> Any:
        return model.predict(x_t, sinusoids, model.prepare(condition))

    model.set_train(False)
    inputs = (normal("x_t", rows, *model.clip_shape), sinusoids, condition_of(model, rows)[:, None])
    found = ms.jit(step)(*map(ms.Tensor, inputs))
    return {"out": found.astype(ms.float32).asnumpy()}


def reuse(model: Any) -> Results:
    """The predictions of a full step, then of one that reuses the change by its blocks; they are equal."""
    conditioned, step = sampling_step(model)
    return {"out": np.concatenate([conditioned.keep(*step), conditioned.reuse(*step)])}


def sampling_step(model: Any, rows: int = 1) -> tuple[Any, tuple[Array, Any]]:
    """A model for sampling with rows of condition, and its latents and timesteps."""
    from latte_cli.core.sampling.denoise import Denoiser

    condition = condition_of(model, rows)
    conditioned = Denoiser(model)(np.repeat(condition, rows // len(condition), axis=0))
    return conditioned, (normal("x_t", rows, *model.clip_shape), np.full(rows, TIMESTEP))


def train(model: Any, dtype: str, *, images: int = 0, **changes: Any) -> Results:
    """The losses and the gradients' norm of a training step, and `described` of each parameter's gradient.

    AdamW leaves them in its first moment: after one step, that is the clipped gradient times 1 - beta1.
    """
    from latte_cli.core.training.optimizer import BETA1, clip_factor

    done, trainer = take_step(model, dtype, LOSS_SCALE if dtype == "float16" else 1.0, images, **changes)
    clipped = clip_factor(trainer.settings.train, 0, norm=done.grad_norm)
    means = {one.name: trainer.tensors[f"optimizer/mean/{one.name}"] for one in model.trainable_params()}
    share = np.float32((1 - BETA1) * clipped)
    gradients = {name: mean.asnumpy() / share for name, mean in means.items()}
    return {"losses": np.array(done.losses), "norm": np.array([done.grad_norm]), **described(gradients)}


def take_step(
    model: Any, dtype: str, scale: float, images: int = 0, *, collective: Any = None, **changes: Any
) -> tuple[Any, Any]:
    """The results of the first step of a run with this loss scale, and its trainer.

    collective: default a single worker. changes: of the settings of training.
    """
    from latte_cli.core.settings.schema import Settings
    from latte_cli.core.training.precision import LossScale
    from latte_cli.core.training.starting import make_trainer

    train = {"dtype": dtype, "clip_norm": CLIP_NORM, "weight_decay": 0.1, **changes}
    trainer = make_trainer(Settings.model_validate({"train": train}), model, collective=collective)
    inputs = [step_inputs(model, images=images)] * trainer.settings.train.accumulation
    loss_scale = LossScale(scale, dynamic=dtype == "float16")
    trainer.steps.start(lambda: iter(inputs), 0, loss_scale)
    trainer.steps.take(0, loss_scale)
    (done,) = trainer.steps.read()
    return done, trainer


def step_inputs(model: Any, *, images: int = 0) -> Any:
    """The inputs of a training pass of one clip."""
    from latte_cli.core.diffusion.schedule import make_schedule
    from latte_cli.core.settings.schema import DiffusionSettings
    from latte_cli.core.training.inputs import StepInputs

    frames, *rest = model.clip_shape
    size = (1, frames + images, *rest)
    timesteps = np.array([TRAINED_TIMESTEP])
    columns = make_schedule(DiffusionSettings()).training_columns(timesteps)
    condition = np.repeat(condition_of(model)[:, None], 1 + images, axis=1)
    return StepInputs(
        normal("x_start", *size), normal("eps", *size), timesteps.astype(np.int32), columns, condition
    )


def _of_dtype(dtype: str) -> None:
    """Register the transformers' graphs of a type."""
    case(f"latte-sample-{dtype}")(lambda: sample(latte(dtype)))
    case(f"latte-train-{dtype}")(lambda: train(latte(dtype), dtype))
    case(f"t2v-sample-{dtype}")(lambda: sample(latte_t2v(dtype)))
    case(f"t2v-train-{dtype}")(lambda: train(latte_t2v(dtype), dtype))
    case(f"text-{dtype}")(lambda: text_operators(dtype))


case("latte-classes-guided")(lambda: sample(latte("float16", condition="class", num_classes=CLASSES), rows=2))
case("latte-captions")(lambda: sample(latte("float16", condition="text")))
case("latte-reuse")(lambda: reuse(latte()))
case("t2v-reuse")(lambda: reuse(latte_t2v("float16")))
case("latte-joint")(lambda: train(latte("float16"), "float16", images=IMAGES))
case("latte-linear-patches")(lambda: train(latte("float16", patch_embedder="linear"), "float16"))
case("latte-recompute")(lambda: train(latte("float16"), "float16", recompute=True))
case("latte-accumulation")(lambda: train(latte("float16"), "float16", accumulation=2))


@case("t2v-lora")
def _lora() -> Results:
    from latte_cli.core.models.lora import add_lora, train_only

    model = latte_t2v("float16")
    add_lora(model, rank=2, alpha=2.0, seed=1)
    train_only(model, lambda name: ".lora_" in name)
    fill(model)
    return train(model, "float16")


@case("optimizer")
def _optimizer() -> Results:
    from latte_cli.core.training.optimizer import AdamW

    shapes = {"w": (3, 5), "b": (5,)}
    parameters = [
        ms.Parameter(ms.Tensor(normal(f"parameter {name}", *shape)), name=name)
        for name, shape in shapes.items()
    ]
    gradients = ms.mutable(
        tuple(ms.Tensor(normal(f"gradient {name}", *shape)) for name, shape in shapes.items())
    )
    optimizer = AdamW(parameters, weight_decay=0.1)
    update = optimizer.in_graph(EMA_DECAY)

    def step(gradients: Any, number: Any, rate: Any, factor: Any, is_good: Any) -> Any:
        update(gradients, number, rate, factor, is_good)
        return number

    compiled = ms.jit(step)
    for number, is_good in ((0, True), (5, False), (1, True)):
        numbers = (ms.Tensor(one, ms.float32) for one in (number, 1e-2, 0.5))
        compiled(gradients, *numbers, ms.Tensor(is_good))
    lists = {"parameter": parameters, "average": optimizer.averages}
    return {
        f"{name} {one.name.split('.')[-1]}": one.asnumpy() for name, each in lists.items() for one in each
    }


def vae(dtype: str) -> Any:
    """The package's small autoencoder."""
    from latte_cli.core.models.vae.autoencoder import load_vae
    from latte_cli.core.settings.schema import VaeSettings

    return load_vae(VaeSettings(weights="demo", chunk_frames=1), dtype=dtype)


def _vae_of_dtype(dtype: str) -> None:
    """Register the autoencoder's graphs of a type."""
    frames, latents = normal("frames", 1, 3, 64, 64).clip(-1, 1), normal("latents", 1, 4, 8, 8)
    case(f"vae-encode-{dtype}")(lambda: {"out": vae(dtype).encode(frames)})
    case(f"vae-decode-{dtype}")(lambda: {"out": vae(dtype).decode(latents)})


@case("temporal-decoder")
def _temporal() -> Results:
    from latte_cli.core.checkpoints.temporal_decoder import GROUPS
    from latte_cli.core.models.vae.layers import ResidualBlock
    from latte_cli.core.models.vae.temporal import TimeConvolution

    spatial, temporal = ResidualBlock(32, 64, GROUPS), TimeConvolution(64)
    for cell, prefix in ((spatial, "spatial."), (temporal, "temporal.")):
        for parameter in cell.get_parameters():
            parameter.set_data(ms.Tensor(weights(prefix + parameter.name, *parameter.shape)))

    def both(frames: Any) -> Any:
        return temporal(spatial(frames))

    return {"out": ms.jit(both)(ms.Tensor(normal("frames", 3, 32, 8, 8))).asnumpy()}


@case("i3d")
def _i3d() -> Results:
    from latte_cli.core.models.i3d.layers import all_layers
    from latte_cli.core.models.i3d.network import Classifier
    from latte_cli.core.models.i3d.weights import Filter

    filters = {
        layer.name: Filter(
            weights(f"{layer.name}.weight", layer.outputs, layer.inputs, *(layer.kernel,) * 3),
            weights(f"{layer.name}.bias", layer.outputs),
        )
        for layer in all_layers()
    }
    return {"out": Classifier(filters)(normal("frames", 9, 3, 40, 40))}


def text_encoding(operators: Any, wrapped: Callable[[Any], Any]) -> Results:
    """Each operator of the text encoders once. wrapped: compiles a function of an array."""
    weight, wide, bias = weights("text.in", 16, 8), weights("text.out", 8, 16), weights("text.bias", 16)
    one, scores = weights("text.weight", 8), normal("scores", 1, 2, 5, 5)

    def encode(x: Any) -> Any:
        x = operators.rms_norm(x, one, 1e-6)
        x = operators.layer_norm(x, one, one, 1e-5)
        x = operators.attend(x, x, x, bias=operators.array(scores), heads=2, scale=0.5)
        for name in ("quick_gelu", "gelu", "gelu_new", "relu", "silu"):
            x = x + operators.linear(
                operators.activate(name, operators.linear(x, weight, bias)), wide, wide=True
            )
        return x

    return {"out": operators.numbers(wrapped(encode)(operators.array(normal("tokens", 1, 5, 8))))}


def text_operators(dtype: str) -> Results:
    """`text_encoding` by the device."""
    from latte_cli.core.models.text.mindspore_operators import MindSporeOperators

    return text_encoding(MindSporeOperators(dtype), ms.jit)


for _dtype in FLOATS:
    _of_dtype(_dtype)
for _dtype in FLOATS[:2]:
    _vae_of_dtype(_dtype)
