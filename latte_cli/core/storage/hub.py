"""Published files by name, `hf://OWNER/REPO[/FILE][@REVISION]`: in the cache of huggingface_hub, or fetched.

huggingface_hub reads its own environment variables: HF_HOME and HF_HUB_CACHE for the cache, HF_TOKEN,
HF_ENDPOINT for a mirror, HF_HUB_OFFLINE, HF_HUB_DISABLE_XET. Programs share its cache, whose layout is
documented: models--OWNER--REPO/snapshots/COMMIT/FILE, each a link to a blob that is named by its digest.
"""

import hashlib
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from logging import ERROR
from pathlib import Path

from latte_cli.core.errors import LatteError, found
from latte_cli.core.storage.digests import digest_of_files
from latte_cli.core.storage.files import remove_empty
from latte_cli.core.storage.names import relative

SCHEME = "hf:/"  # of hf://: a Path collapses two slashes to one
FORM = "hf://OWNER/REPO[/FILE][@REVISION]"
BRANCH = "main"
ATTEMPTS = 5  # for a file whose transfer breaks off; each resumes the previous one
_ID = re.compile(r"[\w-]+(\.[\w-]+)*")  # of an owner and a repository
_REVISION = re.compile(r"[\w-][\w.+-]*(/[\w-][\w.+-]*)*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_IN_CACHE = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})(?:/(.*))?")


@dataclass(frozen=True)
class HubName:
    """A repository of models, a file or folder in it (none: all of it), and a revision (none: main)."""

    repo: str
    file: str = ""
    revision: str | None = None

    def __str__(self) -> str:
        """The name as typed."""
        file = f"/{self.file}" if self.file else ""
        return f"hf://{self.repo}{file}{f'@{self.revision}' if self.revision else ''}"


@dataclass(frozen=True)
class Remote:
    """A file on the hub."""

    size: int
    etag: str
    """SHA-256 of a large file, git's SHA-1 of a small one."""


@dataclass(frozen=True)
class Listing:
    """The content of a repository at a revision: its commit, and its files by name."""

    commit: str
    files: Mapping[str, Remote]


def is_name(path: Path | str | None) -> bool:
    """Whether a path is the name of something published."""
    return path is not None and str(path).startswith(SCHEME)


def parse_name(path: Path | str) -> HubName:
    """The parts of a name; the revision follows the last @. Raises LatteError if the name is malformed."""
    text = str(path).removeprefix(SCHEME).lstrip("/")
    place, at, revision = text.rpartition("@") if "@" in text else (text, "", "")
    owner, _, rest = place.partition("/")
    repo, _, file = rest.partition("/")
    if not all(map(_ID.fullmatch, (owner, repo))) or "--" in owner + repo:
        raise LatteError(f"hf://{text}: found no owner and repository, expected {FORM}")
    if at and not _REVISION.fullmatch(revision):
        raise LatteError(f"hf://{text}: {found(revision, 'a branch, a tag or a commit after @')}")
    if file and not _is_inside(file):
        raise LatteError(f"hf://{text}: {found(file, 'a file of the repository')}")
    return HubName(f"{owner}/{repo}", file.rstrip("/"), revision or None)


def name_of(path: str) -> str:
    """The name, with its commit, of a path in the cache; other paths are returned unchanged."""
    if path.startswith(SCHEME):
        return f"hf://{path.removeprefix(SCHEME).lstrip('/')}"
    if "/models--" not in path:
        return path
    try:
        place = Path(path).relative_to(_cache()).as_posix()
    except ValueError:
        return path
    match = _IN_CACHE.fullmatch(place)
    if match is None:
        return path
    owner, repo, commit, file = match.groups("")
    return str(HubName(f"{owner}/{repo}", file, commit))


def cached_snapshot(name: HubName) -> Path | None:
    """The folder of the cache with a repository at the revision, or with some of its files."""
    folder = _cache() / f"models--{name.repo.replace('/', '--')}"
    revision = name.revision or BRANCH
    if not _COMMIT.fullmatch(revision):
        try:
            revision = (folder / "refs" / revision).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
    snapshot = folder / "snapshots" / revision
    return snapshot if _COMMIT.fullmatch(revision) and snapshot.is_dir() else None


def files_in(snapshot: Path) -> list[str]:
    """The names of the files in a folder of the cache."""
    return sorted(path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file())


def list_files(name: HubName) -> Listing:
    """Ask the hub for the content of a repository at the revision.

    Raises LatteError if it does not answer, or the repository or revision does not exist.
    """
    from huggingface_hub import HfApi, constants

    with _faults(name):
        info = HfApi().model_info(
            name.repo,
            revision=name.revision or BRANCH,
            files_metadata=True,
            timeout=constants.HF_HUB_ETAG_TIMEOUT,
        )
    commit = str(info.sha)
    if not _COMMIT.fullmatch(commit):
        raise LatteError(f"{name}: the hub names no commit: is {constants.ENDPOINT} a hub?")
    files = {
        sibling.rfilename: Remote(
            sibling.size or 0, sibling.lfs.sha256 if sibling.lfs else sibling.blob_id or ""
        )
        for sibling in info.siblings or ()
        if _is_inside(sibling.rfilename)
    }
    return Listing(commit, files)


