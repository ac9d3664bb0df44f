"""The graphs that this program compiles on Ascend, compiled on a CPU as far as MindSpore validates them.

`LATTE_KERNELS=off GLOG_v=4 python -m tests.ascend.graphs FOLDER [NAME ...]` writes FOLDER/NAME.ir for each.
The compiled kernels are off and what depends on the device is chosen as on Ascend, so that a graph has the
operators that an Ascend device would be given. What a CPU cannot execute fails after validation; that failure
is expected.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import ops

RNG = np.random.default_rng(0)
CASES: dict[str, Callable[[], object]] = {}
"""What compiles each graph of the program."""
PLANTED: dict[str, Callable[[], object]] = {}
"""Graphs with one thing each that the audit should find."""


def case(name: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Register what compiles the graph of a name."""

    def register(function: Callable[[], object]) -> Callable[[], object]:
        CASES[name] = function
        return function

    return register


def planted(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function of one (4, 4) tensor that Ascend should not be given, to try the audit on."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        def compile_it() -> object:
            return ms.jit(function)(ms.Tensor(abs(normal(4, 4))))

        PLANTED[name] = compile_it
        return function

    return register


@planted("float64")
def _float64(x):  # type: ignore[no-untyped-def]
    return x.astype("float64") * 2.0


@planted("cpu-only")
def _cpu_only(x):  # type: ignore[no-untyped-def]
    return ops.Lgamma()(x)


@planted("dynamic-shape")
def _dynamic_shape(x):  # type: ignore[no-untyped-def]
    return ops.NonZero()(x)


@planted("host")
def _host(x):  # type: ignore[no-untyped-def]
    ops.Print()(x)
    return x + 1.0


def pretend_ascend() -> None:
    """Answer Ascend where this program asks MindSpore for its device."""
    real = ms.get_context
    ms.get_context = lambda key: "Ascend" if key == "device_target" else real(key)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape, np.float32)


def latte(dtype: str = "float32", **changes: Any) -> Any:
    from latte_cli.core.models.latte.shape import LatteShape
    from latte_cli.core.models.latte.transformer import Latte

    sizes: dict[str, Any] = {
        "hidden_size": 144,
        "depth": 2,
        "num_heads": 2,
        "patch_size": 2,
        "sample_size": 8,
    }
    model = Latte(LatteShape(**sizes | {"num_frames": 4} | changes), dtype=dtype)
    if dtype != "float32":
        model.use_flash_attention()
    return model


def latte_t2v(dtype: str = "float32") -> Any:
    from latte_cli.core.models.latte_t2v.transformer import LatteT2V
    from tests.core.models.latte_t2v.test_transformer import SHAPE

    model = LatteT2V(SHAPE, dtype=dtype)
    if dtype != "float32":
        model.use_flash_attention()
    return model


def condition_of(model: Any) -> Any:
    if hasattr(model.shape, "caption_channels"):
        from latte_cli.core.models.latte_t2v.transformer import pack_text

        return pack_text(normal(1, 7, model.shape.caption_channels), np.ones((1, 7)))
    if model.shape.condition == "text":
        return normal(1, 77, 768)
    return np.zeros(1, np.int32)


def sample(model: Any, *, guidance: bool = False) -> None:
    from latte_cli.core.checkpoints.layouts.matching import TIMESTEP_CHANNELS
    from latte_cli.core.models.positions import timestep_rows

    rows = 2 if guidance else 1
    condition = np.concatenate([condition_of(model)[:, None]] * rows)
    sinusoids = timestep_rows(TIMESTEP_CHANNELS, np.full(rows, 500))

    def step(x_t: Any, sinusoids: Any, condition: Any) -> Any:
        return model.predict(x_t, sinusoids, model.prepare(condition))

    model.set_train(False)
    ms.jit(step)(*map(ms.Tensor, (normal(rows, *model.clip_shape), sinusoids, condition)))


def train(model: Any, *, images: int = 0) -> None:
    from latte_cli.core.diffusion.schedule import make_schedule
    from latte_cli.core.settings.schema import DiffusionSettings
    from latte_cli.core.training.inputs import StepInputs
    from latte_cli.core.training.step import GradientStep

    frames, *rest = model.clip_shape
    size = (1, frames + images, *rest)
    timesteps = np.array([31], np.int32)
    columns = make_schedule(DiffusionSettings()).training_columns(timesteps)
    condition = np.repeat(condition_of(model)[:, None], 1 + images, axis=1)
    GradientStep(model)(StepInputs(normal(*size), normal(*size), timesteps, columns, condition))


for _dtype in ("float32", "float16", "bfloat16"):
    case(f"latte-sample-{_dtype}")(lambda dtype=_dtype: sample(latte(dtype)))
    case(f"latte-train-{_dtype}")(lambda dtype=_dtype: train(latte(dtype)))
    case(f"t2v-sample-{_dtype}")(lambda dtype=_dtype: sample(latte_t2v(dtype)))
    case(f"t2v-train-{_dtype}")(lambda dtype=_dtype: train(latte_t2v(dtype)))
