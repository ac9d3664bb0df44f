"""Train Latte from an experiment file and write a run folder for sampling and resuming."""

import logging
import random
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from latte_cli.core.arrays import Array
from latte_cli.core.checkpoints.runs import checkpoints, digest_of
from latte_cli.core.data.captions.files import texts_of
from latte_cli.core.data.captions.states import model_input
from latte_cli.core.data.clips.batches import ClipSource
from latte_cli.core.data.clips.captioned import CaptionedSource
from latte_cli.core.data.clips.memory import MemorySource
from latte_cli.core.data.latent_cache.texts import StoredTexts
from latte_cli.core.errors import LatteError
from latte_cli.core.models.architectures import architecture_of, build_model, sizes_of
from latte_cli.core.models.conditions.caching import cached_header, encode_texts
from latte_cli.core.models.conditions.encoder import text_folder
from latte_cli.core.parallel.collective import Collective, join
from latte_cli.core.parallel.commands import Cluster
from latte_cli.core.parallel.launch import launch, same_command
from latte_cli.core.parallel.world import World, current_world
from latte_cli.core.planning.room import check_training_memory
from latte_cli.core.report.page import RunReport
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.lock import only_run
from latte_cli.core.training.clips import open_run_clips, validation_settings
from latte_cli.core.training.record import RunRecord
from latte_cli.core.training.resuming import check_global_batch, check_unchanged
from latte_cli.core.training.stopping import stop_requests

if TYPE_CHECKING:
    from latte_cli.core.models.vae.autoencoder import Vae
    from latte_cli.core.training.captioning import CaptionSampler
    from latte_cli.core.training.report import TrainReport
    from latte_cli.core.training.trainer import Trainer
    from latte_cli.core.training.validation import Validation

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodeReport:
    """Progress of encoding captions or frames into memory."""

    done: int
    total: int


def run(
    settings: Settings, *, resume: Path | Literal["auto"] | None = None, allow_changes: bool = False
) -> "Iterator[EncodeReport | TrainReport]":
    """Train, yielding every step (see `Trainer.run`); the run folder is locked meanwhile.

    resume: a checkpoint, or "auto" for the newest in the run folder, if any. Raises LatteError for errors a
    user can fix, before heavy imports where possible. Under a launcher this is one of the run's workers, of
    which only the first one writes files.
    """
    world = current_world()
    # For workers, the launching process holds the lock.
    with only_run(settings.run_dir, "latte train") if world.launcher is None else nullcontext():
        yield from _run(settings, world, resume=resume, allow_changes=allow_changes)


def _run(
    settings: Settings, world: World, *, resume: Path | Literal["auto"] | None, allow_changes: bool
) -> "Iterator[EncodeReport | TrainReport]":
    checkpoint = _checkpoint(settings, resume)
    clips = open_run_clips(settings)
    source = clips.training

    from latte_cli.core.machine.device import check_switches, use_training_device

    device = use_training_device(settings)
    check_switches(settings, device)
    check_training_memory(sizes_of(settings), settings.train, device, workers=world.size)
    if settings.train.shard_optimizer and world.size == 1:
        log.warning("train.shard_optimizer: a single worker has nothing to share")
    collective = join(world)
    if checkpoint is not None and not allow_changes:
        _check_same_run(settings, checkpoint, clips.fingerprint, workers=world.size)
    captions = yield from _load_captions(settings, source, dropout=settings.model.condition_dropout)
    trainer = _trainer(
        settings, checkpoint, clips=clips.fingerprint, collective=collective, captions=captions
    )
    load = cache(lambda: _load_vae(settings))
    validate = None
    if clips.validation is not None and settings.train.validate_every:
        validate = yield from _validation(trainer, clips.validation, load)
    encode = load().encode if source.content == "frames" else None
    if settings.cache.in_memory and encode is not None:
        mirrored, chunk = settings.data.random_flip, settings.vae.batch_frames
        memory = MemorySource(source, mirrored=mirrored, chunk=chunk)
        yield from _encode(memory, encode, settings.run_dir, collective)
        source = memory

    record = RunRecord(settings, step=trainer.progress.step) if world.is_first else None
    page = RunReport(settings) if world.is_first else None
    with closing(record) if record else nullcontext(), stop_requests() as stopping:
        preview = _previews(trainer, load, stopping, record) if record else None
        for report in trainer.run(source, encode, stopping=stopping, preview=preview, validate=validate):
            if record and page:
                record.add(report.metrics)
                page.follow(report.step)
            yield report
        if record and page:
            record.draw()
            page.update()
        stopping.finish(trainer.progress.step, settings.train.steps)


def run_parallel(
    settings: Settings, cluster: Cluster, *, resume: Path | Literal["auto"] | None = None
) -> int:
    """Run this command as this machine's workers of `cluster`; return the exit code."""
    with only_run(settings.run_dir, "latte train"):
        _checkpoint(settings, resume)
        return launch(same_command(), cluster, log_dir=settings.run_dir / "logs" / "train")


def _checkpoint(settings: Settings, resume: Path | Literal["auto"] | None) -> Path | None:
    """The checkpoint to resume from; raises LatteError if the folder contains a run that is not resumed."""
    found = checkpoints(settings.run_dir / "ckpt")
    if resume is None and found:
        raise LatteError(
            f"{settings.run_dir}: already contains a run (last checkpoint {found[-1].name}); use"
            " --resume auto or another --run-dir"
        )
    if isinstance(resume, Path):
        if not resume.is_file():
            raise LatteError(f"{resume}: no such checkpoint, expected one of {settings.run_dir / 'ckpt'}")
        return resume
    return found[-1] if found else None


