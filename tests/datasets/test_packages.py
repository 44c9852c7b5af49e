"""Package registries, each by its own client against a local registry: Debian's a folder, npm's a local server."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runner.datasets import sources
from runner.datasets.packages import DebianArchive, NpmArchive, Package
from runner.datasets.sources import File, Mirror, Status
from runner.errors import CorruptData, DataUnavailable

BODY = b"0 1\n1 2\n" * 1000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def edges(package: Package) -> File:
    return File(title="Toy", name="toy/edges.txt", sha256=sha256(BODY), package=package)


def needs(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not on this machine")


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian package of one data file, a link and a lone folder, in a folder that apt takes as an archive."""
    needs("dpkg-deb", "apt-get")
    tree, archive = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("archive")
    (tree / "usr/share/toy set").mkdir(parents=True)
    (tree / "usr/share/toy set/edges.txt").write_bytes(BODY)
    (tree / "usr/share/toy set/link.txt").symlink_to("/etc/hostname")
    control = (
        "Package: toyset\nVersion: 1:2.0-1\nArchitecture: all\nMaintainer: Nobody <n@example.org>\nDescription: t\n"
    )
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(control)
    made = archive / "toyset_2.0-1_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, made], check=True, capture_output=True)
    content = made.read_bytes()
    listed = f"{control}Filename: ./{made.name}\nSize: {len(content)}\nSHA256: {sha256(content)}\n"
    (archive / "Packages").write_text(listed)
    return made


