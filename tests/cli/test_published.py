"""Weights by name, `hf://...`, fetched from a small hub on this machine, and possible errors."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download
from huggingface_hub.utils import reset_sessions
from typer.testing import CliRunner, Result

from latte_cli.cli import app as cli
from latte_cli.core.storage import hub as storage
from tests.small_hub import COMMIT, SmallHub, small_hub

GOLDEN = Path(__file__).parents[1] / "golden"
LATTE = GOLDEN / "latte" / "uncond"
runner = CliRunner()
URL = "/{repo_id}/resolve/{revision}/{filename}"
SIZE = [
    "data.num_frames=4",
    "data.image_size=64",
    "model.hidden_size=24",
    "model.depth=2",
    "model.num_heads=2",
]
VAE = "vae.weights=hf://stabilityai/sd-vae-ft-mse"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    """A hub with the golden files under published names, an empty cache, an empty working directory."""
    with small_hub() as small:
        small.add("maxin-cn/Latte", {"skytimelapse.pt": LATTE / "ckpt_train.pt", "ffs.pt": b"x"})
        small.add("maxin-cn/Latte-1", GOLDEN / "t2v" / "pipeline")
        vae = dict(files_of(GOLDEN / "vae" / "diffusers"))
        weights = vae["diffusion_pytorch_model.safetensors"]
        unwanted = {
            "diffusion_pytorch_model.bin": weights,
            "diffusion_pytorch_model.fp16.safetensors": weights,
        }
        small.add("stabilityai/sd-vae-ft-mse", {**vae, **unwanted, "README.md": b"# about"})
        monkeypatch.setattr(constants, "ENDPOINT", small.url)
        monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", small.url + URL)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 14)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        reset_sessions()
        yield small
    reset_sessions()


def files_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    reset_sessions()


def latte(*arguments: str | Path) -> Result:
    return runner.invoke(cli.app, [*map(str, arguments)], catch_exceptions=False)


def converted(name: str, *flags: str) -> Result:
    return latte("convert", "--source", name, "--target", "out.safetensors", "--force", *flags)


def fault(result: Result) -> str:
    """The one-line error of a command."""
    assert result.exit_code == 1, result.stdout
    line = result.stderr.splitlines()[-1]
    assert not any("Traceback" in text for text in result.stderr.splitlines())
    return line


def test_a_file_is_converted_by_name_and_the_report_names_its_commit(hub: SmallHub) -> None:
    result = latte("convert", "--source", "hf://maxin-cn/Latte/skytimelapse.pt", "--report", "report.json")
    assert result.exit_code == 0, result.stderr
    assert Path("skytimelapse.ckpt").is_file()
    report = json.loads(Path("report.json").read_text())
    assert report["source"] == f"hf://maxin-cn/Latte/skytimelapse.pt@{COMMIT}"
    size = len(hub.repositories["maxin-cn/Latte"].files["skytimelapse.pt"])
    assert f"fetching hf://maxin-cn/Latte/skytimelapse.pt@{COMMIT} ({size / 1e3:.0f} kB)" in result.stderr
    assert hub.fetched() == ["skytimelapse.pt"]


def test_cached_files_are_not_requested_again(hub: SmallHub) -> None:
    assert converted("hf://maxin-cn/Latte/skytimelapse.pt").exit_code == 0
    hub.asked.clear()
    for name in ("hf://maxin-cn/Latte/skytimelapse.pt", f"hf://maxin-cn/Latte/skytimelapse.pt@{COMMIT}"):
        assert converted(name).exit_code == 0
    assert hub.asked == []


def test_the_configuration_and_one_file_of_weights_of_a_folder_are_fetched(hub: SmallHub) -> None:
    assert converted("hf://stabilityai/sd-vae-ft-mse").exit_code == 0
    assert sorted(hub.fetched()) == ["config.json", "diffusion_pytorch_model.safetensors"]


def test_only_the_converted_part_of_a_pipeline_is_fetched(hub: SmallHub) -> None:
    assert converted("hf://maxin-cn/Latte-1", "--kind", "t2v").exit_code == 0
    part = "transformer/diffusion_pytorch_model.safetensors"
    assert hub.fetched() == ["model_index.json", "transformer/config.json", part]
    line = fault(converted("hf://maxin-cn/Latte-1"))
    assert (
        line
        == "hf://maxin-cn/Latte-1: a pipeline of several models; name one, such as hf://maxin-cn/Latte-1/vae"
    )
    assert converted("hf://maxin-cn/Latte-1/vae").exit_code == 0


def test_a_broken_transfer_resumes_where_it_ended(hub: SmallHub) -> None:
    hub.breaks["skytimelapse.pt"] = [100_000, 70_000]
    assert converted("hf://maxin-cn/Latte/skytimelapse.pt").exit_code == 0
    begins = [
        int(line.rpartition("=")[2][:-1]) if "=" in line else 0 for line in hub.asked if "GET /maxin" in line
    ]
    assert len(begins) == 3
    assert 0 == begins[0] < begins[1] < begins[2]
    assert begins[1] <= 100_000


def test_an_incomplete_transfer_is_reported_and_a_later_command_resumes_it(hub: SmallHub) -> None:
    name = "hf://maxin-cn/Latte/skytimelapse.pt"
    hub.breaks["skytimelapse.pt"] = [40_000] * storage.ATTEMPTS
    assert fault(converted(name)) == f"{name}: the transfer broke off; the same command continues it"
    hub.asked.clear()
    assert converted(name).exit_code == 0
    assert next(line for line in hub.asked if line.startswith("GET /maxin")).split("bytes=")[1] != "0-"


def test_a_file_that_does_not_match_the_hub_is_removed(hub: SmallHub) -> None:
    name = "hf://maxin-cn/Latte/skytimelapse.pt"
    good = hub.repositories["maxin-cn/Latte"].files["skytimelapse.pt"]
    for spoilt, words in (
        (good[:-1] + b"!", "found content with the digest"),
        (good + b"more", "the transfer broke off"),
        (good[:-1], "found a file of another size than"),
    ):
        hub.spoilt["skytimelapse.pt"] = spoilt
        line = fault(converted(name))
        assert line.startswith(f"{name}: {words}"), line
        assert not list(Path(constants.HF_HUB_CACHE).rglob("*.pt"))
    hub.spoilt.clear()
    for _ in range(2):  # the partial last file could be mistaken for the beginning of this one
        result = converted(name)
        if result.exit_code == 0:
            return
    raise AssertionError(result.stderr)


def test_a_small_file_that_does_not_match_the_hub_is_rejected_too(hub: SmallHub) -> None:
    whole = hub.repositories["stabilityai/sd-vae-ft-mse"].files["config.json"]
    hub.spoilt["config.json"] = whole.replace(b"AutoencoderKL", b"AutoencoderXX")
    line = fault(converted("hf://stabilityai/sd-vae-ft-mse"))
    assert line.startswith("hf://stabilityai/sd-vae-ft-mse/config.json: found content with the digest")


def test_the_error_names_a_file_that_the_hub_does_not_have(hub: SmallHub) -> None:
    file = "hf://maxin-cn/Latte/skytimelapse.pt"
    form = "hf://OWNER/REPO[/FILE][@REVISION]"
    missing = f"{hub.url} has no repository maxin-cn/Late, or a private one that needs HF_TOKEN"
    several = "name one: hf://maxin-cn/Latte/skytimelapse.pt, hf://maxin-cn/Latte/ffs.pt"
    for name, words in {
        "hf://maxin-cn/Late/x.pt": missing,
        "hf://maxin-cn/Latte/sky.pt": "maxin-cn/Latte has no file or folder sky.pt",
        f"{file}@v9": f"maxin-cn/Latte has no revision v9; expected {form}",
        "hf://maxin-cn/Latte": f"found several files of weights; {several}",
    }.items():
        assert fault(converted(name)) == f"{name}: {words}"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hf://latte", f"found no owner and repository, expected {storage.FORM}"),
        ("hf://maxin-cn/..", f"found no owner and repository, expected {storage.FORM}"),
        ("hf://maxin-cn/Latte/../../x", 'found "../../x", expected a file of the repository'),
        ("hf://maxin-cn/Latte/x.pt@", 'found "", expected a branch, a tag or a commit after @'),
        ("hf://maxin-cn/Latte/x.pt@../x", 'found "../x", expected a branch, a tag or a commit after @'),
        (r"hf://maxin-cn\Latte/x.pt", f"found no owner and repository, expected {storage.FORM}"),
        ("hf://a--b/c/x.pt", f"found no owner and repository, expected {storage.FORM}"),
    ],
)
def test_an_invalid_name_is_rejected_without_a_request(name: str, words: str, hub: SmallHub) -> None:
    assert fault(converted(name)) == f"{name}: {words}"
    assert hub.asked == []


def test_a_revision_can_have_slashes_and_a_file_an_at_sign(hub: SmallHub) -> None:
    files: dict[str, Path | bytes] = {"a@b/sky.pt": LATTE / "ckpt_train.pt"}
    hub.add("me/mine", files, revisions=("main", "refs/pr/7"), commit="a" * 40)
    assert converted("hf://me/mine/a@b/sky.pt@refs/pr/7", "--report", "report.json").exit_code == 0
    assert json.loads(Path("report.json").read_text())["source"] == f"hf://me/mine/a@b/sky.pt@{'a' * 40}"


def test_errors_for_gated_and_private_repositories_name_what_is_needed(
    hub: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["maxin-cn/Latte"].gated = True
    name = "hf://maxin-cn/Latte/skytimelapse.pt"
    terms = f"accept the terms on {hub.url}/maxin-cn/Latte, and set HF_TOKEN"
    assert fault(converted(name)) == f"{name}: access to it is granted on request: {terms}"
    hub.repositories["maxin-cn/Latte"].gated = False
    hub.repositories["maxin-cn/Latte"].token = "secret"
    words = f"{hub.url} has no repository maxin-cn/Latte, or a private one that needs HF_TOKEN"
    assert fault(converted(name)) == f"{name}: {words}"
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert converted(name).exit_code == 0


def test_without_a_connection_the_cache_serves_what_it_has(
    hub: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "hf://maxin-cn/Latte/skytimelapse.pt"
    assert converted(name).exit_code == 0
    offline(monkeypatch)
    assert converted(name).exit_code == 0
    other = "hf://maxin-cn/Latte/ffs.pt"
    assert fault(converted(other)) == f"{other}: is not in the cache, and HF_HUB_OFFLINE is set"


def test_the_error_names_a_hub_that_cannot_be_reached_or_fails(
    hub: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "hf://maxin-cn/Latte/skytimelapse.pt"
    hub.status = 503
    assert fault(converted(name)) == f"{name}: {hub.url} answers with HTTP 503; try again later"
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    reason = "is not in the cache, and http://127.0.0.1:1 cannot be reached: Connection refused"
    assert fault(converted(name)) == f"{name}: {reason}"
    monkeypatch.setattr(constants, "ENDPOINT", "hf-mirror.com")
    expected = "HF_ENDPOINT: found hf-mirror.com, expected a URL such as https://huggingface.co"
    assert fault(converted(name)) == expected


def test_a_hub_that_does_not_answer_times_out(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "hf://maxin-cn/Latte/skytimelapse.pt"
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    hub.delay = 1.0
    reason = f"is not in the cache, and {hub.url} cannot be reached: no answer in time"
    assert fault(converted(name)) == f"{name}: {reason}"


def test_a_full_disk_is_reported_before_anything_is_fetched(
    hub: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage)
    name = "hf://maxin-cn/Latte/skytimelapse.pt"
    line = fault(converted(name))
    assert line.startswith(f"{name}: needs ")
    assert line.endswith(" has 1,000 left, HF_HOME moves it")
    assert hub.fetched() == []


def test_a_disk_that_fills_up_gives_a_one_line_error(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file_download, "http_get", full)
    name = "hf://maxin-cn/Latte/skytimelapse.pt"
    assert fault(converted(name)) == (
        f"{name}: cannot be written: No space left on device in {constants.HF_HUB_CACHE}"
    )


def test_a_hostile_file_from_the_hub_is_rejected(hub: SmallHub) -> None:
    hub.add("evil/weights", {"x.pt": GOLDEN / "bad" / "evil_os_system_zip.pt"})
    line = fault(converted("hf://evil/weights/x.pt"))
    assert "posix.system" in line, line
    assert not Path("PWNED").exists()


def test_a_dry_run_lists_what_would_be_fetched_and_fetches_nothing(
    hub: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "hf://maxin-cn/Latte/skytimelapse.pt"
    size = len(hub.repositories["maxin-cn/Latte"].files["skytimelapse.pt"])
    result = converted(name, "--dry-run")
    assert (result.exit_code, result.stdout) == (0, f"would fetch {name}: 1 file, {size / 1e3:.0f} kB\n")
    assert hub.fetched() == []
    offline(monkeypatch)
    result = converted(name, "--dry-run")
    reason = "is not in the cache, and HF_HUB_OFFLINE is set"
    assert (result.exit_code, result.stdout) == (0, f"would fetch {name}: {reason}\n")


@pytest.mark.slow
@pytest.mark.usefixtures("as_from_a_terminal")
def test_an_interrupted_transfer_resumes_in_a_new_process(hub: SmallHub, tmp_path: Path) -> None:
    hub.add("me/large", {"x.pt": bytes(25 << 20)})  # huggingface_hub writes pieces of 10 MB
    hub.pauses["x.pt"] = 22 << 20
    command = [sys.executable, "-m", "latte_cli", "convert", "--source", "hf://me/large/x.pt"]
    home = tmp_path / "home"
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    first = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size >= 20 << 20 for path in home.rglob("*.incomplete")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 130
    assert said.splitlines()[-1] == "interrupted"
    assert "Traceback" not in said
    hub.go.set()
    hub.asked.clear()
    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert second.returncode == 1
    assert "x.pt: " in second.stderr.splitlines()[-1]  # it does not contain weights
    assert hub.asked[-1] == f"GET /me/large/resolve/main/x.pt bytes={20 << 20}-"
    assert len(list(home.rglob("x.pt"))) == 1


@pytest.mark.slow
def test_training_records_names_with_commits_and_resumes_with_them(
    hub: SmallHub, tiny_experiment: Callable[..., str], noise_videos: Callable[..., None]
) -> None:
    noise_videos(Path("videos"), "one", "two")
    Path("latte.yaml").write_text(tiny_experiment())
    named = ["--device", "cpu", "--set", VAE]
    planned = latte("train", *named, "--dry-run")
    assert (planned.exit_code, hub.fetched()) == (0, [])
    assert "autoencoder      hf://stabilityai/sd-vae-ft-mse\n" in planned.stdout
    assert "would fetch      hf://stabilityai/sd-vae-ft-mse: 2 files, 142 kB\n" in planned.stdout
    result = latte("train", *named)
    assert (result.exit_code, result.stdout) == (0, "run\n"), result.stderr
    text = Path("run/settings.yaml").read_text()
    assert f"weights: hf://stabilityai/sd-vae-ft-mse@{COMMIT}\n" in text
    resumed = latte("train", "-c", "run/settings.yaml", "--steps", "3", "--resume", "auto")
    assert resumed.exit_code == 0, resumed.stderr


def test_a_command_that_cannot_run_fetches_nothing(
    hub: SmallHub, tiny_experiment: Callable[..., str]
) -> None:
    Path("latte.yaml").write_text(tiny_experiment())
    assert fault(latte("train", "--set", VAE)).startswith("data.root: ")
    assert hub.fetched() == []


def sampled(*arguments: str, out: str = "out") -> Result:
    flags = [
        "--device",
        "cpu",
        "--num-samples",
        "1",
        "--steps",
        "2",
        "--format",
        "latents",
        "--format",
        "png",
    ]
    return latte("sample", *flags, "--out", out, *arguments)


def experiment(*settings: str) -> list[str]:
    return [part for setting in (*SIZE, "model.patch_size=2", *settings) for part in ("--set", setting)]


@pytest.mark.slow
def test_samples_from_published_weights_can_be_replayed_on_a_new_machine(
    hub: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrained = "sample.pretrained=hf://maxin-cn/Latte/skytimelapse.pt"
    flags = [*experiment(VAE, pretrained), "--run-dir", "runs/sky"]
    planned = sampled(*flags, "--dry-run")
    assert planned.exit_code == 0, planned.stderr
    assert "checkpoint       hf://maxin-cn/Latte/skytimelapse.pt\n" in planned.stdout
    assert "would fetch      hf://stabilityai/sd-vae-ft-mse: 2 files, " in planned.stdout
    assert hub.fetched() == []
    result = sampled(*flags)
    assert result.exit_code == 0, result.stderr
    sidecar = next(Path("out").glob("*.json"))
    spec = json.loads(sidecar.read_text())
    assert spec["checkpoint"] == f"hf://maxin-cn/Latte/skytimelapse.pt@{COMMIT}"
    assert spec["settings"]["vae"]["weights"] == f"hf://stabilityai/sd-vae-ft-mse@{COMMIT}"
    assert f"hf://stabilityai/sd-vae-ft-mse/config.json@{COMMIT}" in spec["sha256"]
    assert str(Path(constants.HF_HUB_CACHE)) not in sidecar.read_text()
    hub.asked.clear()
    assert latte("sample", "--replay", sidecar, "--out", "again").exit_code == 0
    assert hub.asked == []
    for path in Path("out").iterdir():
        assert (Path("again") / path.name).read_bytes() == path.read_bytes(), path.name
    shutil.rmtree(constants.HF_HUB_CACHE)  # another machine
    dry = latte("sample", "--replay", sidecar, "--dry-run")
    assert f"would fetch      hf://maxin-cn/Latte/skytimelapse.pt@{COMMIT}: 1 file" in dry.stdout
    assert latte("sample", "--replay", sidecar, "--out", "there").exit_code == 0
    assert (Path("there") / sidecar.name).read_bytes() == sidecar.read_bytes()
