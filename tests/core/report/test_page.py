"""report.html: its content, and how it treats untrusted files."""

import base64
import json
import logging
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from latte_cli.core.report.clips import gallery
from latte_cli.core.report.page import RunReport, write_report
from latte_cli.core.settings.schema import Settings
from tests.core.report.conftest import HOSTILE


class _Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append(" ".join(data.split()))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def _page(settings: Settings) -> _Page:
    return _Page(write_report(settings).read_text("utf-8"))


def test_the_page_shows_the_run_in_order(run: Settings) -> None:
    page = _page(run)
    headings = [
        text for text in page.text if text in ("Samples", "Evaluation", "Curves", "Previews", "Settings")
    ]
    assert headings == ["Samples", "Evaluation", "Curves", "Previews", "Settings"]
    assert "Step 60 of 60, loss 0.01667" in page.text
    assert [text for text in page.text if re.fullmatch(r"Step \d+", text)] == ["Step 20", "Step 40"]
    assert {"123.5", "± 1.2", "infinite", "few clips", "validation_loss 0.025"} <= set(page.text)
    assert "ab" * 32 in page.text
    changed = page.text[page.text.index("Those that differ from the defaults:") :]
    assert changed.index("train.steps") < changed.index("All settings")
    assert "train.weight_decay" not in changed[: changed.index("All settings")]


def test_clips_are_embedded_and_no_external_content_is_loaded(run: Settings) -> None:
    page = _page(run)
    sources = [attributes["src"] or "" for attributes in page.of("video")]
    folder = run.run_dir / "samples"
    names = ["000-seed42", "001-seed43", "step-00000020-000-seed42", "step-00000040-000-seed42"]
    assert [base64.b64decode(source.removeprefix("data:video/mp4;base64,")) for source in sources] == [
        (folder / f"{name}.mp4").read_bytes() for name in names
    ]
    loaded = [
        value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")
    ]
    assert all(value is not None and value.startswith("data:") for value in loaded)
    assert not {"script", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert all(attributes["aria-label"] for attributes in page.of("video"))
    assert page.of("html") == [{"lang": "en"}]
    assert "All clips are embedded in this page." in page.text
    assert "the others are links" not in page.text


def test_text_of_users_and_files_is_escaped(run: Settings) -> None:
    page = _page(run)
    assert page.text.count(" ".join(HOSTILE.split())) == 2
    assert str(run.run_dir) in page.text
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.of("b") == []


def test_clips_that_do_not_fit_are_linked_starting_with_the_oldest_previews(run: Settings) -> None:
    size = (run.run_dir / "samples" / "000-seed42.mp4").stat().st_size
    found = gallery(run.run_dir, most_bytes=3 * size)
    assert (found.embedded, found.total) == (3, 4)
    assert all(clip.source for clip in found.samples)
    assert [(step, clips[0].source is not None) for step, clips in found.previews] == [
        (20, False),
        (40, True),
    ]
    assert found.previews[0][1][0].link == "samples/step-00000020-000-seed42.mp4"


def test_unreadable_sidecars_and_metrics_are_skipped_and_counted(run: Settings) -> None:
    samples = run.run_dir / "samples"
    (samples / "torn.json").write_text('{"seed": ')
    spec = json.loads((samples / "000-seed42.json").read_text())
    (samples / "out.json").write_text(json.dumps(spec | {"name": "../../../etc/passwd"}))
    with (run.run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 65, "lo')
    page = _page(run)
    assert any("2 files next to samples cannot be read" in text for text in page.text)
    assert len(page.of("video")) == 4


def test_a_folder_without_training_shows_its_samples_and_the_given_settings(run: Settings) -> None:
    for name in ("settings.yaml", "metrics.jsonl", "evaluate.json"):
        (run.run_dir / name).unlink()
    page = _page(run)
    assert "No step of training is logged in this folder." in page.text
    assert "Curves" not in page.text
    assert len(page.of("video")) == 4


def test_each_command_is_listed_once_with_its_machine(run: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["latte", "train", "-c", "my file.yaml"])
    report = RunReport(run)
    report.update()
    report.update()
    monkeypatch.setattr("sys.argv", ["latte", "sample"])
    RunReport(run).update()
    lines = [json.loads(line) for line in (run.run_dir / "commands.jsonl").read_text().splitlines()]
    assert [line["command"] for line in lines] == ["latte train -c 'my file.yaml'", "latte sample"]
    page = _Page((run.run_dir / "report.html").read_text())
    assert {"latte train -c 'my file.yaml'", lines[0]["machine"]["processor"]} <= set(page.text)


def test_the_page_is_written_in_the_step_after_a_checkpoint_or_preview(
    run: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = run.train.model_copy(update={"checkpoint_every": 30, "preview_every": 20})
    written: list[int] = []
    report = RunReport(run.model_copy(update={"train": train}))
    for step in range(1, 63):
        monkeypatch.setattr(report, "update", lambda step=step: written.append(step))
        report.follow(step)
    assert written == [21, 31, 41, 61]


def test_a_page_that_cannot_be_written_is_a_warning(run: Settings, caplog: pytest.LogCaptureFixture) -> None:
    (run.run_dir / "report.html").mkdir()
    with caplog.at_level(logging.WARNING):
        RunReport(run).update()
    assert "no report.html: " in caplog.text
    assert sorted(path.name for path in run.run_dir.glob(".*")) == []
    assert Path(run.run_dir / "commands.jsonl").exists()


def test_a_run_whose_name_is_not_utf_8_has_a_page_and_its_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_dir = tmp_path / "caf\udce9"
    run_dir.mkdir()
    monkeypatch.setattr(sys, "argv", ["latte", "train", "--run-dir", "caf\udce9"])
    RunReport(Settings(run_dir=run_dir)).update()
    page = (run_dir / "report.html").read_text("utf-8")
    assert r"caf\udce9</h1>" in page
    assert "latte train --run-dir" in page
    assert caplog.messages == []
