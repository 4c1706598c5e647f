"""Files from the network: fetched once, resumed where a line broke, verified, shared by several processes."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from filelock import FileLock
from tqdm import tqdm

from rexdet.errors import UserError
from rexdet.files import write_json_atomically
from rexdet.weights.checkpoint import hash_file
from rexdet.weights.formats import read_file

logger = logging.getLogger(__name__)
_TIMEOUT_S = 30.0
_ATTEMPTS = 5
_BLOCK = 1 << 18


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch.

    url: http, https or file. name: of the file in the cache. page: where a person fetches it by hand; "" for the url.
    sha256: hexadecimal, None where the publisher gives none. short_hash: the beginning of it, as some publishers put it
    into the file's name. title: what the file is, for messages and the record ("rexnet_1.0@nav_in1k").
    """

    url: str
    name: str
    title: str
    page: str = ""
    sha256: str | None = None
    short_hash: str | None = None


class _BrokenLineError(Exception):
    """The connection failed or ended early; what has arrived is kept."""


def folder() -> Path:
    """Where fetched files are kept: $REXDET_CACHE, or ~/.cache/rexdet/weights."""
    chosen = os.environ.get("REXDET_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "rexdet" / "weights"


def is_offline() -> bool:
    """Somebody has switched downloads off with REXDET_OFFLINE=1."""
    return os.environ.get("REXDET_OFFLINE", "").lower() not in ("", "0", "false", "no")


def present(remote: RemoteFile) -> Path | None:
    """The file in the cache, verified; None where it is not there.

    Raises UserError where it is there and is not what it should be.
    """
    target = folder() / remote.name
    if not target.is_file():
        return None
    digest = hash_file(target)
    record = read_record(target)
    if record is None:
        _verify(target, remote, digest)
        _write_record(target, remote, digest)
    elif record.get("sha256") != digest:
        raise UserError(
            f"has changed since it was first used (SHA-256 {digest}, then {record.get('sha256')})",
            where=str(target),
            fix="delete it and it is fetched again",
        )
    else:
        _verify(target, remote, digest, sound=True)
    return target


def fetch(remote: RemoteFile) -> Path:
    """The file in the cache, fetched where it is not there. Several processes fetch it once.

    Raises UserError that names the file to fetch by hand and where to put it where the network cannot be reached, and
    where what arrives is not the file.
    """
    if (found := present(remote)) is not None:
        return found
    if is_offline():
        raise _by_hand(remote, "REXDET_OFFLINE is set")
    target = folder() / remote.name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if (found := present(remote)) is not None:
                return found
            _download(remote, target)
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror or error})",
            where=str(target.parent),
            fix="set REXDET_CACHE to a folder of yours",
        ) from error
    return target


def read_record(target: Path) -> dict[str, Any] | None:
    """What was written down when a cached file was first used: title, url, sha256, verified_by, date."""
    path = _record_path(target)
    if not path.is_file():
        return None
    with contextlib.suppress(json.JSONDecodeError):
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
    raise UserError("is a damaged record of the cache", where=str(path), fix="delete it")


def records() -> Iterator[dict[str, Any]]:
    """Every record of the cache that can be read; what is damaged is told when its own file is used."""
    for path in sorted(folder().glob("*.record.json")):
        try:
            record = read_record(path.with_name(path.name.removesuffix(".record.json")))
        except UserError as error:
            logger.warning("%s", error)
            continue
        if record is not None:
            yield record


def _record_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.record.json")


