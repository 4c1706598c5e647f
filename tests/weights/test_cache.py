"""Fetching: once, resumed, verified, by several processes; offline, the error says what to do by hand."""

from __future__ import annotations

import hashlib
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rexdet.errors import UserError
from rexdet.weights import cache
from rexdet.weights.cache import RemoteFile


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` under any path; `cuts` is how many bytes it sends before it drops the line, per request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = b""
        self.cuts: list[int] = []
        self.etag = '"one"'
        self.ranges: list[str | None] = []
        self.status = 200
        self.knows_ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/weights.pth"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        body, status = self.server.content, self.server.status
        unchanged = self.headers.get("If-Range") in (None, self.server.etag)
        if wanted and self.server.knows_ranges and unchanged:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            body, status = (body[start:], 206) if start < len(body) else (b"", 416)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.end_headers()
        self.wfile.write(body[: self.server.cuts.pop(0)] if self.server.cuts else body)

    def log_message(self, *arguments: object) -> None:
        """Tests need no log."""


@pytest.fixture
def server(monkeypatch, small_file) -> Iterator[Server]:
    monkeypatch.delenv("REXDET_OFFLINE")
    made = Server()
    made.content = small_file.read_bytes()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(scope="session")
def small_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("published") / "weights.pth"
    torch.save({"a": torch.arange(50_000.0)}, path)
    return path


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def remote(url: str, **known: str) -> RemoteFile:
    return RemoteFile(url, "weights.pth", "net@tag", **known)


def refusal(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("known", ["sha256", "short_hash", "nothing"])
def test_a_file_is_fetched_once_verified_and_recorded(server: Server, known: str) -> None:
    digest = sha(server.content)
    hashes = {"sha256": {"sha256": digest}, "short_hash": {"short_hash": digest[:8]}, "nothing": {}}[known]
    first = cache.fetch(remote(server.url, **hashes))
    assert first == cache.folder() / "weights.pth"
    assert first.read_bytes() == server.content
    record = cache.read_record(first)
    assert record is not None
    assert record["sha256"] == digest
    assert record["title"] == "net@tag"
    assert ("trusted on first use" in record["verified_by"]) == (known == "nothing")
    assert cache.fetch(remote(server.url, **hashes)) == first
    assert len(server.ranges) == 1
    assert sorted(path.name for path in cache.folder().iterdir()) == [
        "weights.pth",
        "weights.pth.lock",
        "weights.pth.record.json",
    ]


@pytest.mark.parametrize("etag", ['"one"', ""])
def test_a_broken_line_is_continued_where_it_broke(server: Server, etag: str) -> None:
    server.etag = etag
    server.cuts = [60_000, 40_000]
    path = cache.fetch(remote(server.url, sha256=sha(server.content)))
    assert path.read_bytes() == server.content
    assert server.ranges == [None, "bytes=60000-", "bytes=100000-"]


def test_a_part_from_an_earlier_process_is_continued(server: Server) -> None:
    cache.folder().mkdir(parents=True)
    (cache.folder() / "weights.pth.partial").write_bytes(server.content[:70_000])
    (cache.folder() / "weights.pth.partial.etag").write_text('"one"')
    assert cache.fetch(remote(server.url)).read_bytes() == server.content
    assert server.ranges == ["bytes=70000-"]


def test_a_part_of_another_version_is_not_continued(server: Server) -> None:
    cache.folder().mkdir(parents=True)
    (cache.folder() / "weights.pth.partial").write_bytes(b"x" * 70_000)
    (cache.folder() / "weights.pth.partial.etag").write_text('"older"')
    assert cache.fetch(remote(server.url)).read_bytes() == server.content


def test_a_part_that_nothing_vouches_for_is_not_continued(server: Server) -> None:
    cache.folder().mkdir(parents=True)
    (cache.folder() / "weights.pth.partial").write_bytes(b"x" * 70_000)
    assert cache.fetch(remote(server.url)).read_bytes() == server.content
    assert server.ranges == [None]


@pytest.mark.parametrize("surplus", [b"", b"more"])
def test_a_part_as_long_as_the_file_is_fetched_again(server: Server, surplus: bytes) -> None:
    cache.folder().mkdir(parents=True)
    (cache.folder() / "weights.pth.partial").write_bytes(server.content + surplus)
    path = cache.fetch(remote(server.url, sha256=sha(server.content)))
    assert path.read_bytes() == server.content
    assert server.ranges == [f"bytes={len(server.content) + len(surplus)}-", None]


def test_a_cache_that_cannot_be_written_is_told(server: Server, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "file"))
    assert "set REXDET_CACHE" in refusal(cache.fetch, remote(server.url))


def test_a_server_without_ranges_starts_again(server: Server) -> None:
    server.knows_ranges = False
    server.cuts = [60_000]
    assert cache.fetch(remote(server.url)).read_bytes() == server.content


def test_a_line_that_breaks_for_ever_ends_with_what_to_do_by_hand(server: Server) -> None:
    server.cuts = [1000] * 10
    text = refusal(cache.fetch, remote(server.url, page="https://example.org/page"))
    assert "5 times" in text
    assert f"fetch https://example.org/page by hand and put it at {cache.folder() / 'weights.pth'}" in text


@pytest.mark.parametrize("known", [{"sha256": "0" * 64}, {"short_hash": "00000000"}])
def test_another_file_than_the_published_one_is_refused(server: Server, known: dict[str, str]) -> None:
    text = refusal(cache.fetch, remote(server.url, **known))
    assert sha(server.content) in text
    assert next(iter(known.values())) in text
    assert not (cache.folder() / "weights.pth").exists()
    assert not (cache.folder() / "weights.pth.partial").exists()


@pytest.mark.parametrize("known", [{}, {"sha256": "0" * 64}])
def test_a_web_page_in_the_place_of_the_file_is_told(server: Server, known: dict[str, str]) -> None:
    server.content = b"<!DOCTYPE html><html>Google Drive - virus scan warning</html>"
    assert "web page" in refusal(cache.fetch, remote(server.url, **known))
    assert not (cache.folder() / "weights.pth").exists()


def test_a_refusing_server_is_told(server: Server) -> None:
    server.status = 404
    assert "404" in refusal(cache.fetch, remote(server.url))


def test_an_address_of_a_local_file_works(small_file: Path, monkeypatch) -> None:
    monkeypatch.delenv("REXDET_OFFLINE")
    assert cache.fetch(remote(small_file.as_uri())).read_bytes() == small_file.read_bytes()
    missing = remote((small_file.parent / "none.pth").as_uri())
    missing = RemoteFile(missing.url, "other.pth", "net@tag")
    assert "cannot be fetched" in refusal(cache.fetch, missing)


def test_nobody_there_is_told_with_what_to_do(monkeypatch) -> None:
    monkeypatch.delenv("REXDET_OFFLINE")
    text = refusal(cache.fetch, remote("http://127.0.0.1:9/weights.pth"))
    assert "cannot be fetched" in text
    assert "http://127.0.0.1:9/weights.pth by hand" in text
    assert str(cache.folder() / "weights.pth") in text


def test_offline_is_obeyed_at_once_and_a_file_put_there_by_hand_is_taken(small_file: Path) -> None:
    wanted = remote("http://127.0.0.1:9/weights.pth")
    assert "REXDET_OFFLINE" in refusal(cache.fetch, wanted)
    cache.folder().mkdir(parents=True, exist_ok=True)
    (cache.folder() / "weights.pth").write_bytes(small_file.read_bytes())
    assert cache.fetch(wanted).read_bytes() == small_file.read_bytes()
    assert next(cache.records())["sha256"] == sha(small_file.read_bytes())


def test_a_wrong_file_put_there_by_hand_is_refused(small_file: Path) -> None:
    cache.folder().mkdir(parents=True)
    target = cache.folder() / "weights.pth"
    target.write_bytes(b"<html>sign in</html>")
    assert "web page" in refusal(cache.fetch, remote("http://127.0.0.1:9/w"))
    target.write_bytes(small_file.read_bytes())
    assert "expected 00000000" in refusal(cache.fetch, remote("http://127.0.0.1:9/w", short_hash="00000000"))


def test_a_file_that_changes_after_its_first_use_is_refused(server: Server) -> None:
    path = cache.fetch(remote(server.url))
    torch.save({"a": torch.ones(3)}, path)
    assert "has changed since it was first used" in refusal(cache.fetch, remote(server.url))


def test_a_damaged_record_is_told(server: Server) -> None:
    path = cache.fetch(remote(server.url))
    path.with_name("weights.pth.record.json").write_text("{")
    assert "damaged record" in refusal(cache.fetch, remote(server.url))
    assert list(cache.records()) == []


def test_several_processes_fetch_one_file_once(server: Server, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from rexdet.weights.cache import RemoteFile, fetch\n"
        "print(fetch(RemoteFile(sys.argv[1], 'weights.pth', 'net@tag')).stat().st_size)\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, server.url], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    sizes = {int(process.communicate(timeout=120)[0]) for process in processes}
    assert sizes == {len(server.content)}
    assert len(server.ranges) == 1
    assert json.loads((cache.folder() / "weights.pth.record.json").read_text())["url"] == server.url
