import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.checkpoints.save import save_weights
from latte_cli.core.errors import LatteError
from latte_cli.core.recipes.convert import describe, run
from tests.core.checkpoints.reference import DIGESTS, GOLDEN, digest, read_torch_zip

VAE = GOLDEN / "vae"
VAE_KEYS = json.loads((GOLDEN / "keys/sd-vae-ft-mse.json").read_text())
FULL_PRECISION_VAES = [
    "diffusers",
    "diffusers/diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.bin",
    "old_attn_diffusion_pytorch_model.bin",
    "old_attn_diffusion_pytorch_model.safetensors",
    "ldm_bare.safetensors",
    "ldm_vae_state_dict.ckpt",
]
NOTES = json.loads((GOLDEN / "bad/README.json").read_text())
CONTROLS = {"good.pt", "good_golden.npz"}
VALID = {"good.pt": "ema", "ema_none.pt": "model"}
BAD = [name for name in NOTES if name not in CONTROLS and name not in VALID]


def digests(path: Path) -> dict[str, str]:
    """A converted file's tensors as `weights_sha256.json` has them."""
    weights = open_weights(path)
    return {name: digest(tensor.bits(), tensor.dtype.name) for name, tensor in weights.tensors.items()}


@pytest.mark.parametrize("file", DIGESTS)
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_every_checkpoint_converts_to_exactly_its_weights(tmp_path: Path, file: str, suffix: str) -> None:
    for section, expected in DIGESTS[file].items():
        target = tmp_path / f"{section}{suffix}"
        report = run(GOLDEN / file, target, weights=None if section == "bare" else section)
        assert digests(target) == expected
        assert (report.weights, report.target) == (section, str(target))
        assert report.kind == ("t2v" if file.startswith("t2v") else "latte")


@pytest.mark.parametrize("file", FULL_PRECISION_VAES)
def test_every_layout_of_the_autoencoder_converts_to_the_same_weights(tmp_path: Path, file: str) -> None:
    report = run(VAE / file, tmp_path / "x.safetensors")
    expected = load_file(VAE / "diffusers/diffusion_pytorch_model.safetensors")
    found = load_file(tmp_path / "x.safetensors")
    assert (report.kind, found.keys()) == ("vae", expected.keys())
    for name, array in expected.items():
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_weights_of_a_half_precision_stable_diffusion_checkpoint_are_exactly_rounded(
    tmp_path: Path,
) -> None:
    report = run(VAE / "ldm_full_sd_first_stage_fp16.ckpt", tmp_path / "x.safetensors")
    expected = load_file(VAE / "diffusers/diffusion_pytorch_model.safetensors")
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].tobytes() == array.astype(np.float16).tobytes()
    part = "not the autoencoder: another part of Stable Diffusion"
    assert report.ignored == {
        "epoch": "not weights of the model",
        "global_step": "not weights of the model",
        "model.diffusion_model.time_embed.0.weight": part,
        "cond_stage_model.transformer.text_model.final_layer_norm.weight": part,
    }


@pytest.mark.parametrize(("dtype", "words"), [("float16", "<f2"), ("bfloat16", "<u2"), ("float32", "<f4")])
def test_weights_are_rounded_as_in_the_published_variants(tmp_path: Path, dtype: str, words: str) -> None:
    rounded = {"float16": "fp16_ema.pt", "bfloat16": "bf16_ema.pt", "float32": "ckpt_train_with_img.pt"}[
        dtype
    ]
    run(GOLDEN / "latte/variants/ckpt_train.pt", tmp_path / "x.ckpt", dtype=dtype)
    assert digests(tmp_path / "x.ckpt") == DIGESTS[f"latte/variants/{rounded}"]["ema"]


