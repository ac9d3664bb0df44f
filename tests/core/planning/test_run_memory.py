"""Memory of sampling a run, compared with written-out sums."""

import pytest

from latte_cli.core.models.architectures import sizes_of
from latte_cli.core.planning import run_memory
from latte_cli.core.planning.plan import Plan
from latte_cli.core.planning.run_memory import add_memory
from latte_cli.core.settings.schema import DataSettings, ModelSettings, SampleSettings, Settings, VaeSettings

SETTINGS = Settings(
    data=DataSettings(image_size=64, num_frames=4),
    model=ModelSettings(hidden_size=24, depth=2, num_heads=3, patch_size=2, condition="class", num_classes=5),
    sample=SampleSettings(guidance_scale=4.0),
    vae=VaeSettings(weights="demo", chunk_frames=2),
)


def test_sampling_latents_takes_the_weights_and_the_activations_of_a_gelu() -> None:
    plan = Plan()
    add_memory(plan, SETTINGS, decodes=False)
    values = 2 * 4 * 16 * (24 + 96 + 96 + 24)  # clips, frames, tokens, widths
    weights = 4 * sizes_of(SETTINGS).parameters()
    mindspore = 0.5e9
    assert plan.rows == [
        (
            "memory",
            f"about {(mindspore + weights + 4 * values) / 1e6:.0f} MB per worker:"
            f" MindSpore {mindspore / 1e6:.0f} MB,"
            f" weights {weights / 1e3:.0f} kB, activations {4 * values / 1e3:.0f} kB",
        )
    ]


def test_sampling_a_clip_takes_the_memory_of_the_autoencoder_too() -> None:
    plan = Plan()
    add_memory(plan, SETTINGS, decodes=True)
    (text,) = dict(plan.rows).values()
    assert [part.split()[0] for part in text.split(": ")[1].split(", ")] == [
        "MindSpore",
        "weights",
        "activations",
        "autoencoder",
        "decoding",
    ]


def test_without_a_condition_guidance_takes_no_second_row() -> None:
    conditional, unconditional = Plan(), Plan()
    add_memory(conditional, SETTINGS, decodes=False)
    model = SETTINGS.model.model_copy(update={"condition": "none", "num_classes": None})
    add_memory(unconditional, SETTINGS.model_copy(update={"model": model}), decodes=False)
    values = 4 * 4 * 16 * (24 + 96 + 96 + 24)
    assert f"activations {2 * values / 1e3:.0f} kB" in conditional.rows[0][1]
    assert f"activations {values / 1e3:.3g} kB" in unconditional.rows[0][1]


def test_the_error_for_too_little_memory_suggests_settings_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, latents = Plan(), Plan()
    add_memory(latents, SETTINGS, decodes=False)
    monkeypatch.setattr(run_memory, "free_memory", lambda: 520_000_000)
    add_memory(whole, SETTINGS, decodes=True)
    (problem,) = whole.problems
    assert problem.startswith("sampling takes about 63")
    assert problem.endswith(" MB of memory, 520 MB are free: expected --format latents, 500 MB")
    monkeypatch.setattr(run_memory, "free_memory", lambda: 1000)
    add_memory(latents, SETTINGS, decodes=False)
    assert latents.problems[0].endswith(" 1 kB are free: expected a smaller model")
    elsewhere = Plan()
    add_memory(elsewhere, SETTINGS.model_copy(update={"device": "ascend"}), decodes=False)
    assert elsewhere.problems == []
    assert "MindSpore" not in elsewhere.rows[0][1]
