"""The forward process as float64 tables, full or respaced. Does not import MindSpore."""

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import DiffusionSettings

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
IntArray: TypeAlias = npt.NDArray[np.int64]

LARGEST_COSINE_BETA = 0.999  # Nichol & Dhariwal 2021, section 3.2
HALF_LEVEL = 1 / 255  # half the distance between the 256 levels of a pixel in [-1, 1]

# The values per row for a training step, in the order of `Schedule.training_columns`.
SIGNAL, NOISE, EPS_IN_STDS, X_START_IN_STDS, HALF_LEVEL_IN_STDS, LOG_VARIANCE_RANGE, IS_FIRST = range(7)


class Coefficients(NamedTuple):
    """The coefficients of the process (names of Ho et al. 2020): tables, or one value per row of a batch."""

    betas: FloatArray
    log_betas: FloatArray
    alphas_cumprod: FloatArray
    alphas_cumprod_prev: FloatArray
    alphas_cumprod_next: FloatArray
    sqrt_alphas_cumprod: FloatArray
    sqrt_one_minus_alphas_cumprod: FloatArray
    log_one_minus_alphas_cumprod: FloatArray
    sqrt_recip_alphas_cumprod: FloatArray
    sqrt_recipm1_alphas_cumprod: FloatArray
    posterior_variance: FloatArray
    posterior_log_variance_clipped: FloatArray
    posterior_mean_coef1: FloatArray
    posterior_mean_coef2: FloatArray
    fixed_large_variance: FloatArray


@dataclass(frozen=True, eq=False)
class Schedule:
    """A chain of steps, in order of increasing noise.

    timestep_map: (steps,) int64, each step's timestep in the training chain; tables: (steps,) float64.
    """

    timestep_map: IntArray
    tables: Coefficients

    @property
    def num_timesteps(self) -> int:
        """Steps of this chain."""
        return len(self.timestep_map)

    def at(self, steps: IntArray, dtype: npt.DTypeLike = np.float32) -> Coefficients:
        """Each row's coefficients, (B, 1, 1, 1, 1) of `dtype`, to multiply latents (B, F, C, h, w).

        steps: (B,) int in [0, num_timesteps), indices into this chain.
        """
        return Coefficients(*(table[steps].astype(dtype).reshape(-1, 1, 1, 1, 1) for table in self.tables))

    def training_columns(self, steps: IntArray) -> npt.NDArray[np.float32]:
        """Each row's values for `q_sample` and `training_loss`: (B, 7) float32. steps as for `at`."""
        tables = self.tables
        std = np.exp(0.5 * tables.posterior_log_variance_clipped)
        columns = {
            SIGNAL: tables.sqrt_alphas_cumprod,
            NOISE: tables.sqrt_one_minus_alphas_cumprod,
            # Change of the posterior mean, in standard deviations, per error in eps or x_start; x_t cancels.
            EPS_IN_STDS: tables.posterior_mean_coef1 * tables.sqrt_recipm1_alphas_cumprod / std,
            X_START_IN_STDS: -tables.posterior_mean_coef1 / std,
            HALF_LEVEL_IN_STDS: HALF_LEVEL / std,
            LOG_VARIANCE_RANGE: tables.log_betas - tables.posterior_log_variance_clipped,
            IS_FIRST: np.arange(self.num_timesteps) == 0,
        }
        return np.stack([columns[place][steps] for place in range(len(columns))], axis=1).astype(np.float32)


def make_schedule(settings: DiffusionSettings, respacing: str | None = None) -> Schedule:
    """Build the chain of `settings`, optionally respaced (Nichol & Dhariwal 2021, section 4).

    Raises LatteError for an invalid respacing or one without steps, and for too few timesteps.
    """
    alphas_cumprod = np.cumprod(1 - make_betas(settings))
    kept = np.arange(settings.num_timesteps)
    if respacing:
        kept = space_timesteps(settings.num_timesteps, respacing)
    if len(kept) == 0:
        raise LatteError(f'sample.respacing: found "{respacing}", which has no steps; expected at least 1')
    return schedule_of(alphas_cumprod[kept], kept)


def make_betas(settings: DiffusionSettings) -> FloatArray:
    """Variance added at each timestep, in (0, 1). Raises LatteError for too few timesteps."""
    count = settings.num_timesteps
    if settings.beta_schedule == "linear":
        scale = 1000 / count  # the same total noise for a shorter chain (Nichol & Dhariwal's code)
        betas = np.linspace(scale * 1e-4, scale * 0.02, count)
    else:
        time = np.arange(count + 1) / count
        signal = np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2  # Nichol & Dhariwal 2021, eq. 17
        betas = np.minimum(1 - signal[1:] / signal[:-1], LARGEST_COSINE_BETA)
    if betas.max() >= 1:  # nothing of the clean latents would remain
        raise LatteError(
            f"diffusion.num_timesteps: found {count}, expected at least 21 for a linear schedule"
        )
    return betas