@pytest.fixture
def apt(deb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """apt, with no sources but the folder of ``deb``."""
    for folder in ("apt/lists/partial", "apt/cache/archives/partial"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "apt/sources.list").write_text(f"deb [trusted=yes] file:{deb.parent} ./\n")
    (tmp_path / "apt/status").touch()
    settings = {
        "Dir::Etc::sourcelist": "sources.list",
        "Dir::Etc::sourceparts": "none",
        "Dir::Etc": f"{tmp_path}/apt",
        "Dir::State": f"{tmp_path}/apt",
        "Dir::State::lists": f"{tmp_path}/apt/lists",
        "Dir::State::status": f"{tmp_path}/apt/status",
        "Dir::Cache": f"{tmp_path}/apt/cache",
        "APT::Sandbox::User": "",
    }
    (tmp_path / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    updated = subprocess.run(["apt-get", "update"], capture_output=True, text=True)
    if updated.returncode:
        pytest.skip(f"apt-get takes no local folder here: {updated.stderr}")
    return deb


def toy_deb(archive: Path, member: str = "/usr/share/toy set/edges.txt", version: str = "1:2.0-1") -> DebianArchive:
    return DebianArchive(
        package="toyset", version=version, sha256=sha256(archive.read_bytes()), size=1_500_000, member=member
    )


def test_debian_archive(empty_cache: Path, apt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = edges(toy_deb(apt))
    assert sources.status(file) is Status.FETCHABLE
    assert sources.fetch(file).read_bytes() == BODY
    assert "fetching Toy from a package registry (1.5 MB)" in capsys.readouterr().err
    file.path.unlink()
    assert sources.fetch(edges(toy_deb(apt, "usr/share/toy set/edges.txt"))).read_bytes() == BODY
    assert "fetching" not in capsys.readouterr().err  # the archive was kept
    assert {path.name for path in empty_cache.rglob("*") if path.is_file() and path.suffix != ".lock"} == {
        "edges.txt",
        "toyset=1:2.0-1",
    }


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("/usr/share/toy set/absent", "has no member"),
        ("/usr/share/toy set/link.txt", "is not a file"),
        ("/usr/share/toy set", "has no member|is not a file"),
    ],
)
def test_debian_archive_without_the_member(empty_cache: Path, apt: Path, member: str, message: str) -> None:
    with pytest.raises(CorruptData, match=message):
        sources.fetch(edges(toy_deb(apt, member)))


def test_debian_version_that_is_not_there(empty_cache: Path, apt: Path) -> None:
    with pytest.raises(DataUnavailable, match=r"apt-get download toyset=9: E: Version '9'.*apt-get update") as told:
        sources.fetch(edges(toy_deb(apt, version="9")))
    assert "\n" not in str(told.value)


def test_debian_archive_of_other_bytes(empty_cache: Path, apt: Path) -> None:
    pinned = DebianArchive(package="toyset", version="1:2.0-1", sha256=sha256(b"another"), size=1, member="edges.txt")
    with pytest.raises(CorruptData, match=sha256(b"another")):
        sources.fetch(edges(pinned))


def test_debian_archive_in_the_mirror(own_mirror: Path, deb: Path) -> None:
    """Whatever its name: an archive is known by its content."""
    (own_mirror / "any").write_bytes(deb.read_bytes())
    mirror = Mirror(path="any", sha256=sha256(deb.read_bytes()), member="/usr/share/toy set/edges.txt")
    assert sources.fetch(File(title="Toy", name="e", sha256=sha256(BODY), mirror=mirror)).read_bytes() == BODY


def test_damaged_debian_archive(own_mirror: Path, deb: Path) -> None:
    content = deb.read_bytes()
    for damaged in (content[:8], content[: len(content) // 2], content[:-40]):
        (own_mirror / "any").write_bytes(damaged)
        mirror = Mirror(path="any", sha256=sha256(damaged), member="usr/share/toy set/edges.txt")
        with pytest.raises(CorruptData):
            sources.fetch(File(title="Toy", name="e", sha256=sha256(BODY), mirror=mirror))


@pytest.mark.parametrize(
    ("package", "tool"),
    [
        (DebianArchive(package="p", version="1", sha256="", size=1, member="m"), "apt-get"),
        (NpmArchive(package="p", version="1", sha256="", size=1, member="m"), "npm"),
    ],
)
def test_missing_client(empty_cache: Path, monkeypatch: pytest.MonkeyPatch, package: Package, tool: str) -> None:
    monkeypatch.setenv("PATH", str(empty_cache))
    with pytest.raises(DataUnavailable, match=f"{tool} is not on this machine.*put the file at"):
        sources.fetch(edges(package))


def test_missing_unpacker(own_mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(own_mirror))
    (own_mirror / "any").write_bytes(b"!<arch>\n")
    mirror = Mirror(path="any", sha256=sha256(b"!<arch>\n"), member="m")
    with pytest.raises(DataUnavailable, match="dpkg-deb"):
        sources.fetch(File(title="Toy", name="e", sha256=None, mirror=mirror))


@cache
def tgz() -> bytes:  # once: gzip stores the time
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        manifest = json.dumps({"name": "@toys/set", "version": "1.0.0"}).encode()
        for name, content in {"package/package.json": manifest, "package/edges.txt": BODY}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


class Registry(BaseHTTPRequestHandler):
    """What npm asks a registry: the package's versions, then the archive."""

    def do_GET(self) -> None:
        server: ThreadingHTTPServer = self.server  # type: ignore[assignment]
        address = f"http://127.0.0.1:{server.server_port}/archive.tgz"
        versions = {"1.0.0": {"name": "@toys/set", "version": "1.0.0", "dist": {"tarball": address}}}
        index = {"name": "@toys/set", "dist-tags": {"latest": "1.0.0"}, "versions": versions}
        body = tgz() if self.path == "/archive.tgz" else json.dumps(index).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """npm, with no registry but a local one."""
    needs("npm")
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as running:
        thread = threading.Thread(target=partial(running.serve_forever, poll_interval=0.02))
        thread.start()
        for name, value in {
            "registry": f"http://127.0.0.1:{running.server_port}/",
            "@toys:registry": f"http://127.0.0.1:{running.server_port}/",
            "cache": str(tmp_path / "npm cache"),
            "noproxy": "127.0.0.1",
        }.items():
            monkeypatch.setenv(f"npm_config_{name}", value)
        yield
        running.shutdown()
        thread.join()


def toy_npm(version: str = "1.0.0", archive: bytes | None = None) -> NpmArchive:
    pinned = sha256(tgz() if archive is None else archive)
    return NpmArchive(package="@toys/set", version=version, sha256=pinned, size=9, member="package/edges.txt")


def test_npm_archive(empty_cache: Path, npm: None) -> None:
    file = edges(toy_npm())
    assert sources.fetch(file).read_bytes() == BODY
    assert (empty_cache / "archives/@toys+set@1.0.0").read_bytes() == tgz()
    with pytest.raises(DataUnavailable, match=r"npm pack @toys/set@2\.0\.0: npm error .*No matching version"):
        sources.fetch(File(title="Toy", name="other", sha256=None, package=toy_npm("2.0.0")))
    (empty_cache / "archives/@toys+set@1.0.0").unlink()
    file.path.unlink()
    with pytest.raises(CorruptData, match=sha256(b"another")):
        sources.fetch(edges(toy_npm(archive=b"another")))
