"""The experiment file: reading it, its error messages, and writing it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latte_cli.core.errors import LatteError
from latte_cli.core.experiment.loading import dump_settings, load_settings, parse_override
from latte_cli.core.settings.schema import DataSettings, Settings
from latte_cli.core.settings.yaml import parse_yaml, scalar_yaml


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of an experiment file in the working directory."""
    monkeypatch.chdir(tmp_path)
    return Path("sky.yaml")


def fault_of(experiment: Path, text: str, **options: object) -> str:
    """The error message for an invalid file."""
    experiment.write_text(text)
    with pytest.raises(LatteError) as caught:
        load_settings(experiment, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_values_missing_in_the_file_have_their_defaults(experiment: Path) -> None:
    experiment.write_text("seed: 7\ndata: {num_frames: 8}\ntrain:\n")
    settings = load_settings(experiment)
    assert (settings.seed, settings.data.num_frames, settings.data.image_size) == (7, 8, 256)


def test_a_setting_of_an_older_version_is_ignored_with_a_warning(
    experiment: Path, caplog: pytest.LogCaptureFixture
) -> None:
    experiment.write_text("sample: {batch_size: 2, steps: 9}\n")
    assert load_settings(experiment).sample.steps == 9
    assert caplog.messages == ["sky.yaml: sample.batch_size: ignored: clips are sampled one at a time"]
    assert "batch_size" not in Settings.model_validate({"sample": {"batch_size": 2}}).sample.model_dump()


def test_overrides_apply_in_order(experiment: Path) -> None:
    experiment.write_text("train: {steps: 5, batch_size: 3}\n")
    overrides = [parse_override(text) for text in ("train.steps=6", "seed=1", "train.steps=7")]
    settings = load_settings(experiment, overrides)
    assert (settings.train.steps, settings.train.batch_size, settings.seed) == (7, 3, 1)


def test_an_override_can_contain_any_yaml(experiment: Path) -> None:
    experiment.write_text("model: {num_classes: 9, condition: class}\n")
    overrides = [
        parse_override(text) for text in ("sample.class_labels=[1, 8]", "data.root=a=b", "train.clip_norm=")
    ]
    settings = load_settings(experiment, overrides)
    assert settings.sample.class_labels == (1, 8)
    assert (settings.data.root, settings.train.clip_norm) == (Path("a=b"), None)


def test_the_file_in_the_working_directory_is_preferred_to_the_demo(experiment: Path) -> None:
    assert load_settings().run_dir == Path("runs/demo")
    Path("latte.yaml").write_text("run_dir: here\n")
    assert load_settings().run_dir == Path("here")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1E5", 1e5), ("-.5", -0.5), ("1.", 1.0), ("010", 10), ("0o7", "0o7"), ("yes", "yes"),
     ("true", True), ("~", None), ("", None), ("10,20", "10,20"), ("1:30", "1:30"), ("2020-01-01", "2020-01-01")],
)  # fmt: skip
def test_scalars_are_read_as_yaml_1_2_reads_them(text: str, value: object) -> None:
    found = parse_yaml(f"key: {text}", "x")["key"]
    assert (found, type(found)) == (value, type(value))


