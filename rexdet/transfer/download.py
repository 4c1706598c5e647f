"""Fetches an official data set where its publishers keep it, checks it, and unpacks it whole or not at all."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import urllib.error
import zipfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from rexdet.errors import UserError
from rexdet.transfer.facts import DatasetFacts, Download
from rexdet.transfer.layouts.entries import check_md5
from rexdet.weights.cache import is_offline


def download_all(facts: DatasetFacts, root: Path, is_there: Callable[[], bool]) -> None:
    """Fetch and unpack everything of a set below `root`. Archives are removed once they are unpacked.

    is_there: whether the set is there now. Several processes fetch it once: the others wait, and look again.

    Raises UserError that says which files to put where: its source is gone, no network, a wrong checksum, no room.
    """
    if not facts.downloads:
        raise UserError(f"{facts.title} can no longer be fetched from its publishers", "", _by_hand(facts, root))
    if is_offline():
        raise UserError(f"{facts.title} is not there, and REXDET_OFFLINE is set", "", _by_hand(facts, root))
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{facts.name.replace(':', '-')}.lock"):
            for remote in () if is_there() else facts.downloads:
                _fetch_and_unpack(remote, root / remote.into)
    except UserError as error:
        raise UserError(f"{facts.title}: {error.what}", error.where, _by_hand(facts, root)) from error
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise UserError(f"{facts.title} cannot be unpacked ({error})", str(root), _by_hand(facts, root)) from error


def _fetch_and_unpack(remote: Download, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _fetch(remote, folder)
    if not remote.url.endswith(".mat"):
        _unpack(folder / _name(remote), folder)
        (folder / _name(remote)).unlink()


def _name(remote: Download) -> str:
    return remote.url.rpartition("/")[2]


def _by_hand(facts: DatasetFacts, root: Path) -> str:
    urls = " ".join(remote.url for remote in facts.downloads)
    return f"put {facts.put} below {root}" + (f" (from {urls})" if urls else "") + ", or try --dataset embedded now"


def _fetch(remote: Download, folder: Path) -> None:
    """torchvision's download, which keeps a whole file that is there already. The checksum is checked here again."""
    try:
        # Not above: torchvision takes seconds to import, and the facts of the sets are asked for without it.
        from torchvision.datasets.utils import download_url

        download_url(remote.url, str(folder), filename=_name(remote), md5=remote.md5)
    except (urllib.error.URLError, RuntimeError, TimeoutError, ConnectionError) as error:
        (folder / _name(remote)).unlink(missing_ok=True)
        raise UserError(f"cannot be fetched ({error})", remote.url) from error
    check_md5(folder / _name(remote), remote.md5)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack beside the place and move what came out there, so that a break leaves no half of a set.

    Archives within the archive (Caltech-101's) are unpacked too. Members that lead out of the folder are refused.
    """
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".partial-"))
    try:
        _extract(archive, temporary)
        for inner in sorted(temporary.rglob("*.tar.gz")):
            _extract(inner, inner.parent)
            inner.unlink()
        for item in sorted(temporary.iterdir()):
            target = folder / item.name
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(item, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _extract(archive: Path, folder: Path) -> None:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder)  # Leaves out ".." and absolute names itself.
        return
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
