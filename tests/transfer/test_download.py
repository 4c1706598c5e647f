"""Downloads: checked, unpacked whole or not at all, and one line that says what to do where it does not work."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from rexdet.errors import UserError
from rexdet.transfer.datasets import DATASETS
from rexdet.transfer.download import download_all
from rexdet.transfer.facts import DatasetFacts, Download


def tar(path: Path, files: dict[str, bytes]) -> bytes:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path.read_bytes()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Source:
    """A folder that a server on this machine hands out."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder, address

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def facts(self, *names: str, into: str = "") -> DatasetFacts:
        """Flowers-102 with these files as its sources."""
        downloads = [
            Download(f"{self.address}/{name}", hashlib.md5((self / name).read_bytes()).hexdigest(), into)
            for name in names
        ]
        return replace(DATASETS["flowers102"], downloads=tuple(downloads))


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    folder = tmp_path / "source"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield Source(folder, f"http://127.0.0.1:{server.server_address[1]}")
    server.shutdown()
    thread.join()
    server.server_close()


def test_archives_are_unpacked_and_removed(source: Source, tmp_path: Path) -> None:
    tar(source / "set.tgz", {"jpg/a.jpg": b"a", "jpg/b.jpg": b"b"})
    (source / "labels.mat").write_bytes(b"labels")
    root = tmp_path / "root"
    download_all(source.facts("set.tgz", "labels.mat", into="flowers-102"), root, lambda: False)
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("[!.]*") if path.is_file()}
    assert found == {
        "flowers-102/jpg/a.jpg": b"a",
        "flowers-102/jpg/b.jpg": b"b",
        "flowers-102/labels.mat": b"labels",
    }


def test_an_archive_in_an_archive_is_unpacked_too(source: Source, tmp_path: Path) -> None:
    inner = tar(source / "inner.tar.gz", {"101_ObjectCategories/accordion/image_0001.jpg": b"a"})
    with zipfile.ZipFile(source / "caltech-101.zip", "w") as archive:
        archive.writestr("caltech-101/101_ObjectCategories.tar.gz", inner)
    root = tmp_path / "root"
    download_all(source.facts("caltech-101.zip", into="caltech101"), root, lambda: False)
    places = DATASETS["caltech101"].layout.places(root)
    assert any((place / "101_ObjectCategories" / "accordion" / "image_0001.jpg").is_file() for place in places)


def test_another_file_than_the_official_one_is_refused(source: Source, tmp_path: Path) -> None:
    tar(source / "set.tgz", {"jpg/a.jpg": b"a"})
    facts = source.facts("set.tgz")
    tar(source / "set.tgz", {"jpg/a.jpg": b"b"})
    with pytest.raises(UserError, match=r"Oxford 102 Flowers: .*; put jpg/ of 102flowers.tgz") as caught:
        download_all(facts, tmp_path / "root", lambda: False)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "root").rglob("[!.]*"))


def test_a_member_that_leads_out_of_the_folder_is_refused(source: Source, tmp_path: Path) -> None:
    tar(source / "set.tgz", {"jpg/a.jpg": b"a", "../../evil": b"x"})
    with pytest.raises(UserError, match="cannot be unpacked"):
        download_all(source.facts("set.tgz"), tmp_path / "root" / "deep", lambda: False)
    assert not list(tmp_path.rglob("evil"))
    assert not list((tmp_path / "root" / "deep").rglob("*.jpg"))


def test_a_source_that_does_not_answer_is_told(source: Source, tmp_path: Path) -> None:
    (source / "set.tgz").write_bytes(b"")
    facts = source.facts("set.tgz")
    (source / "set.tgz").unlink()
    with pytest.raises(UserError, match=r"cannot be fetched .*; put jpg/ of 102flowers\.tgz.*--dataset embedded now"):
        download_all(facts, tmp_path / "root", lambda: False)


def test_what_another_process_has_fetched_is_not_fetched_again(source: Source, tmp_path: Path) -> None:
    tar(source / "set.tgz", {"jpg/a.jpg": b"a"})
    download_all(source.facts("set.tgz"), tmp_path / "root", lambda: True)
    assert not (tmp_path / "root" / "jpg").exists()


def test_a_folder_that_cannot_be_written_is_told(source: Source, tmp_path: Path) -> None:
    tar(source / "set.tgz", {"jpg/a.jpg": b"a"})
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot be unpacked .*; put jpg/ of 102flowers\.tgz"):
        download_all(source.facts("set.tgz"), tmp_path / "file" / "root", lambda: False)


def test_checksums_are_those_that_torchvision_knows() -> None:
    from torchvision import datasets

    known = {name: {remote.url: remote.md5 for remote in row.downloads} for name, row in DATASETS.items()}
    for name, peer in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)):
        assert known[name] == {peer.url: peer.tgz_md5}
        lists = dict(peer.train_list), dict(peer.test_list)
        layout = DATASETS[name].layout
        assert layout.md5 == {
            "train": {**lists[0], peer.meta["filename"]: peer.meta["md5"]},
            "test": lists[1],
        }
    flowers = datasets.Flowers102
    there = {f"{flowers._download_url_prefix}{name}": md5 for name, md5 in flowers._file_dict.values()}
    assert known["flowers102"] == there
    assert known["food101"] == {datasets.Food101._URL: datasets.Food101._MD5}
    assert known["dtd"] == {datasets.DTD._URL: datasets.DTD._MD5}
    assert known["pets"] == dict(datasets.OxfordIIITPet._RESOURCES)
    assert list(known["aircraft"]) == [datasets.FGVCAircraft._URL]
