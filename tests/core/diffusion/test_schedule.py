"""The schedule's tables and respacing strings, compared with the PyTorch original."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from latte_cli.core.diffusion.schedule import make_betas, make_schedule, space_timesteps
from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import DiffusionSettings

GOLDEN = Path(__file__).parents[2] / "golden" / "diffusion"
EDGE_CASES = json.loads((GOLDEN / "respacing_edge_cases.json").read_text())


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("schedule_*.npz")), ids=lambda path: path.stem)
def test_every_table_matches_the_original(path: Path) -> None:
    golden = np.load(path)
    respacing = path.stem.removeprefix("schedule_")
    schedule = make_schedule(DiffusionSettings(), None if respacing.startswith("full") else respacing)
    np.testing.assert_array_equal(schedule.timestep_map, golden["timestep_map"])
    assert schedule.num_timesteps == len(golden["timestep_map"])
    for name in golden.files:
        if name != "timestep_map":
            np.testing.assert_allclose(getattr(schedule.tables, name), golden[name], rtol=1e-12, err_msg=name)


def test_the_cosine_schedule_matches_the_original() -> None:
    settings = DiffusionSettings(beta_schedule="squaredcos_cap_v2")
    expected = np.load(GOLDEN / "betas_cosine_1000.npz")["betas"]
    np.testing.assert_allclose(make_betas(settings), expected, rtol=1e-11)
    np.testing.assert_allclose(make_schedule(settings).tables.betas, expected, rtol=1e-11)


@pytest.mark.parametrize("respacing", [text for text, kept in EDGE_CASES.items() if isinstance(kept, list)])
def test_respacing_keeps_the_same_timesteps_as_the_original(respacing: str) -> None:
    kept = EDGE_CASES[respacing]
    if "..." in kept:
        kept = kept[: kept.index("...")]
        assert space_timesteps(1000, respacing)[: len(kept)].tolist() == kept
    else:
        assert space_timesteps(1000, respacing).tolist() == kept


@pytest.mark.parametrize("respacing", [text for text, kept in EDGE_CASES.items() if isinstance(kept, str)])
def test_a_respacing_that_the_original_rejects_is_rejected(respacing: str) -> None:
    with pytest.raises(LatteError, match=rf'sample.respacing: found "{respacing}".*expected'):
        make_schedule(DiffusionSettings(), respacing)


@pytest.mark.parametrize("respacing", ["0", "0,0", "ten", "10,", "-3", "ddim", "ddimx", "2.5", " "])
def test_an_invalid_respacing_is_rejected(respacing: str) -> None:
    with pytest.raises(LatteError, match=rf'sample.respacing: found "{respacing}"'):
        make_schedule(DiffusionSettings(), respacing)


def test_the_error_for_a_ddim_string_suggests_the_nearest_valid_ones() -> None:
    with pytest.raises(LatteError) as caught:
        space_timesteps(1000, "ddim37")
    assert str(caught.value) == (
        'sample.respacing: found "ddim37", but no integer stride over 1000 timesteps gives 37 of them;'
        " expected, for example, ddim36 or ddim38"
    )


@pytest.mark.parametrize(("total", "counts"), [(300, [10, 20, 30]), (1000, [7, 1, 50, 3]), (11, [2, 0, 3])])
def test_sections_have_equal_sizes_and_evenly_spaced_steps(total: int, counts: list[int]) -> None:
    expected, start = [], 0
    for place, count in enumerate(counts):
        size = total // len(counts) + (place < total % len(counts))
        stride = Fraction(size - 1, max(count - 1, 1))
        expected += [start + round(stride * nth) for nth in range(count)]
        start += size
    assert space_timesteps(total, ",".join(map(str, counts))).tolist() == expected


def test_without_respacing_the_full_chain_is_kept() -> None:
    for respacing in (None, ""):
        assert make_schedule(DiffusionSettings(), respacing).timestep_map.tolist() == list(range(1000))


def test_respacing_keeps_alphas_cumprod_of_each_timestep() -> None:
    whole, part = make_schedule(DiffusionSettings()), make_schedule(DiffusionSettings(), "10,20,30")
    expected = whole.tables.alphas_cumprod[part.timestep_map]
    np.testing.assert_allclose(part.tables.alphas_cumprod, expected, rtol=1e-12)


def test_a_chain_of_one_step_has_finite_coefficients() -> None:
    assert all(np.isfinite(table).all() for table in make_schedule(DiffusionSettings(), "1").tables)


def test_a_linear_schedule_that_is_too_short_is_rejected() -> None:
    with pytest.raises(LatteError, match=r"diffusion\.num_timesteps: found 20, expected at least 21"):
        make_schedule(DiffusionSettings(num_timesteps=20))
    make_schedule(DiffusionSettings(num_timesteps=21))


def test_coefficients_are_indexed_by_step_and_rounded_once() -> None:
    schedule = make_schedule(DiffusionSettings(), "250")
    steps = np.array([3, 0, 249])
    rows = schedule.at(steps).posterior_mean_coef1
    assert rows.shape == (3, 1, 1, 1, 1)
    assert rows.dtype == np.float32
    assert rows.ravel().tolist() == schedule.tables.posterior_mean_coef1[steps].astype(np.float32).tolist()


def test_tables_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        make_schedule(DiffusionSettings()).tables.betas[0] = 1


def test_a_shorter_linear_chain_adds_the_same_total_noise() -> None:
    betas = make_schedule(DiffusionSettings(num_timesteps=100)).tables.betas
    np.testing.assert_allclose(betas, np.linspace(1e-3, 0.2, 100), rtol=1e-11)


def test_a_chain_of_two_steps_takes_its_first_variance_from_the_second() -> None:
    tables = make_schedule(DiffusionSettings(), "2").tables
    first, last = make_schedule(DiffusionSettings()).tables.alphas_cumprod[[0, 999]]
    second = (1 - last / first) * (1 - first) / (1 - last)
    np.testing.assert_allclose(tables.posterior_variance, [0, second], rtol=1e-10)
    np.testing.assert_allclose(np.exp(tables.posterior_log_variance_clipped), [second] * 2, rtol=1e-10)
    np.testing.assert_allclose(tables.fixed_large_variance, [second, 1 - last / first], rtol=1e-10)


@pytest.mark.parametrize(
    ("total", "respacing", "kept"),
    [
        (1, "ddim1", [0]),
        (3, "ddim2", [0, 2]),
        (4, "ddim4", [0, 1, 2, 3]),
        (4, "2,2", [0, 1, 2, 3]),
        (5, "3,2", [0, 1, 2, 3, 4]),
    ],
)
def test_respacing_can_keep_every_timestep_of_a_short_chain(
    total: int, respacing: str, kept: list[int]
) -> None:
    assert space_timesteps(total, respacing).tolist() == kept


@pytest.mark.parametrize("total", [2, 3, 1000])
def test_a_stride_of_the_complete_chain_is_rejected_as_in_the_original(total: int) -> None:
    with pytest.raises(LatteError, match=f'found "ddim1", but no integer stride over {total} timesteps'):
        space_timesteps(total, "ddim1")


@pytest.mark.parametrize("respacing", ["250", "ddim50"])
def test_the_columns_for_training_match_the_formulas(respacing: str) -> None:
    schedule = make_schedule(DiffusionSettings(), respacing)
    steps = np.array([0, 1, 7, schedule.num_timesteps - 1])
    at = make_schedule(DiffusionSettings()).tables.alphas_cumprod[schedule.timestep_map]
    before = np.append(1, at[:-1])
    beta = 1 - at / before
    variance = beta * (1 - before) / (1 - at)
    variance[0] = variance[1]
    std = np.sqrt(variance)
    to_mean = beta * np.sqrt(before) / (1 - at)  # the posterior mean's factor of x_start
    expected = np.stack(
        [
            np.sqrt(at),
            np.sqrt(1 - at),
            to_mean * np.sqrt((1 - at) / at) / std,
            -to_mean / std,
            1 / 255 / std,
            np.log(beta / variance),
            np.arange(len(at)) == 0,
        ],
        axis=1,
    )
    found = schedule.training_columns(steps)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[steps], rtol=1e-6)
