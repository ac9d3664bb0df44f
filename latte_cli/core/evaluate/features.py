"""I3D's logits of clips, cached on disk by content."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from latte_cli.core.arrays import Array
from latte_cli.core.errors import LatteError
from latte_cli.core.evaluate.clips import Place, digest
from latte_cli.core.evaluate.frames import network_input, squares
from latte_cli.core.evaluate.protocol import Protocol
from latte_cli.core.models.i3d.layers import NUM_CLASSES
from latte_cli.core.models.i3d.weights import read_i3d
from latte_cli.core.storage.digests import digest_of_files
from latte_cli.core.storage.files import atomic_file, cache_folder

log = logging.getLogger(__name__)

VERSION = 1  # of the computation; entries of other versions are ignored


def features_folder() -> Path:
    """Folder of the cached logits."""
    return cache_folder("features")


class Features:
    """Logits of clips for a weights file. MindSpore is imported when the first clip is computed."""

    def __init__(self, i3d: Path, protocol: Protocol, size: int, *, device: str) -> None:
        self._i3d, self._protocol, self._size, self._device = i3d, protocol, size, device
        self.sha256 = digest_of_files([i3d])
        self._classifier: Any = None
        self._known: dict[Path, Array] = {}
        self._warned = False

    def of(self, places: Sequence[Place], *, generated: bool) -> Iterator[Array]:
        """The logits (400) of each clip, in order."""
        for place in places:
            path = self._path(place)
            found = self._known.get(path)
            if found is None:
                found = _stored(path)
            if found is None:
                found = self._compute(place, generated=generated)
                self._keep(path, found)
            self._known[path] = found
            yield found

    def _keep(self, path: Path, logits: Array) -> None:
        """Cache a clip's logits; a failure is logged and does not affect the results."""
        try:
            with atomic_file(path) as partial:
                np.save(partial, logits)
        except LatteError as error:
            if not self._warned:
                log.warning("logits cannot be cached: %s", error)
            self._warned = True

    def _compute(self, place: Place, *, generated: bool) -> Array:
        frames = squares(place, self._size, self._protocol, generated=generated)
        if self._classifier is None:
            from latte_cli.core.machine.device import use_device

            use_device(self._device)
            from latte_cli.core.models.i3d.network import Classifier

            self._classifier = Classifier(read_i3d(self._i3d))
        logits: Array = self._classifier(network_input(frames, antialias=self._protocol.antialias))
        return logits

    def _path(self, place: Place) -> Path:
        """The cache file of a clip's logits, named by a hash of everything that determines them."""
        parts = {
            "version": VERSION,
            "clip": digest(place),
            "size": self._size,
            "transform": self._protocol.transform,
            "antialias": self._protocol.antialias,
            "weights": self.sha256,
            "device": self._device,
        }
        name = sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return features_folder() / name[:2] / f"{name[2:]}.npy"


def _stored(path: Path) -> Array | None:
    """A clip's cached logits, or None if missing or damaged."""
    with suppress(OSError, ValueError, EOFError):
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray) and found.shape == (NUM_CLASSES,) and found.dtype == np.float32:
            return found
    return None