@settings(deadline=None)  # a busy machine is not an error
@given(st.text(max_size=12) | st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none())
def test_a_scalar_is_written_so_that_it_reads_back_the_same(value: object) -> None:
    found = parse_yaml(f"key: {scalar_yaml(value)}", "x")["key"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("explained", [True, False])
def test_written_settings_load_back_equal(experiment: Path, explained: bool) -> None:
    text = "data: {root: 'a: b #c'}\nsample: {respacing: 250, class_labels: [1, 2]}\ntrain: {learning_rate: 3e-7}\n"
    experiment.write_text(text + "model: {condition: class, num_classes: 3}\n")
    settings = load_settings(experiment)
    experiment.write_text(dump_settings(settings, explained=explained))
    assert load_settings(experiment) == settings


def test_written_settings_have_a_comment_for_every_key() -> None:
    lines = dump_settings(Settings()).splitlines()
    keys = [number for number, line in enumerate(lines) if line.strip() and not line.strip().startswith("#")]
    bare = [lines[number] for number in keys if not lines[number - 1].strip().startswith("#")]
    assert bare == [f"{name}:" for name in Settings.model_fields if name not in ("run_dir", "seed", "device")]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("train: {learning_rte: 1}", "train.learning_rte: unknown key; did you mean train.learning_rate?"),
        ("image_size: 64", "image_size: unknown key; did you mean data.image_size?"),
        ("bench: {zzz: 1}", "bench.zzz: unknown key; expected one of steps, warmup_steps"),
        ("seed: true", f"seed: found true, expected an integer, at least 0, at most {2**63 - 1}"),
        ("train: {steps: 2.5}", "train.steps: found 2.5, expected an integer, at least 1"),
        ("train: {clip_norm: 0}", "train.clip_norm: found 0, expected a number, more than 0, or null"),
        ("train: {learning_rate: .inf}", "train.learning_rate: found inf, expected a number, more than 0"),
        ("data: {root: {a: b}}", "data.root: found keys and values, expected a path, or null"),
        ("train: {max_device_memory: much}", 'train.max_device_memory: found "much", expected text such as 59GB, or null'),
        ("train: {sink_mode: x}", 'train.sink_mode: found "x", expected auto, true or false'),
        ("vae: {chunk_frames: 0}", "vae.chunk_frames: found 0, expected auto, an integer at least 1"),
        ("data: {validation: 1.0}", "data.validation: found 1.0, expected a number more than 0 and less than 1, a path, or null"),
        ("data: {image_size: 100}", "data.image_size: found 100, expected an integer, at least 8, a multiple of 8"),
        ("data: 3", "data: found 3, expected keys and values"),
        ("model: {condition: x}", 'model.condition: found "x", expected one of none, class, text'),
        ("sample: {prompts: [1.5]}", "sample.prompts: found 1.5, expected a list of texts"),
        ("sample: {class_labels: [a]}", 'sample.class_labels: found "a", expected a list of integers'),
    ],
)  # fmt: skip
def test_the_error_for_an_invalid_value_is_one_line_with_its_key_and_what_is_expected(
    experiment: Path, text: str, fault: str
) -> None:
    assert fault_of(experiment, text) == f"sky.yaml: {fault}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("model: {preset: Latte-XL/3}", 'model.preset: found "Latte-XL/3", expected Latte-XL, -L, -B or -S with /2, /4 or /8; did you mean Latte-XL/2?'),
        ("model: {depth: 4}", "model: size not defined; expected hidden_size, num_heads, patch_size, or model.preset such as Latte-XL/2"),
        ("model: {preset: Latte-S/2, depth: 3}", "model.depth: found 3, expected an even number: spatial and temporal blocks alternate"),
        ("model: {preset: Latte-S/2, num_heads: 5}", "model.num_heads: found 5, expected a divisor of hidden_size 384"),
        ("model: {preset: Latte-S/2, hidden_size: 6}", "model.hidden_size: found 6, expected a multiple of 4: sines and cosines for two axes"),
        ("model: {preset: Latte-S/8}\ndata: {image_size: 96}", "data.image_size: found 96, expected a multiple of 64: patch_size 8 x 8"),
        ("train: {validate_every: 5}", "train.validate_every: found 5, expected 0, or data.validation: a folder of videos, or a share of data.root's"),
        ("train: {keep_best: true}", "train.keep_best: found true, expected false, or steps in train.validate_every"),
        ("model: {condition: class}", "model.num_classes: not set, expected a number of classes, for condition: class"),
        ("model: {num_classes: 3}", "model.num_classes: found 3, expected null, for condition: none"),
        ("model: {condition: class, num_classes: 3}\nsample: {class_labels: [0, 3]}", "sample.class_labels: found 3, expected labels from 0 to 2 (model.num_classes 3)"),
        ("sample: {class_labels: [0]}", "sample.class_labels: found labels, expected none for condition: none"),
        ("data: {random_flip: true}\ncache: {dir: c}", "data.random_flip: found true, expected false, or cache.mirror: true, since the cache contains no mirrored clips"),
        ("sample: {respacing: ddim37}", 'sample.respacing: found "ddim37", expected "250", "ddim50", "10,20,30" or similar, for 1000 steps'),
        ("sample: {respacing: '500,501'}", 'sample.respacing: found "500,501", expected "250", "ddim50", "10,20,30" or similar, for 1000 steps'),
        ("model: {architecture: latte-t2v, preset: Latte-S/2, condition: text}", 'model.preset: found "Latte-S/2", expected Latte-1'),
        ("model: {architecture: latte-t2v, preset: Latte-1}", 'model.condition: found "none", expected text, for architecture: latte-t2v'),
        ("model: {architecture: latte-t2v, preset: Latte-1, condition: text, mlp_ratio: 2}", "model.mlp_ratio: found 2.0, expected 4, for architecture: latte-t2v"),
        ("train: {part: temporal}", 'train.part: found "temporal", expected all, for architecture: latte'),
        ("model: {architecture: latte-t2v, preset: Latte-1, condition: text}\ntrain: {part: lora}", "train.init_from: not set, expected weights to adapt, for part: lora: a pipeline folder or a transformer's weights"),
        ("sample: {prompts: [a cat]}", "sample.prompts: found prompts, expected none for condition: none"),
        ("sample: {steps: 1001}", "sample.steps: found 1001, expected at most diffusion.num_timesteps 1000"),
    ],
)  # fmt: skip
def test_the_error_names_settings_that_contradict_each_other(experiment: Path, text: str, fault: str) -> None:
    assert fault_of(experiment, text) == f"sky.yaml: {fault}"