def _check_same_run(settings: Settings, checkpoint: Path, clips: str, *, workers: int) -> None:
    """Raise LatteError if a checkpoint's settings or clips differ from this run's."""
    from latte_cli.core.training.state import read_progress

    before, train = read_progress(checkpoint), settings.train
    check_unchanged(checkpoint, before.settings, settings.model_dump(mode="json"))
    check_global_batch(checkpoint, before.global_batch, train.batch_size * train.accumulation * workers)
    if before.data != clips:
        captions = " or their captions" if settings.model.condition == "text" else ""
        raise LatteError(
            f"{checkpoint}: the videos of data.root{captions} have changed, which changes the order of clips."
            " Restore them, or use --allow-changes"
        )
    start, layout = train.init_from, architecture_of(settings).layout
    if train.trains_lora and start is not None and before.base != digest_of(start, layout):
        raise LatteError(
            f"{checkpoint}: train.init_from {train.init_from} contains other weights than the run started"
            " from. Restore them, or use --allow-changes"
        )


def _load_captions(
    settings: Settings, source: ClipSource, *, dropout: float
) -> "Generator[EncodeReport, None, CaptionSampler | None]":
    """Load captions' states from the cache, or encode them and keep them in memory."""
    if not isinstance(source, CaptionedSource):
        return None
    from latte_cli.core.training.captioning import CaptionSampler

    texts, folder = texts_of(source.captions), settings.cache.dir
    header = cached_header(settings)
    states: Callable[[str], Array]
    if header is not None and folder is not None:
        states = StoredTexts(folder, header, texts)
    else:
        kind, kept_states = text_folder(settings).kind, {}
        for text, _, kept_of_text in encode_texts(settings, texts):
            kept_states[text] = kept_of_text.copy()
            yield EncodeReport(len(kept_states), len(texts))

        def states(text: str) -> Array:
            return model_input(kept_states[text], kind)

    return CaptionSampler(source.captions, states, dropout=dropout)


def _trainer(
    settings: Settings,
    checkpoint: Path | None,
    *,
    clips: str,
    collective: Collective,
    captions: "CaptionSampler | None",
) -> "Trainer":
    """Create model and optimizer: newly initialised, from other weights, or from a checkpoint."""
    from latte_cli.core.training.starting import make_trainer, set_start

    model = build_model(settings, dtype=settings.train.dtype)
    start = settings.train.init_from
    # LoRA checkpoints contain only the LoRA parameters.
    if start is not None and (checkpoint is None or settings.train.trains_lora):
        for note in set_start(architecture_of(settings), model, start):
            log.warning("train.init_from: %s", note)
    trainer = make_trainer(settings, model, clips=clips, collective=collective, captions=captions)
    if checkpoint is not None:
        trainer.resume(checkpoint)
    return trainer


def _previews(
    trainer: "Trainer", load: "Callable[[], Vae]", stopping: Callable[[], bool], record: RunRecord
) -> Callable[[int], object]:
    """A function that samples a preview. Other workers wait only at their next collective operation."""
    from latte_cli.core.training.previews import Previews

    weights = trainer.optimizer.averaged(trainer.model.get_parameters())
    previews = Previews(trainer.settings, weights, load)
    return lambda step: record.show(step, previews.draw(step, stopping=stopping))


def _validation(
    trainer: "Trainer", source: ClipSource, load: "Callable[[], Vae]"
) -> "Generator[EncodeReport, None, Validation]":
    """The validation loss, with its clips read and encoded; `load` returns the autoencoder."""
    from latte_cli.core.training.validation import Validation, averaged_model

    settings = trainer.settings
    of_folder = isinstance(settings.data.validation, Path)
    texts = validation_settings(settings) if of_folder else settings
    captions = yield from _load_captions(texts, source, dropout=0.0)
    weights = trainer.optimizer.averaged(trainer.model.get_parameters())
    validation = Validation(
        settings,
        averaged_model(settings, weights),
        source,
        schedule=trainer.schedule,
        collective=trainer.collective,
        captions=captions,
    )
    for done in validation.read(load().encode if source.content == "frames" else None):
        yield EncodeReport(done, validation.number)
    return validation


def _load_vae(settings: Settings) -> "Vae":
    from latte_cli.core.models.vae.autoencoder import load_vae

    return load_vae(settings.vae)


def _encode(
    memory: MemorySource, encode: Callable[[Array], Array], folder: Path, collective: Collective
) -> Iterator[EncodeReport]:
    """Encode everything into memory. Each worker encodes a share; they exchange files in `folder`.

    Shares that are not visible, for example on another machine's disk, are encoded by each worker.
    """
    rank, size = collective.world.rank, collective.world.size
    done = 0
    for frames in memory.fill(encode, rank=rank, workers=size):
        done += frames
        yield EncodeReport(done, memory.total)
    if size == 1:
        return
    # Named after this launch: files of a killed run may be of other videos.
    token = collective.broadcast(random.getrandbits(32))
    files = [folder / f".moments-{token}-{worker}.partial.npz" for worker in range(size)]
    memory.write_share(files[rank])
    collective.barrier()
    done += sum(memory.read_share(file) for file in files if file != files[rank])
    yield EncodeReport(done, memory.total)
    for frames in memory.fill(encode):
        done += frames
        yield EncodeReport(done, memory.total)
    collective.barrier()
    files[rank].unlink(missing_ok=True)
