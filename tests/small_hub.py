"""A model hub on this machine: the requests of huggingface_hub, and errors that a hub can have."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGE = 1 << 14  # bytes from which a file is stored by its SHA-256, as with Git LFS
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """Files of one commit by name; several revisions can name it."""

    files: dict[str, bytes]
    commit: str = COMMIT
    revisions: tuple[str, ...] = ("main",)
    gated: bool = False
    token: str = ""
    """Without it the repository is hidden."""


@dataclass
class SmallHub:
    """Repositories by name, the requests so far, and errors by file."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Method, path and range of every request."""
    breaks: dict[str, list[int]] = field(default_factory=dict)
    """Bytes after which successive transfers of a file end; later ones are complete."""
    spoilt: dict[str, bytes] = field(default_factory=dict)
    """What comes in place of a file."""
    status: int = 0
    """An error that every request is answered with."""
    delay: float = 0.0
    """Seconds before an answer."""
    pauses: dict[str, int] = field(default_factory=dict)
    """Bytes after which the transfer of a file waits for `go`."""
    go: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def add(self, repo: str, folder: Path | dict[str, Path | bytes], **about: object) -> Repository:
        """Publish a folder, or files by name."""
        if isinstance(folder, Path):
            folder = {
                path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
            }
        files = {
            name: content.read_bytes() if isinstance(content, Path) else content
            for name, content in folder.items()
        }
        self.repositories[repo] = Repository(files, **about)  # type: ignore[arg-type]
        return self.repositories[repo]

    def fetched(self) -> list[str]:
        """The files whose content was asked for, in order."""
        return [
            line.split(" ")[1].split("/", 5)[5] for line in self.asked if re.match("GET /.+/resolve/", line)
        ]


def etag(content: bytes) -> str:
    """The digest that the hub names a file by."""
    if len(content) >= LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: SmallHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        time.sleep(self.hub.delay)
        if self.hub.status:
            self._send(self.hub.status, {})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            self._list(match[1], match[2])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(refs/[^/]+/[^/]+|[^/]+)/(.+)", path):
            self._file(*match.groups())
        else:
            self._send(404, {})

    def _repository(self, repo: str, revision: str) -> Repository | None:
        found = self.hub.repositories.get(repo)
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if found is None or (found.token and given != found.token):
            self._send(401, {"X-Error-Code": "RepoNotFound"})
            return None
        if revision not in (*found.revisions, found.commit):
            self._send(404, {"X-Error-Code": "RevisionNotFound"})
            return None
        return found

    def _list(self, repo: str, revision: str) -> None:
        found = self._repository(repo, revision)
        if found is None:
            return
        siblings = []
        for name, content in found.files.items():
            entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": etag(content)}
            if len(content) >= LARGE:
                entry["lfs"] = {"sha256": etag(content), "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        body = json.dumps({"id": repo, "sha": found.commit, "siblings": siblings}).encode()
        self._send(200, {"Content-Type": "application/json"}, body)

    def _file(self, repo: str, revision: str, file: str) -> None:
        found = self._repository(repo, revision)
        if found is None:
            return
        if found.gated:
            self._send(403, {"X-Error-Code": "GatedRepo"})
            return
        if file not in found.files:
            self._send(404, {"X-Error-Code": "EntryNotFound"})
            return
        stored = found.files[file]
        headers = {"X-Repo-Commit": found.commit, "ETag": f'"{etag(stored)}"', "Accept-Ranges": "bytes"}
        if len(stored) >= LARGE:
            headers |= {"X-Linked-Size": str(len(stored)), "X-Linked-Etag": f'"{etag(stored)}"'}
        content = self.hub.spoilt.get(file, stored)
        begin = 0
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            begin = int(match[1])
            if begin >= len(content):
                self._send(416, {})
                return
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        breaks = self.hub.breaks.get(file)
        stop = breaks.pop(0) if breaks and self.command == "GET" else None
        pause = self.hub.pauses.pop(file, None) if self.command == "GET" else None
        self._send(206 if begin else 200, headers, content[begin:], stop=stop, pause=pause)

    def _send(
        self,
        status: int,
        headers: dict[str, str],
        body: bytes = b"",
        *,
        stop: int | None = None,
        pause: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "GET":
            return
        if pause is not None:
            self.wfile.write(body[:pause])
            self.hub.go.wait(60)
            stop = pause  # the client has disconnected
        else:
            self.wfile.write(body[:stop])
        self.close_connection = stop is not None


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore disconnected clients."""


@contextmanager
def small_hub() -> Iterator[SmallHub]:
    """A hub that serves at its `url` until the end of the block."""
    hub = SmallHub()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.go.set()
        server.shutdown()
        server.server_close()
        thread.join()