@pytest.mark.parametrize(
    "respacing", ["250", "1000", "ddim50", "ddim1000", "ddim3", "10,20,30", "334,333,333"]
)
def test_respacing_strings_of_the_original_are_accepted(experiment: Path, respacing: str) -> None:
    experiment.write_text(f"sample: {{respacing: '{respacing}'}}")
    assert load_settings(experiment).sample.respacing == respacing


@pytest.mark.parametrize(
    "respacing", ["0", "1001", "ddim0", "ddim37", "ddim501", "-1", "ddim5,5", "x", "1,,2"]
)
def test_respacing_strings_without_steps_are_rejected(experiment: Path, respacing: str) -> None:
    fault = fault_of(experiment, f"sample: {{respacing: '{respacing}'}}")
    assert fault.startswith("sky.yaml: sample.respacing: found")


def test_all_errors_are_reported_together_those_of_single_values_first(experiment: Path) -> None:
    text = "seed: -1\ntrain: {learning_rte: 1}\nmodel: {preset: Latte-S/2, depth: 3}\n"
    assert fault_of(experiment, text) == (
        "sky.yaml: 3 faults\n"
        f"  seed: found -1, expected an integer, at least 0, at most {2**63 - 1}\n"
        "  train.learning_rte: unknown key; did you mean train.learning_rate?\n"
        "  model.depth: found 3, expected an even number: spatial and temporal blocks alternate"
    )


def test_an_invalid_value_is_not_compared_with_other_settings(experiment: Path) -> None:
    text = "model: {preset: Latte-S/8}\ndata: {image_size: 100}\n"
    assert fault_of(experiment, text).count("image_size") == 1


def test_an_error_on_the_command_line_does_not_name_the_file(experiment: Path) -> None:
    fault = fault_of(experiment, "seed: 1", overrides=[parse_override("train.steps=0")])
    assert fault == "train.steps: found 0, expected an integer, at least 1"


def test_each_command_names_missing_settings(experiment: Path) -> None:
    assert fault_of(experiment, "seed: 1", command="cache") == (
        "sky.yaml: 3 faults\n"
        "  data.root: not set, expected a folder of videos\n"
        '  vae.weights: not set, expected a file, a diffusers folder, or "demo"\n'
        "  cache.dir: not set, expected a folder for the latents"
    )
    text = "model: {preset: Latte-S/2, condition: text}\ndata: {root: x}\nvae: {weights: y}"
    fault = "text.encoder: not set, expected the folder of a CLIP text encoder, for condition: text"
    assert fault_of(experiment, text, command="train") == f"sky.yaml: {fault}"