case("latte-classes-guided")(
    lambda: sample(latte("float16", condition="class", num_classes=3), guidance=True)
)
case("latte-captions")(lambda: sample(latte("float16", condition="text")))
case("latte-joint")(lambda: train(latte("float16"), images=2))
case("latte-linear-patches")(lambda: train(latte("float16", patch_embedder="linear")))


@case("latte-recompute")
def _recompute() -> None:
    model = latte("float16")
    for block in model.every_block():
        block.recompute()
    train(model)


@case("t2v-lora")
def _lora() -> None:
    from latte_cli.core.models.lora import add_lora, train_only

    model = latte_t2v("float16")
    add_lora(model, rank=2, alpha=2.0, seed=1)
    train_only(model, lambda name: ".lora_" in name)
    train(model)


def optimizer_inputs() -> tuple[Any, Any]:
    parameters = [
        ms.Parameter(ms.Tensor(normal(3, 5)), name="w"),
        ms.Parameter(ms.Tensor(normal(5)), name="b"),
    ]
    return parameters, ms.mutable(tuple(ms.Tensor(normal(*p.shape)) for p in parameters))


@case("optimizer")
def _optimizer() -> None:
    from latte_cli.core.training.optimizer import AdamW

    parameters, gradients = optimizer_inputs()
    AdamW(parameters, weight_decay=0.1).apply(gradients, 0, rate=1e-3, average=0.9, factor=0.5)


@case("accumulation")
def _accumulation() -> None:
    from latte_cli.core.training.step import add_gradients

    add_gradients(optimizer_inputs()[1], optimizer_inputs()[1])


@case("gradient-norm")
def _norm() -> None:
    from latte_cli.core.training.step import global_norm

    global_norm(optimizer_inputs()[1])


def vae(dtype: str) -> Any:
    from latte_cli.core.models.vae.autoencoder import load_vae
    from latte_cli.core.settings.schema import VaeSettings

    return load_vae(VaeSettings(weights="demo", chunk_frames=1), dtype=dtype)


for _dtype in ("float32", "float16"):
    case(f"vae-encode-{_dtype}")(lambda dtype=_dtype: vae(dtype).encode(normal(1, 3, 64, 64)))
    case(f"vae-decode-{_dtype}")(lambda dtype=_dtype: vae(dtype).decode(normal(1, 4, 8, 8)))


@case("temporal-decoder")
def _temporal() -> None:
    from latte_cli.core.models.vae.layers import ResidualBlock
    from latte_cli.core.models.vae.temporal import GROUPS, TimeConvolution

    spatial, temporal = ResidualBlock(32, 64, GROUPS), TimeConvolution(64)
    ms.jit(in_turn(spatial, temporal))(ms.Tensor(normal(3, 32, 8, 8)))


@case("i3d")
def _i3d() -> None:
    from latte_cli.core.models.i3d.layers import all_layers
    from latte_cli.core.models.i3d.network import Classifier

    filters = {
        layer.name: (normal(layer.outputs, layer.inputs, *(layer.kernel,) * 3), normal(layer.outputs))
        for layer in all_layers()
    }
    Classifier(filters)(normal(9, 3, 40, 40))


def in_turn(spatial: Any, temporal: Any) -> Any:
    """The two layers, one after the other: MindSpore does not compile lambdas."""

    def both(frames: Any) -> Any:
        return temporal(spatial(frames))

    return both


def text_operators(dtype: str) -> None:
    from latte_cli.core.models.text.mindspore_operators import MindSporeOperators

    operators = MindSporeOperators(dtype)
    weight, wide, bias = normal(16, 8), normal(8, 16), normal(16)
    one, scores = normal(8), normal(1, 2, 5, 5)

    def encode(x: Any) -> Any:
        x = operators.rms_norm(x, one, 1e-6)
        x = operators.layer_norm(x, one, one, 1e-5)
        x = operators.attend(x, x, x, bias=operators.array(scores), heads=2, scale=0.5)
        for name in ("quick_gelu", "gelu", "gelu_new", "relu", "silu"):
            x = operators.linear(operators.activate(name, operators.linear(x, weight, bias)), wide, wide=True)
        return x

    ms.jit(encode)(ms.Tensor(normal(1, 5, 8)))


for _dtype in ("float32", "float16", "bfloat16"):
    case(f"text-{_dtype}")(lambda dtype=_dtype: text_operators(dtype))


def write(folder: Path, names: list[str]) -> None:
    """Write FOLDER/NAME.ir for each name. Raises RuntimeError where MindSpore validates no graph."""
    pretend_ascend()
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        with tempfile.TemporaryDirectory() as dump:
            ms.set_context(save_graphs=1, save_graphs_path=dump)
            failure: Exception | None = None
            try:
                (CASES | PLANTED)[name]()
            except (RuntimeError, TypeError, ValueError) as error:
                failure = error
            graphs = sorted(
                Path(dump).rglob("*_validate_*.ir"), key=lambda path: path.name.rsplit("_", 1)[-1]
            )
            if not graphs:
                raise RuntimeError(f"{name}: no validated graph") from failure
            (folder / f"{name}.ir").write_text("\n".join(path.read_text() for path in graphs))
            print(name, "stops at a CPU's limits" if failure else "runs on a CPU", flush=True)


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2:] or list(CASES))
