"""Sample with a pipeline's scheduler, implemented by MindONE, on the host."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor

from latte_cli.core.arrays import Array
from latte_cli.core.diffusion.samplers import Model
from latte_cli.core.diffusion.schedule import FloatArray, Schedule, schedule_of, space_timesteps
from latte_cli.core.errors import LatteError
from latte_cli.core.models.mindone_cpu import quiet_imports, supply_cpu_kernels


@dataclass(frozen=True)
class SchedulerStep:
    """Result of one step, 0 to total - 1: `x_t` (B, F, C, h, w) after it."""

    index: int
    total: int
    timestep: float
    x_t: FloatArray


def ddim_schedule(config: Mapping[str, Any], steps: int) -> Schedule | None:
    """The chain over which our own ddim, without noise, does what the config's scheduler does.

    None for any but a DDIMScheduler as Latte-1 has it, which MindONE's is loaded for: that takes a second.
    """
    total, offset = int(config.get("num_train_timesteps", 1000)), int(config.get("steps_offset", 0))
    served = {  # by name: diffusers' default, and the supported values
        "_class_name": (None, "DDIMScheduler"),
        "clip_sample": (True, False),
        "thresholding": (False, False),
        "rescale_betas_zero_snr": (False, False),
        "prediction_type": ("epsilon", "epsilon"),
        "timestep_spacing": ("leading", "leading"),
        "set_alpha_to_one": (True, True),
    }
    if any(config.get(name, default) != wanted for name, (default, wanted) in served.items()):
        return None
    kept = np.arange(steps) * (total // steps) + offset
    betas = _betas(config)
    if betas is None or not 0 < steps <= total or kept[-1] >= len(betas):
        return None
    return schedule_of(np.cumprod(1 - betas)[kept], kept)


def load_scheduler(config: Mapping[str, Any], *, source: str) -> Any:
    """Create MindONE's scheduler of a `scheduler_config.json`. Raises LatteError if it is not supported."""
    name = str(config.get("_class_name"))
    with quiet_imports():
        import mindone.diffusers

        supply_cpu_kernels()
        kind = getattr(mindone.diffusers, name, None) if name.endswith("Scheduler") else None
        if kind is None:
            raise LatteError(f"{source}: {name} is not supported by MindONE; give --sampler")
        try:
            # Its from_config imports every scheduler that could take its place, and with them scipy.stats.
            known = signature(kind.__init__).parameters
            return kind(**{key: value for key, value in config.items() if key in known})
        except (TypeError, ValueError, NotImplementedError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise LatteError(f"{source}: cannot create the {name}: {reason}; or give --sampler") from error


def walk(
    scheduler: Any,
    model: Model,
    x_t: Array,
    *,
    steps: int,
    generator: Callable[[int], np.random.Generator],
    eta: float = 0.0,
) -> Iterator[SchedulerStep]:
    """Denoise x_t (B, F, C, h, w), standard normal, yielding every step.

    `generator` returns a step's random numbers. Raises LatteError for more steps than the scheduler supports.
    """
    try:
        scheduler.set_timesteps(steps)
    except ValueError as error:
        raise LatteError(f"sample.steps: found {steps}: {str(error).strip()}") from error
    kinds = set(signature(scheduler.step).parameters)
    options: dict[str, Any] = {"eta": eta} if "eta" in kinds else {}
    learned = getattr(scheduler.config, "variance_type", None) in ("learned", "learned_range")
    channels = x_t.shape[2]
    # Schedulers expect a learned variance in the second half of axis 1: channels before frames.
    latents = _tensor(x_t) * float(scheduler.init_noise_sigma)
    total = len(scheduler.timesteps)
    for index, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(latents, timestep).asnumpy().swapaxes(1, 2)
        number = timestep.asnumpy()
        output = model(scaled, np.full(len(scaled), number))
        if not learned:
            output = output[:, :, :channels]
        if "generator" in kinds:
            options["generator"] = generator(index)
        try:
            latents = scheduler.step(_tensor(output), timestep, latents, **options, return_dict=False)[0]
        except RuntimeError as error:
            if "unregistered" not in str(error) and "Unsupported" not in str(error):
                raise
            name, lacks = type(scheduler).__name__, "uses an operator that MindSpore lacks on this device"
            raise LatteError(f"the scheduler {name} {lacks}; give --sampler") from error
        yield SchedulerStep(index, total, float(number), latents.asnumpy().swapaxes(1, 2))


def schedule_of_config(config: Mapping[str, Any], steps: int, *, source: str) -> Schedule:
    """The noise schedule of a `scheduler_config.json`, respaced to `steps`, for this program's samplers.

    Raises LatteError naming `source` if they do not support it.
    """
    target = config.get("prediction_type", "epsilon")
    if target != "epsilon":
        raise LatteError(f"{source}: prediction_type: found {target}, expected epsilon; or omit --sampler")
    betas = _betas(config)
    if betas is None:
        kind = config["beta_schedule"]
        raise LatteError(f"{source}: beta_schedule: found {kind}, expected linear; or omit --sampler")
    kept = space_timesteps(len(betas), str(steps))
    return schedule_of(np.cumprod(1 - betas)[kept], kept)


def _betas(config: Mapping[str, Any]) -> FloatArray | None:
    """The variances of the chain's steps; None for a schedule of them that is not known."""
    count = int(config.get("num_train_timesteps", 1000))
    start, end = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
    kind = config.get("beta_schedule", "linear")
    if config.get("trained_betas") is not None:
        return np.array(config["trained_betas"], np.float64)
    if kind == "linear":
        return np.linspace(start, end, count)
    if kind == "scaled_linear":  # Stable Diffusion's
        return np.linspace(start**0.5, end**0.5, count) ** 2
    return None


def _tensor(latents: FloatArray) -> Tensor:
    return Tensor(np.ascontiguousarray(latents.swapaxes(1, 2), dtype=np.float32), ms.float32)