def test_training_from_a_cache_needs_neither_videos_nor_autoencoder(experiment: Path) -> None:
    experiment.write_text("model: {preset: Latte-S/2}\ncache: {dir: latents}")
    assert load_settings(experiment, command="train").data.root is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\nb: [", "sky.yaml, line 2: not valid YAML: expected the node content, but found '<stream end>'"),
        ("seed: 1\ntrain: {steps: 1}\nseed: 2", 'sky.yaml, line 3: not valid YAML: duplicate key "seed"'),
        ("- 1\n", "sky.yaml: found no sections, expected keys and values such as `seed: 1`"),
        ("a: !!python/object/apply:os.getcwd []", "sky.yaml, line 1: not valid YAML: could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.getcwd'"),
        ("a: &x [*x]", "sky.yaml, line 1: not valid YAML: found unconstructable recursive node"),
    ],
)  # fmt: skip
def test_errors_in_an_experiment_file_name_the_line(experiment: Path, text: str, fault: str) -> None:
    assert fault_of(experiment, text) == fault


def test_the_error_names_a_missing_file(experiment: Path) -> None:
    with pytest.raises(LatteError, match=r"sky\.yaml: no such file, expected an experiment file \(YAML\)"):
        load_settings(experiment)


def test_the_error_for_a_missing_file_suggests_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LatteError, match=r"\(YAML\), or -c ucf101 for the shipped one$"):
        load_settings(Path("configs/ucf101.yaml"))


def test_the_error_for_other_missing_files_suggests_nothing() -> None:
    with pytest.raises(LatteError, match=r"\(YAML\)$"):
        load_settings(Path("configs/ours.yaml"))


def test_the_error_names_a_file_that_is_not_text(experiment: Path) -> None:
    experiment.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LatteError, match=r"sky\.yaml: not UTF-8 text"):
        load_settings(experiment)


def test_settings_are_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        DataSettings().num_frames = 3  # type: ignore[misc]


@pytest.mark.parametrize("path", ["x" * 5000, "x/" * 3000, "a\0b"])
def test_an_impossible_path_gives_a_one_line_error(path: str) -> None:
    with pytest.raises(LatteError) as caught:
        load_settings(None, [("data.root", path), ("sample.pipeline", path)])
    heading, *faults = str(caught.value).split("\n  ")
    assert heading == "the built-in demo: 2 faults"
    assert [fault.split(": ")[0] for fault in faults] == ["data.root", "sample.pipeline"]
    assert all("expected a valid path: this one is too long or contains \\0" in each for each in faults)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("a: &a [x]\n" + "".join(f"{n}: &{n} [*{o}, *{o}]\n" for o, n in zip("abcdefg", "bcdefgh", strict=True)), "unknown key"),
        ("train: &a\n  steps: *a\n", "not valid YAML: found unconstructable recursive node"),
        ("[" * 100_000, "not valid YAML: nested more than 16 levels deep"),
        ("{a: " * 50_000, "not valid YAML: nested more than 16 levels deep"),
        ("seed: " + "9" * 10_000, "not valid YAML: cannot be read"),
        ("x" * 300_000 + ": 1", "found more than 262,144 bytes, expected an experiment file (YAML)"),
        ("? " + "k" * 100_000 + "\n: 1", "kkk...: unknown key"),
        ("seed: !!python/object/apply:os.system [touch PWNED]", "not valid YAML: could not determine a constructor"),
        ("seed: 1\nseed: 2\n", 'not valid YAML: duplicate key "seed"'),
        ("base: &b {steps: 3}\ntrain:\n  <<: *b\n", "unknown key"),
        ("\0", "not valid YAML: special characters are not allowed"),
    ],
    ids=["aliases", "itself", "lists", "mappings", "digits", "long", "key", "code", "twice", "merge", "NUL"],
)  # fmt: skip
def test_a_hostile_experiment_file_is_rejected_at_once(content: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(content)
    with pytest.raises(LatteError) as caught:
        load_settings(path)
    assert fault in str(caught.value)
    assert all(len(line) < 400 for line in str(caught.value).splitlines())
    assert not Path("PWNED").exists()