@pytest.mark.parametrize(
    "file", ["ckpt_train.pt", "fp16_ema.pt", "bf16_ema.pt", "noncontiguous_shared_ema.pt"]
)
@pytest.mark.parametrize("between", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("last", [".pt", ".safetensors"])
def test_a_round_trip_is_bit_identical(tmp_path: Path, file: str, between: str, last: str) -> None:
    run(GOLDEN / "latte/variants" / file, tmp_path / f"a{between}")
    run(tmp_path / f"a{between}", tmp_path / f"b{last}", to="torch")
    run(tmp_path / f"b{last}", tmp_path / f"c{between}")
    assert digests(tmp_path / f"b{last}") == DIGESTS[f"latte/variants/{file}"]["ema"]
    assert (tmp_path / f"a{between}").read_bytes() == (tmp_path / f"c{between}").read_bytes()


def test_the_pytorch_file_has_the_entry_that_the_original_reads(tmp_path: Path) -> None:
    source = GOLDEN / "latte/uncond/ckpt_train.pt"
    for section in ("ema", "model"):
        run(source, tmp_path / f"{section}.pt", weights=section, to="torch")
        content = read_torch_zip(tmp_path / f"{section}.pt")
        found = {name: digest(array, array.dtype.name) for name, array in content[section].items()}
        assert (list(content), found) == ([section], DIGESTS["latte/uncond/ckpt_train.pt"][section])
    run(VAE / "ldm_bare.safetensors", tmp_path / "vae.pt", to="torch")
    assert (
        read_torch_zip(tmp_path / "vae.pt").keys()
        == load_file(VAE / "diffusers/diffusion_pytorch_model.safetensors").keys()
    )


def test_our_own_training_checkpoints_convert_back(tmp_path: Path) -> None:
    source = open_weights(GOLDEN / "latte/class/ckpt_train.pt")
    other = open_weights(GOLDEN / "latte/class/ckpt_train.pt", weights="model")
    arrays = {
        f"{part}/{name}": items.read(name)
        for part, items in (("ema", source), ("model", other))
        for name in items.names
    }
    arrays |= {f"optimizer/moment.{name}": np.zeros(3, np.float32) for name in source.names}
    save_weights(tmp_path / "step.ckpt", arrays, metadata={"step": "3"})
    for section in ("ema", "model"):
        report = run(tmp_path / "step.ckpt", tmp_path / f"{section}.pt", weights=section, to="torch")
        assert digests(tmp_path / f"{section}.pt") == DIGESTS["latte/class/ckpt_train.pt"][section]
        assert "optimizer (33)" in report.ignored


def test_mindones_checkpoints_convert(tmp_path: Path) -> None:
    """Their scripts save `network.` before each name, and MindSpore's name for the table of labels."""
    import mindspore as ms

    source = open_weights(GOLDEN / "latte/class/ckpt_train.pt")
    table = "y_embedder.embedding_table"
    theirs = {
        name.replace(f"{table}.weight", f"{table}.embedding_table"): source.read(name)
        for name in source.names
    }
    rows = [{"name": f"network.{name}", "data": ms.Tensor(array)} for name, array in theirs.items()]
    optimizer = [
        {"name": f"adam_m.network.{name}", "data": ms.Tensor(array)} for name, array in theirs.items()
    ]
    ms.save_checkpoint(
        rows + optimizer, str(tmp_path / "x.ckpt"), append_dict={"epoch_num": 3, "loss_scale": 2.0}
    )
    report = run(tmp_path / "x.ckpt", tmp_path / "y.ckpt")
    assert digests(tmp_path / "y.ckpt") == DIGESTS["latte/class/ckpt_train.pt"]["ema"]
    assert report.renamed[f"network.{table}.embedding_table"] == f"{table}.weight"
    assert len(report.ignored) == 33 + 2
    assert set(report.ignored.values()) == {"state of the optimizer"}

    averages = [{"name": f"ema.network.{name}", "data": ms.Tensor(array)} for name, array in theirs.items()]
    spare = [{"name": f"swap.network.{name}", "data": ms.Tensor(0 * array)} for name, array in theirs.items()]
    ms.save_checkpoint(averages + spare, str(tmp_path / "e.ckpt"), append_dict={"updates": 3.0})
    assert run(tmp_path / "e.ckpt", tmp_path / "f.ckpt").weights == "ema"
    assert digests(tmp_path / "f.ckpt") == DIGESTS["latte/class/ckpt_train.pt"]["ema"]


def test_mindspore_loads_converted_files(tmp_path: Path) -> None:
    import mindspore as ms

    run(GOLDEN / "latte/class/ckpt_train.pt", tmp_path / "x.ckpt")
    read = ms.load_checkpoint(str(tmp_path / "x.ckpt"))
    found = {name: digest(parameter.asnumpy(), "float32") for name, parameter in read.items()}
    assert found == DIGESTS["latte/class/ckpt_train.pt"]["ema"]


def test_the_report_lists_the_contents_of_the_source_and_the_changes(tmp_path: Path) -> None:
    source = GOLDEN / "latte/variants/ckpt_compiled_orig_mod.pt"
    run(source, tmp_path / "x.ckpt", report=tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    names = list(DIGESTS["latte/variants/ckpt_compiled_orig_mod.pt"]["ema"])
    assert report.pop("taken") == [f"_orig_mod.{name}" for name in report["renamed"].values()]
    assert sorted(report["renamed"].values()) == sorted(names)
    assert all(theirs == f"_orig_mod.{ours}" for theirs, ours in report.pop("renamed").items())
    assert report == {
        "kind": "latte",
        "weights": "ema",
        "preset": None,
        "parameters": 5320,
        "ignored": {"model": "another set of weights, for --weights model"},
        "source_sha256": "SHA",
        "source": str(source),
        "target": str(tmp_path / "x.ckpt"),
        "lora": [],
        "description": {
            "hidden_size": 8,
            "depth": 2,
            "patch_size": 2,
            "num_frames": 2,
            "image_size": 32,
            "condition": "class",
            "num_classes": 3,
            "learn_sigma": True,
            "mlp_ratio": 4.0,
            "text_features": None,
        },
    } | {"source_sha256": subprocess.check_output(["sha256sum", source], text=True).split()[0]}


def test_a_model_is_described_in_one_sentence(tmp_path: Path) -> None:
    report = run(GOLDEN / "latte/class/ckpt_train.pt", tmp_path / "x.ckpt", dry_run=True)
    assert describe(report) == (
        "Latte of width 36, depth 2, patch 2: 5 classes, 3 frames of 64 x 64 pixels, learned variance, "
        "63,680 parameters"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_finds_the_problems_of_a_run(tmp_path: Path) -> None:
    for name in ("nan_tensor.pt", "corrupt_crc.pt"):
        with pytest.raises(LatteError) as dry:
            run(GOLDEN / "bad" / name, tmp_path / "x.ckpt", dry_run=True)
        with pytest.raises(LatteError) as wet:
            run(GOLDEN / "bad" / name, tmp_path / "x.ckpt")
        assert str(dry.value) == str(wet.value)


@pytest.mark.parametrize("name", BAD)
def test_every_bad_file_gives_a_one_line_error_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    started = time.process_time()
    with pytest.raises(LatteError) as caught:
        run(GOLDEN / "bad" / name, tmp_path / "x.ckpt")
    assert time.process_time() - started < 5
    assert str(caught.value).startswith(f"{GOLDEN}/bad/{name}: ")
    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []


REASONS = {
    "missing_key.pt": "missing blocks.1.attn.qkv.weight",
    "extra_key.pt": "unexpected blocks.7.attn.qkv.weight",
    "wrong_shape.pt": "blocks.1.attn.qkv.weight of shape (11, 4), expected (12, 4)",
    "transposed_shape.pt": "blocks.1.attn.qkv.weight of shape (4, 12), expected (12, 4)",
    "nan_tensor.pt": "blocks.1.attn.qkv.weight contains an infinity or NaN",
    "inf_tensor.pt": "blocks.1.attn.qkv.weight contains an infinity or NaN",
    "int_dtype.pt": "blocks.1.attn.qkv.weight: found int32, expected floats",
    "corrupt_crc.pt": "data/4 is damaged",
    "evil_exec_outside_ema.pt": "its pickle calls for __builtin__.exec",
    "evil_os_system_zip.pt": "its pickle calls for posix.system",
}


@pytest.mark.parametrize(("name", "reason"), REASONS.items(), ids=REASONS)
def test_the_error_names_the_problem(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(LatteError) as caught:
        run(GOLDEN / "bad" / name, tmp_path / "x.ckpt")
    assert reason in str(caught.value)


def test_reading_the_bad_files_takes_less_than_a_gigabyte_and_runs_no_code(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from latte_cli.core.errors import LatteError
from latte_cli.core.recipes.convert import run
pages = Path("/proc/self/statm")
used = int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 0
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), resource.RLIM_INFINITY))
for path in sys.argv[1:]:
    try:
        run(Path(path), Path("x.ckpt"))
    except LatteError:
        continue
    raise SystemExit(f"{path} was converted")
assert "mindspore" not in sys.modules
"""
    files = [str(GOLDEN / "bad" / name) for name in BAD]
    subprocess.run([sys.executable, "-c", program, *files], cwd=tmp_path, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_the_default_target_is_next_to_the_source(tmp_path: Path) -> None:
    source = tmp_path / "weights.v2.pt"
    source.write_bytes((GOLDEN / "bad/good.pt").read_bytes())
    assert run(source).target == str(tmp_path / "weights.v2.ckpt")
    with pytest.raises(LatteError, match=r"weights\.v2\.pt: is the source itself; give another --target"):
        run(source, to="torch")
    folder = tmp_path / "sd-vae-ft-mse"
    folder.mkdir()
    for file in (VAE / "diffusers").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    assert run(folder).target == str(tmp_path / "sd-vae-ft-mse.ckpt")


def test_an_existing_target_is_kept_without_force(tmp_path: Path) -> None:
    target = tmp_path / "x.ckpt"
    target.write_text("mine")
    with pytest.raises(LatteError, match=r"x\.ckpt: already exists; use --force to replace it"):
        run(GOLDEN / "bad/good.pt", target)
    with pytest.raises(LatteError):
        run(GOLDEN / "bad/nan_tensor.pt", target, force=True)
    assert target.read_text() == "mine"
    run(GOLDEN / "bad/good.pt", target, force=True)
    assert digests(target) == DIGESTS["bad/good.pt"]["ema"]


@pytest.mark.parametrize(
    ("target", "to", "words"),
    [
        ("x.pt", "mindspore", r"found suffix '\.pt', expected \.ckpt or \.safetensors with --to mindspore"),
        (
            "x.ckpt",
            "torch",
            r"found suffix '\.ckpt', expected \.pt or \.pth or \.bin or \.safetensors with --to torch",
        ),
        ("x", "mindspore", r"found suffix ''"),
        ("folder.ckpt", "mindspore", "is a folder, expected a file"),
        ("file/x.ckpt", "mindspore", "cannot be written: File exists"),
    ],
)
def test_an_invalid_target_is_rejected(tmp_path: Path, target: str, to: str, words: str) -> None:
    (tmp_path / "folder.ckpt").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(LatteError, match=words):
        run(GOLDEN / "bad/good.pt", tmp_path / target, to=to)


def test_a_file_of_another_kind_than_requested_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(
        LatteError, match=r"good\.pt: is a Latte checkpoint, expected a Stable Diffusion autoencoder"
    ):
        run(GOLDEN / "bad/good.pt", tmp_path / "x.ckpt", kind="vae")


def test_a_value_too_large_for_float16_is_reported_for_the_source(tmp_path: Path) -> None:
    source = open_weights(GOLDEN / "bad/good.pt")
    arrays = {name: source.read(name).copy() for name in source.names}
    arrays["blocks.0.mlp.fc1.bias"][3] = 1e5
    save_file(arrays, tmp_path / "x.safetensors")
    with pytest.raises(
        LatteError, match=r"x\.safetensors: blocks\.0\.mlp\.fc1\.bias contains numbers too large for float16"
    ):
        run(tmp_path / "x.safetensors", tmp_path / "y.ckpt", dtype="float16")


def test_the_error_names_a_missing_source(tmp_path: Path) -> None:
    with pytest.raises(LatteError, match=r"nowhere\.pt: no such file or folder"):
        run(tmp_path / "nowhere.pt")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_conversion_takes_no_more_than_its_dry_run_shows(tmp_path: Path) -> None:
    size = (1152, 4608)
    names = load_file(VAE / "ldm_bare.safetensors")
    cost = run(VAE / "ldm_bare.safetensors", tmp_path / "x.ckpt", dtype="float16", dry_run=True).cost
    assert cost is not None
    assert cost.memory == 60_000_000 + max(array.nbytes for array in names.values())
    assert cost.disk == sum(2 * array.size for array in names.values())
    assert cost.seconds > 0
    numbers = {f"x{place}": np.ones(size, np.float32) for place in range(6)}
    save_file(numbers, tmp_path / "large.safetensors")
    program = (
        "import re, sys; from pathlib import Path; from latte_cli.core.checkpoints.open import open_weights;"
        "from latte_cli.core.checkpoints.save import check_numbers;"
        "weights = open_weights(Path(sys.argv[1]));"
        "check_numbers(weights.tensors, weights.path, dtype=None);"
        "status = Path('/proc/self/status').read_text();"
        "print(re.search(r'VmHWM:\\s+(\\d+)', status)[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "large.safetensors")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (
        1024 * int(done.stdout)
        < 60e6 + 2 * numbers["x0"].nbytes
        < sum(each.nbytes for each in numbers.values())
    )
