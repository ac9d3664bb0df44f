"""The picture of the first batch that `latte train --dry-run` leaves in the run folder, without MindSpore."""

from latte_cli.core.data.videos.find import scan
from latte_cli.core.errors import LatteError
from latte_cli.core.planning.plan import SCAN_SECONDS, Plan
from latte_cli.core.sampling.media import write_png
from latte_cli.core.settings.schema import Settings
from latte_cli.core.training.clips import open_run_clips
from latte_cli.core.training.first_batch import draw_batch, first_batch

FIRST_BATCH = "first_batch.png"


def add_first_batch(plan: Plan, settings: Settings, *, workers: int = 1) -> None:
    """Draw the first batch into the run folder, and add a row on it.

    Nothing is drawn if something is missing, or if videos must be opened first to know their lengths.
    """
    if plan.problems:
        return
    target = settings.run_dir / FIRST_BATCH
    try:
        if settings.cache.dir is None and not scan(settings.data, seconds=SCAN_SECONDS).complete:
            plan.add("first batch", "not drawn: the lengths of the videos are not known yet")
            return
        source = open_run_clips(settings).training
        batch = first_batch(settings, source, workers=workers)
        write_png(target, draw_batch(batch, settings, source))
    except LatteError as error:
        plan.add("first batch", f"not drawn: {error}")
    else:
        count = len(batch.places)
        shown = "1 clip, as the model gets it" if count == 1 else f"{count} clips, as the model gets them"
        plan.add("first batch", f"{target}: {shown}")
