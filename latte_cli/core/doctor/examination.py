"""All checks of the installation, the machine and an experiment, in order."""

import json
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latte_cli import __version__
from latte_cli.core.doctor import installation, machine
from latte_cli.core.doctor.findings import Check, Finding, run_checks
from latte_cli.core.errors import LatteError
from latte_cli.core.storage.files import write_file

if TYPE_CHECKING:
    from latte_cli.core.settings.schema import Settings

LOCAL_CONFIG = Path("latte.yaml")


def examine(
    config: Path | None = None,
    overrides: Sequence[tuple[str, Any]] = (),
    *,
    device: str | None = None,
    online: bool = False,
) -> list[Finding]:
    """Check everything, including the needs of the experiment `config` or ./latte.yaml, if any.

    device: auto, cpu, ascend or gpu; default: that of the experiment. online: whether to contact the hub.
    """
    settings, experiment = _experiment(config, overrides)
    wanted = device or ("auto" if settings is None else settings.device)
    with ThreadPoolExecutor(1) as pool:
        computed = pool.submit(installation.compute, wanted)  # the slowest: runs in parallel with the others
        checks: dict[str, Check] = {
            "python": installation.python,
            "packages": installation.packages,
            "mindspore": lambda: installation.mindspore(computed.result(), wanted),
            **({"ascend": installation.ascend} if wanted == "ascend" else {}),
            "kernels": machine.kernels,
            "videos": installation.videos,
            "launchers": installation.launchers,
            "cache folder": machine.user_cache,
            "encoding": machine.encoding,
            "hub": partial(machine.hub, online=online),
            "experiment": lambda: experiment,
        }
        checks |= _needs(settings, lambda: computed.result().device)
        return run_checks(checks)


def write_findings(findings: Sequence[Finding], target: Path) -> None:
    """Write findings as JSON, for bug reports. Raises LatteError if the file cannot be written."""
    content = {"latte": __version__, "system": platform.platform(), "findings": [asdict(f) for f in findings]}
    write_file(target, json.dumps(content, indent=1) + "\n")


def _needs(settings: "Settings | None", device: Callable[[], str]) -> dict[str, Check]:
    """The checks of an experiment's needs; without an experiment, only of memory and disk."""
    try:
        from latte_cli.core.doctor import needs
    except ImportError:  # a missing package is reported by another check
        return {}
    checks: dict[str, Check] = {
        "memory": lambda: needs.memory(settings, device()),
        "disk": lambda: needs.disk(settings),
    }
    if settings is not None:
        checks |= {name: partial(check, settings) for name, check in needs.OF_EXPERIMENT.items()}
    return checks


def _experiment(
    config: Path | None, overrides: Sequence[tuple[str, Any]]
) -> "tuple[Settings | None, list[Finding]]":
    """The settings of the experiment, if it can be read, and the findings about it."""
    if config is None and not overrides and not LOCAL_CONFIG.exists():
        return None, []
    from latte_cli.core.experiment.loading import load_settings

    try:
        settings = load_settings(config, overrides)
    except LatteError as error:
        text = "; ".join(line.strip() for line in str(error).splitlines())
        return None, [Finding("experiment", text, "problem", "correct these settings")]
    name = str(config or LOCAL_CONFIG) if config or LOCAL_CONFIG.exists() else "the built-in demo"
    return settings, [Finding("experiment", name)]