def schedule_of(alphas_cumprod: FloatArray, timestep_map: IntArray) -> Schedule:
    """The chain with these cumulative alphas (Ho et al. 2020, eqs. 4 and 7)."""
    betas = 1 - alphas_cumprod / np.append(1.0, alphas_cumprod[:-1])
    alphas_cumprod = np.cumprod(1 - betas)
    previous = np.append(1.0, alphas_cumprod[:-1])
    variance = betas * (1 - previous) / (1 - alphas_cumprod)
    # The first posterior variance is 0: replaced by the second, or by beta in a chain of one step.
    second = variance[1] if len(variance) > 1 else betas[0]
    tables = Coefficients(
        betas=betas,
        log_betas=np.log(betas),
        alphas_cumprod=alphas_cumprod,
        alphas_cumprod_prev=previous,
        alphas_cumprod_next=np.append(alphas_cumprod[1:], 0.0),
        sqrt_alphas_cumprod=np.sqrt(alphas_cumprod),
        sqrt_one_minus_alphas_cumprod=np.sqrt(1 - alphas_cumprod),
        log_one_minus_alphas_cumprod=np.log(1 - alphas_cumprod),
        sqrt_recip_alphas_cumprod=np.sqrt(1 / alphas_cumprod),
        sqrt_recipm1_alphas_cumprod=np.sqrt(1 / alphas_cumprod - 1),
        posterior_variance=variance,
        posterior_log_variance_clipped=np.log(np.append(second, variance[1:])),
        posterior_mean_coef1=betas * np.sqrt(previous) / (1 - alphas_cumprod),
        posterior_mean_coef2=(1 - previous) * np.sqrt(1 - betas) / (1 - alphas_cumprod),
        fixed_large_variance=np.append(second, betas[1:]),
    )
    for table in tables:
        table.flags.writeable = False
    return Schedule(timestep_map.astype(np.int64), tables)


def space_timesteps(num_timesteps: int, respacing: str) -> IntArray:
    """The timesteps selected by a respacing string, ascending: (steps,) int64.

    "ddimN": every k-th timestep from 0, with k chosen to give N (Song et al. 2021). "10,20,30": the chain is
    divided into as many equal sections as there are numbers; each number is the count of evenly spaced
    timesteps in its section, including both ends (Nichol & Dhariwal 2021, section 4). Raises LatteError for
    other strings and for too many steps.
    """
    if respacing.startswith("ddim"):
        return evenly_strided(num_timesteps, respacing)
    counts = [step_count(part, respacing) for part in respacing.split(",")]
    size, longer = divmod(num_timesteps, len(counts))
    kept, start = [np.zeros(0, np.int64)], 0
    for place, count in enumerate(counts):
        section = size + (place < longer)
        if count > section:
            raise LatteError(
                f'sample.respacing: found "{respacing}", with {count} steps in a section of {section};'
                f" expected at most {section}"
            )
        # Summed, not multiplied: the sum's rounding decides how halves are rounded.
        stride = (section - 1) / (count - 1) if count > 1 else 1.0
        places = np.cumsum(np.append(0.0, np.full(max(count - 1, 0), stride)))[:count]
        kept.append(start + np.rint(places).astype(np.int64))
        start += section
    return np.unique(np.concatenate(kept))


def evenly_strided(num_timesteps: int, respacing: str) -> IntArray:
    """The timesteps of a "ddimN" string. Raises LatteError if no integer stride gives N."""
    requested = step_count(respacing.removeprefix("ddim"), respacing)
    counts = {-(-num_timesteps // stride): stride for stride in range(max(num_timesteps - 1, 1), 0, -1)}
    if requested not in counts:
        nearest = sorted(sorted(counts, key=lambda count: abs(count - requested))[:2])
        examples = " or ".join(f"ddim{count}" for count in nearest)
        raise LatteError(
            f'sample.respacing: found "{respacing}", but no integer stride over {num_timesteps} timesteps'
            f" gives {requested} of them; expected, for example, {examples}"
        )
    return np.arange(0, num_timesteps, counts[requested], dtype=np.int64)


def step_count(text: str, respacing: str) -> int:
    """A non-negative integer from part of a respacing string. Raises LatteError for anything else."""
    try:
        count = int(text)
    except ValueError:
        count = -1
    if count < 0:
        raise LatteError(
            f'sample.respacing: found "{respacing}", expected integers as in "250", "10,20,30" or "ddim50"'
        )
    return count