def _write_record(target: Path, remote: RemoteFile, digest: str) -> None:
    by = "sha256" if remote.sha256 else "the short hash in its name" if remote.short_hash else "trusted on first use"
    record = {
        "title": remote.title,
        "url": remote.url,
        "sha256": digest,
        "verified_by": by,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    try:
        write_json_atomically(_record_path(target), record)
    except OSError as error:
        # A cache that is shared read-only works without: the file is verified again at each use.
        logger.warning("%s: cannot be recorded (%s)", target, error.strerror or error)


def _verify(path: Path, remote: RemoteFile, digest: str, *, sound: bool = False) -> None:
    """Raise UserError unless the file has the hash that is known of it and (unless `sound`) is a file of weights."""
    expected = remote.sha256 or remote.short_hash
    matches = expected is None or digest.startswith(expected.lower())
    if not matches or not sound:
        read_file(path)  # A web page or a part of a file is told as what it is, before a hash that says nothing.
    if not matches:
        raise UserError(
            f"is not the file of {remote.title}: SHA-256 {digest}, expected {expected}{'' if remote.sha256 else '...'}",
            where=str(path),
            fix=f"fetch it again from {remote.page or remote.url}",
        )


def _download(remote: RemoteFile, target: Path) -> None:
    partial = target.with_name(f"{target.name}.partial")
    reason = ""
    for _ in range(_ATTEMPTS):
        before = partial.stat().st_size if partial.exists() else 0
        try:
            _transfer(remote, partial)
            break
        except _BrokenLineError as error:
            reason = str(error)
            arrived = partial.stat().st_size if partial.exists() else 0
            if arrived <= before:
                raise _by_hand(remote, reason) from error
    else:
        raise _by_hand(remote, f"{reason}, {_ATTEMPTS} times")
    digest = hash_file(partial)
    try:
        _verify(partial, remote, digest)
    except UserError as error:
        _forget(partial)
        raise UserError(
            f"what {remote.url} sent {error.what}",
            where=remote.title,
            fix=f"fetch {remote.page or remote.url} by hand and put it at {target}",
        ) from error
    with open(partial, "rb") as stream:
        os.fsync(stream.fileno())
    os.replace(partial, target)
    _forget(partial)
    _write_record(target, remote, digest)


def _transfer(remote: RemoteFile, partial: Path) -> None:
    """One connection: append what is still to come to `partial`. Raises _BrokenLineError unless it becomes whole."""
    start, validator = _resumable(partial, remote)
    request = urllib.request.Request(remote.url, headers={"User-Agent": "rexdet"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        if validator:
            request.add_header("If-Range", validator)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            if start and getattr(response, "status", 200) != 206:
                start = 0
            _remember_validator(partial, response.headers)
            length = response.headers.get("Content-Length")
            whole = start + int(length) if length and length.isdigit() else None
            with open(partial, "ab" if start else "wb") as stream:
                arrived = start + _copy(response, stream, remote, start, whole)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            # What lies here is as long as the file or longer: whole but for the last step, or of another version.
            _forget(partial)
            _transfer(remote, partial)
            return
        raise _BrokenLineError(f"the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _BrokenLineError(str(error.reason)) from error
    except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise _BrokenLineError(str(error) or type(error).__name__) from error
    if whole is not None and arrived != whole:
        raise _BrokenLineError(f"the connection ended after {arrived} of {whole} bytes")


def _copy(response: IO[bytes], stream: IO[bytes], remote: RemoteFile, start: int, whole: int | None) -> int:
    copied = 0
    with tqdm(
        desc=remote.title, total=whole, initial=start, unit="B", unit_scale=True, unit_divisor=1024, disable=None
    ) as bar:
        while block := response.read(_BLOCK):
            stream.write(block)
            copied += len(block)
            bar.update(len(block))
    return copied


def _validator_path(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.etag")


def _resumable(partial: Path, remote: RemoteFile) -> tuple[int, str]:
    """(bytes to keep, the server's mark of the version they are of). Without mark or hash a part is not continued:
    nobody could tell that the file changed in between."""
    if not partial.exists():
        return 0, ""
    mark = _validator_path(partial)
    validator = mark.read_text(encoding="utf-8").strip() if mark.exists() else ""
    if not validator and not (remote.sha256 or remote.short_hash):
        return 0, ""
    return partial.stat().st_size, validator


def _remember_validator(partial: Path, headers: Any) -> None:
    etag = headers.get("ETag") or ""
    validator = headers.get("Last-Modified") or "" if etag.startswith("W/") or not etag else etag
    _validator_path(partial).write_text(validator, encoding="utf-8")


def _forget(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _validator_path(partial).unlink(missing_ok=True)


def _by_hand(remote: RemoteFile, reason: str) -> UserError:
    return UserError(
        f"cannot be fetched ({reason})",
        where=remote.title,
        fix=f"fetch {remote.page or remote.url} by hand and put it at {folder() / remote.name}",
    )