def check_room(name: HubName, size: int) -> None:
    """Raise LatteError if the disk of the cache has fewer than `size` bytes left."""
    cache = _cache()
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if size > free:
        raise LatteError(f"{name}: needs {size:,} bytes; {cache} has {free:,} left, HF_HOME moves it")


def fetch_file(name: HubName, file: str, listing: Listing) -> Path:
    """Fetch a file of a repository into the cache, resuming an earlier attempt that broke off.

    Raises LatteError if the hub refuses, the content does not match its digest, or it cannot be written.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    full_name = replace(name, file=file)
    logging.set_verbosity(ERROR)  # what it warns of is raised below, in one line
    for attempt in range(ATTEMPTS):
        try:
            with _faults(full_name), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                path = Path(hf_hub_download(name.repo, file, revision=name.revision or BRANCH))
            break
        except BrokenOffError:
            if _drop_longer(name, listing.files[file]) or attempt + 1 == ATTEMPTS:
                raise
    if listing.commit not in path.parts:
        raise LatteError(f"{full_name}: the revision changed while it was fetched; run the command again")
    _check_content(full_name, path)
    return path


class BrokenOffError(LatteError):
    """A transfer that ended before its file was complete."""


class UnreachableError(LatteError):
    """The hub cannot be reached."""


@contextmanager
def _faults(name: HubName) -> Iterator[None]:
    """Convert errors of the hub, the network and the disk to one-line LatteErrors."""
    from huggingface_hub import constants, errors

    try:
        yield
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise UnreachableError(f"{name}: {_unreachable(error.__cause__ or error)}") from error
    except errors.GatedRepoError as error:
        page = f"{constants.ENDPOINT}/{name.repo}"
        reason = f"access to it is granted on request: accept the terms on {page}, and set HF_TOKEN"
        raise LatteError(f"{name}: {reason}") from error
    except errors.RepositoryNotFoundError as error:
        reason = f"{constants.ENDPOINT} has no repository {name.repo}, or a private one that needs HF_TOKEN"
        raise LatteError(f"{name}: {reason}") from error
    except errors.RevisionNotFoundError as error:
        revision = name.revision or BRANCH
        raise LatteError(f"{name}: {name.repo} has no revision {revision}; expected {FORM}") from error
    except errors.EntryNotFoundError as error:
        raise LatteError(f"{name}: {name.repo} has no file {name.file}") from error
    except errors.HfHubHTTPError as error:
        status = 0 if error.response is None else error.response.status_code
        raise _refused(name, status, constants.ENDPOINT) from error
    except OSError as error:
        if error.errno is not None:  # of the disk
            where = f" in {_cache()}" if error.filename is None else f": {error.filename}"
            raise LatteError(f"{name}: cannot be written: {error.strerror}{where}") from error
        if type(error).__name__ in ("MissingSchema", "InvalidSchema", "InvalidURL"):
            found = f"found {constants.ENDPOINT}, expected a URL such as https://huggingface.co"
            raise LatteError(f"HF_ENDPOINT: {found}") from error
        if "Connection" in type(error).__name__ or "Timeout" in type(error).__name__:
            raise UnreachableError(f"{name}: {_unreachable(error)}") from error
        raise BrokenOffError(f"{name}: the transfer broke off; the same command continues it") from error
    except ValueError as error:  # not an answer of a hub, or not a valid name
        raise LatteError(f"{name}: {constants.ENDPOINT} did not answer like a hub: {error}") from error


def _refused(name: HubName, status: int, endpoint: str) -> LatteError:
    """The error for an HTTP status."""
    if status in (401, 403):
        return LatteError(f"{name}: {endpoint} does not accept HF_TOKEN (HTTP {status})")
    if status == 416:  # more bytes were fetched than the file has
        return BrokenOffError(
            f"{name}: found a file of another size than {endpoint} reports; try again later"
        )
    return LatteError(f"{name}: {endpoint} answers with HTTP {status}; try again later")


def _unreachable(error: BaseException) -> str:
    """Why the hub cannot be reached."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "is not in the cache, and HF_HUB_OFFLINE is set"
    system = re.search(r"\[Errno -?\d+\] ([\w ]+)", str(error))
    reason = system[1] if system else "no answer in time" if "timed out" in str(error) else "no connection"
    return f"is not in the cache, and {constants.ENDPOINT} cannot be reached: {reason}"


def _check_content(name: HubName, path: Path) -> None:
    """Check a file's digest, its blob's name. Raises LatteError and removes the file if it differs."""
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        digest = digest_of_files([blob])
    elif _COMMIT.fullmatch(blob.name):  # https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
        content = blob.read_bytes()
        digest = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    else:
        return
    if digest != blob.name:
        path.unlink()
        blob.unlink()
        remove_empty([path.parent])
        raise LatteError(f"{name}: found content with the digest {digest}, expected {blob.name}; removed it")


def _drop_longer(name: HubName, remote: Remote) -> bool:
    """Remove a partial file that is longer than the file on the hub; returns whether it was."""
    partial = _cache() / f"models--{name.repo.replace('/', '--')}" / "blobs" / f"{remote.etag}.incomplete"
    longer = partial.is_file() and partial.stat().st_size > remote.size
    if longer:
        partial.unlink()
    return longer


def _is_inside(name: str) -> bool:
    try:
        relative(name)
    except ValueError:
        return False
    return True


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
