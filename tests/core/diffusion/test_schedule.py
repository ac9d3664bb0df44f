"""The schedule's tables and respacing strings, against the PyTorch original's."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from latte_cli.core.diffusion.schedule import make_schedule, space_timesteps
from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import DiffusionSettings

GOLDEN = Path(__file__).parents[2] / "golden" / "diffusion"
EDGE_CASES = json.loads((GOLDEN / "respacing_edge_cases.json").read_text())


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("schedule_*.npz")), ids=lambda path: path.stem)
def test_every_table_equals_the_originals(path: Path) -> None:
    golden = np.load(path)
    respacing = path.stem.removeprefix("schedule_")
    schedule = make_schedule(DiffusionSettings(), None if respacing.startswith("full") else respacing)
    np.testing.assert_array_equal(schedule.timestep_map, golden["timestep_map"])
    assert schedule.num_timesteps == len(golden["timestep_map"])
    for name in golden.files:
        if name != "timestep_map":
            np.testing.assert_allclose(getattr(schedule.tables, name), golden[name], rtol=1e-12, err_msg=name)


def test_the_cosine_schedule_equals_the_originals() -> None:
    schedule = make_schedule(DiffusionSettings(beta_schedule="squaredcos_cap_v2"))
    expected = np.load(GOLDEN / "betas_cosine_1000.npz")["betas"]
    np.testing.assert_allclose(schedule.tables.betas, expected, rtol=1e-11)


@pytest.mark.parametrize("respacing", [text for text, kept in EDGE_CASES.items() if isinstance(kept, list)])
def test_a_respacing_keeps_what_the_original_keeps(respacing: str) -> None:
    kept = EDGE_CASES[respacing]
    if "..." in kept:
        kept = kept[: kept.index("...")]
        assert space_timesteps(1000, respacing)[: len(kept)].tolist() == kept
    else:
        assert space_timesteps(1000, respacing).tolist() == kept


@pytest.mark.parametrize("respacing", [text for text, kept in EDGE_CASES.items() if isinstance(kept, str)])
def test_a_respacing_that_the_original_refuses_is_refused(respacing: str) -> None:
    with pytest.raises(LatteError, match=rf'sample.respacing: found "{respacing}".*expected'):
        make_schedule(DiffusionSettings(), respacing)


@pytest.mark.parametrize("respacing", ["0", "0,0", "ten", "10,", "-3", "ddim", "ddimx", "2.5", " "])
def test_nonsense_is_refused(respacing: str) -> None:
    with pytest.raises(LatteError, match=rf'sample.respacing: found "{respacing}"'):
        make_schedule(DiffusionSettings(), respacing)


def test_a_refused_ddim_string_names_the_nearest_that_work() -> None:
    with pytest.raises(LatteError) as caught:
        space_timesteps(1000, "ddim37")
    assert str(caught.value) == (
        'sample.respacing: found "ddim37", but no integer stride over 1000 timesteps gives 37 of them;'
        " expected, for example, ddim36 or ddim38"
    )


@pytest.mark.parametrize(("total", "counts"), [(300, [10, 20, 30]), (1000, [7, 1, 50, 3]), (11, [2, 0, 3])])
def test_sections_are_equal_and_evenly_spread(total: int, counts: list[int]) -> None:
    expected, start = [], 0
    for place, count in enumerate(counts):
        size = total // len(counts) + (place < total % len(counts))
        stride = Fraction(size - 1, max(count - 1, 1))
        expected += [start + round(stride * nth) for nth in range(count)]
        start += size
    assert space_timesteps(total, ",".join(map(str, counts))).tolist() == expected


def test_no_respacing_keeps_the_whole_chain() -> None:
    for respacing in (None, ""):
        assert make_schedule(DiffusionSettings(), respacing).timestep_map.tolist() == list(range(1000))


def test_respacing_keeps_the_signal_left_at_each_timestep() -> None:
    whole, part = make_schedule(DiffusionSettings()), make_schedule(DiffusionSettings(), "10,20,30")
    expected = whole.tables.alphas_cumprod[part.timestep_map]
    np.testing.assert_allclose(part.tables.alphas_cumprod, expected, rtol=1e-12)


def test_a_chain_of_one_step_has_finite_coefficients() -> None:
    assert all(np.isfinite(table).all() for table in make_schedule(DiffusionSettings(), "1").tables)


def test_too_short_a_linear_schedule_is_refused() -> None:
    with pytest.raises(LatteError, match=r"diffusion\.num_timesteps: found 20, expected at least 21"):
        make_schedule(DiffusionSettings(num_timesteps=20))
    make_schedule(DiffusionSettings(num_timesteps=21))


def test_rows_are_looked_up_by_place_and_rounded_once() -> None:
    schedule = make_schedule(DiffusionSettings(), "250")
    steps = np.array([3, 0, 249])
    rows = schedule.at(steps).posterior_mean_coef1
    assert rows.shape == (3, 1, 1, 1, 1)
    assert rows.dtype == np.float32
    assert rows.ravel().tolist() == schedule.tables.posterior_mean_coef1[steps].astype(np.float32).tolist()


def test_tables_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        make_schedule(DiffusionSettings()).tables.betas[0] = 1
