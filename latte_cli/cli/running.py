"""Common parts of commands: loading settings, showing plans, following loops."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from latte_cli.cli.boundary import complain
from latte_cli.core.errors import LatteError, one_line
from latte_cli.core.machine.interrupts import exit_code

if TYPE_CHECKING:
    from latte_cli.core.checkpoints.published import Hub
    from latte_cli.core.data.latent_cache.check import Checked
    from latte_cli.core.experiment.rules import Command
    from latte_cli.core.planning.plan import Plan
    from latte_cli.core.planning.planned import Planned
    from latte_cli.core.recipes.cache import CacheReport, CacheRun
    from latte_cli.core.sampling.write import SampleReport
    from latte_cli.core.settings.schema import Settings

Made = TypeVar("Made", bound="Planned")


def follow_caching(run: "CacheRun") -> None:
    """Follow `latte cache`; at the end always show the status and how to continue."""
    from latte_cli.cli.progress import caching_line, follow, show
    from latte_cli.core.recipes.cache import KEPT

    try:
        deque(follow(run, caching_line), maxlen=0)
    except LatteError:
        raise
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"interrupted; {KEPT}") from error
    except Exception:
        complain(f"stopped; {KEPT}")
        raise
    finally:
        show(run.status.lines())


def follow_share(reports: "Iterable[CacheReport]") -> None:
    """Follow a worker of `latte cache`; the launching process reports interruptions."""
    from latte_cli.cli.progress import caching_line, follow

    try:
        deque(follow(reports, caching_line), maxlen=0)
    except KeyboardInterrupt as error:
        raise SystemExit(exit_code()) from error


def may_be_demo(pipeline: Path | None, assignments: Iterable[str] | None) -> bool:
    """Whether the built-in demo may stand in for an experiment: neither a flag nor --set names a pipeline."""
    named = any(text.partition("=")[0].strip() == "sample.pipeline" for text in assignments or ())
    return pipeline is None and not named


def show_files(reports: "Iterable[SampleReport]") -> None:
    """Follow sampling and print each file once it is written; files being written are completed on exit."""
    from latte_cli.cli.progress import follow, sampling_line, show

    for report in follow(reports, sampling_line):
        for path in report.files:
            show(f"{one_line(path)}\n")


def show_faults(settings: "Settings", checks: "Iterable[Checked]", *, repair: bool = False) -> None:
    """Print every entry of the cache that is missing, torn or stale.

    Raises LatteError if there are any, unless they are going to be repaired.
    """
    from latte_cli.cli.progress import checking_line, follow, show

    total = faults = 0
    for checked in follow(checks, checking_line):
        total = checked.total
        if checked.fault is not None:
            faults += 1
            show(one_line(f"{checked.fault.kind}: {checked.fault.name}: {checked.fault.reason}") + "\n")
    if faults and not repair:
        raise LatteError(
            f"cache.dir: {settings.cache.dir}: {faults} of {total} entries are missing, torn or stale"
        )
    entries = "1 entry" if total == 1 else f"{total} entries"
    show(f"{entries}, {faults or 'no'} faults\n" if repair else f"{entries}, all intact\n")


def set_logging(level: str) -> None:
    from latte_cli.cli.progress import LogHandler

    logging.basicConfig(level=level.upper(), handlers=[LogHandler()], force=True)
    if level in ("debug", "info"):
        os.environ.setdefault("GLOG_v", "1")  # MindSpore's C++ side: 1 is info


def load(
    command: "Command | None",
    config: Path | None,
    assignments: list[str] | None,
    flags: dict[str, Any],
    log_level: str,
    *,
    unset: Sequence[str] = (),
    demo: bool = True,
) -> "Settings":
    """The settings of a command: the file, then --set in order, then the command's flags.

    demo: whether to use the built-in demo if there is no file.
    """
    set_logging(log_level)
    from latte_cli.core.experiment.loading import load_settings, parse_override

    overrides = [parse_override(text) for text in assignments or []]
    overrides += [(name, None) for name in unset]
    overrides += [(name, _plain(value)) for name, value in flags.items() if value is not None]
    return load_settings(config, overrides, command=command, demo=demo)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def planned(make: "Callable[[Hub], Made]", *, dry_run: bool) -> "Made | None":
    """The checked plan of a command; None after a dry run, which shows it.

    make: makes the plan, with weights from the hub. Weights that the cache lacks are fetched when everything
    else has been checked, and the plan is made again with them.
    """
    from latte_cli.core.checkpoints.published import Hub
    from latte_cli.core.planning.planned import absent_rows

    hub = Hub(asks=dry_run)
    made = make(hub)
    if dry_run:
        made.plan.entries += absent_rows(hub)
    if stop_at_plan(made.settings, made.plan, dry_run=dry_run):
        return None
    if hub.absent:
        made = make(fetching_hub())
        made.plan.demand()
    return made


def fetching_hub() -> "Hub":
    """A hub that fetches what the cache lacks and prints a line for each file; huggingface_hub draws bars."""
    from latte_cli.cli.progress import show_fetching
    from latte_cli.core.checkpoints.published import Hub

    return Hub(fetches=True, report=show_fetching)


def stop_at_plan(settings: "Settings | None", plan: "Plan", *, dry_run: bool) -> bool:
    """Check a plan; for a dry run, show it and return True. Raises LatteError with the plan's problems."""
    if dry_run:
        from latte_cli.cli.progress import show_plan
        from latte_cli.core.experiment.loading import dump_settings

        show_plan("" if settings is None else dump_settings(settings, explained=False), plan)
    plan.demand()
    return dry_run


def planned_caching(
    settings: "Settings", *, encodes: bool, start: int | None, overwrite: bool, dry_run: bool
) -> "Planned | None":
    """`planned` for `latte cache`; only a dry run determines what is left to encode."""

    def make(hub: "Hub") -> "Planned":
        from latte_cli.core.experiment.local import local_settings
        from latte_cli.core.planning.planned import Planned

        ready = local_settings(settings, hub, "cache") if encodes else settings
        plan = _caching_plan(ready, encodes=encodes, start=start, overwrite=overwrite, dry_run=dry_run)
        return Planned(ready, plan)

    return planned(make, dry_run=dry_run)


def _caching_plan(
    settings: "Settings", *, encodes: bool, start: int | None, overwrite: bool, dry_run: bool
) -> "Plan":
    from latte_cli.core.planning.runs import cache_plan
    from latte_cli.core.storage.hub import is_name

    plan = cache_plan(settings, encodes=encodes)
    if is_name(settings.vae.weights):  # not fetched yet
        return plan
    if encodes and not plan.problems:
        from latte_cli.core.planning.cache import check_encoding_memory

        plan.check(lambda: check_encoding_memory(settings))
    if dry_run and encodes:
        from latte_cli.core.planning.cache import add_caching

        add_caching(plan, settings, resume=start, overwrite=overwrite)
    return plan
