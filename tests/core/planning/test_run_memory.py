"""Memory of sampling a run, against sums written out."""

from latte_cli.core.models.architectures import sizes_of
from latte_cli.core.planning.plan import Plan
from latte_cli.core.planning.run_memory import add_memory
from latte_cli.core.settings.schema import DataSettings, ModelSettings, SampleSettings, Settings, VaeSettings

SETTINGS = Settings(
    data=DataSettings(image_size=64, num_frames=4),
    model=ModelSettings(hidden_size=24, depth=2, num_heads=3, patch_size=2),
    sample=SampleSettings(guidance_scale=4.0),
    vae=VaeSettings(weights="demo", chunk_frames=2),
)


def test_latents_take_the_weights_and_two_clips_around_a_gelu() -> None:
    plan = Plan()
    add_memory(plan, SETTINGS, decodes=False)
    values = 2 * 4 * 16 * (24 + 96 + 96 + 24)  # clips, frames, tokens, widths
    weights = 4 * sizes_of(SETTINGS).parameters()
    assert plan.rows == [
        (
            "memory",
            f"about {(weights + 4 * values) / 1e3:.0f} kB per worker, plus MindSpore itself:"
            f" weights {weights / 1e3:.0f} kB, activations {4 * values / 1e3:.0f} kB",
        )
    ]


def test_a_clip_takes_the_autoencoder_too() -> None:
    plan = Plan()
    add_memory(plan, SETTINGS, decodes=True)
    (text,) = dict(plan.rows).values()
    assert [part.split()[0] for part in text.split(": ")[1].split(", ")] == [
        "weights",
        "activations",
        "autoencoder",
        "decoding",
    ]
