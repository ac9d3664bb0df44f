"""Event files, read back as TensorBoard reads them: masked CRC-32C records of protocol buffers."""

import logging
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from latte_cli.core.training.events import EventLog


def crc32c(data: bytes) -> int:
    """Castagnoli's cyclic redundancy check (RFC 3720, appendix B.4), computed bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """The check as TFRecord files store it: rotated right by 15 bits, plus a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(folder: Path) -> Iterator[Event]:
    """The events of a folder's files, in the order of their names."""
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            data = content[12 : 12 + length]
            assert struct.unpack("<I", content[8:12]) == (masked(content[:8]),)
            assert struct.unpack("<I", content[12 + length : 16 + length]) == (masked(data),)
            yield Event.FromString(data)
            content = content[16 + length :]


def shown(folder: Path) -> dict[str, dict[int, float]]:
    """The values that TensorBoard shows: a new start at a step removes later values."""
    scalars: dict[str, dict[int, float]] = {}
    for event in events(folder):
        if event.HasField("session_log"):
            for tag, values in scalars.items():
                scalars[tag] = {step: value for step, value in values.items() if step < event.step}
        for value in event.summary.value:
            assert event.step not in scalars.setdefault(value.tag, {})
            scalars[value.tag][event.step] = value.simple_value
    return scalars


def test_the_checksum_matches_the_standard() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, appendix B.4


def test_each_value_of_a_metrics_line_is_a_scalar_at_its_step(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "tensorboard", next_step=1)
    log.add({"step": 2, "loss": 0.5, "lr": 1e-4})
    log.add({"step": 4, "loss": math.nan, "lr": 5e-5})
    found = shown(tmp_path / "tensorboard")
    assert found["loss"][2] == 0.5
    assert math.isnan(found["loss"][4])
    assert found["lr"] == pytest.approx({2: 1e-4, 4: 5e-5})
    assert next(events(tmp_path / "tensorboard")).file_version == "brain.Event:2"


def test_a_resumed_run_shows_no_step_twice(tmp_path: Path) -> None:
    first = EventLog(tmp_path, next_step=1)
    for step in (1, 2, 3):
        first.add({"step": step, "loss": float(step)})
    second = EventLog(tmp_path, next_step=3)  # from the checkpoint of step 2
    for step in (3, 4):
        second.add({"step": step, "loss": 10.0 * step})
    assert shown(tmp_path)["loss"] == {1: 1.0, 2: 2.0, 3: 30.0, 4: 40.0}


def test_a_folder_that_cannot_be_written_gives_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        log = EventLog(tmp_path / "file" / "tensorboard", next_step=1)
        log.add({"step": 1, "loss": 1.0})
    assert len(caplog.records) == 1
    assert caplog.records[0].message.startswith("no more TensorBoard events: ")
