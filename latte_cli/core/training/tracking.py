"""Send metrics and previews of a run to Weights & Biases or SwanLab (`train.tracker`)."""

import logging
import secrets
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field

from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import Settings
from latte_cli.core.settings.training import TrainSettings
from latte_cli.core.storage.files import write_file
from latte_cli.core.storage.json_files import Model, read_json

log = logging.getLogger(__name__)

PROJECT = "latte"
TRACKED = "tracker.json"  # in the run folder
ID_BYTES = 11  # 21 hexadecimal digits are a valid id for both


class Tracked(Model):
    """The id of a run at its tracker, for resuming."""

    tracker: str
    id: str = Field(pattern=r"^[0-9a-f]{21}$")


def check_tracker(train: TrainSettings) -> None:
    """Raise LatteError if the tracker's package is not installed."""
    if train.tracker != "none" and find_spec(train.tracker) is None:
        raise LatteError(
            f"train.tracker: {train.tracker} is not installed: pip install {train.tracker}, or set it to none"
        )


class Tracker:
    """Sends a run to its tracker, if any; an error is one warning and ends the tracking, not the run.

    resumed: whether to continue the run whose id is in the run folder, if there is one.
    """

    def __init__(self, settings: Settings, *, resumed: bool):
        self._run: Any = None
        self._name = settings.train.tracker
        if self._name == "none":
            return
        try:
            self._package = import_module(self._name)
            self._run = self._begin(settings, _id_of(settings.run_dir, self._name, resumed=resumed))
        except Exception as error:  # noqa: BLE001 (no account, no network, another version)
            self._give_up(error)

    def _begin(self, settings: Settings, run_id: str) -> Any:
        folder = str(settings.run_dir)
        same = {
            "project": PROJECT,
            "config": settings.model_dump(mode="json"),
            "id": run_id,
            "resume": "allow",
        }
        if self._name == "wandb":
            return self._package.init(name=folder, dir=folder, **same)
        return self._package.init(experiment_name=folder, logdir=str(settings.run_dir / "swanlog"), **same)

    def add(self, line: Mapping[str, float]) -> None:
        """Send a line of metrics."""
        self._log({name: number for name, number in line.items() if name != "step"}, int(line["step"]))

    def show(self, step: int, files: Sequence[Path]) -> None:
        """Send previews: clips to Weights & Biases, contact sheets to SwanLab."""
        if self._run is None:
            return
        if self._name == "wandb":
            clips = [path for path in files if path.suffix == ".mp4"]
            shown = [self._package.Video(str(path), caption=path.stem, format="mp4") for path in clips]
        else:
            sheets = [path for path in files if path.suffix == ".png"]
            shown = [self._package.Image(str(path), caption=path.stem) for path in sheets]
        if shown:
            self._log({"previews": shown}, step)

    def close(self) -> None:
        """Send the remaining values and finish."""
        if self._run is not None:
            try:
                self._run.finish()
            except Exception as error:  # noqa: BLE001
                self._give_up(error)
            self._run = None

    def _log(self, values: dict[str, Any], step: int) -> None:
        if self._run is None:
            return
        try:
            self._run.log(values, step=step)
        except Exception as error:  # noqa: BLE001
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._run = None
        lines = str(error).strip().splitlines() or [""]
        log.warning("train.tracker: no more %s: %s: %s", self._name, type(error).__name__, lines[0])


def _id_of(run_dir: Path, tracker: str, *, resumed: bool) -> str:
    """The id of a run at its tracker: that in the run folder if resumed, else a new one."""
    path = run_dir / TRACKED
    if resumed and path.exists() and (known := read_json(path, Tracked)).tracker == tracker:
        return known.id
    new = Tracked(tracker=tracker, id=secrets.token_hex(ID_BYTES)[:21])
    write_file(path, new.model_dump_json() + "\n")
    return new.id
