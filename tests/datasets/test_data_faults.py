"""Files that are damaged, swapped or hostile: never used, never run, nothing written outside the cache."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.datasets import sources, unpickle
from runner.datasets.array_files import read_npz, read_pt
from runner.datasets.own import File as OwnFile
from runner.datasets.sources import File, Mirror, NpmArchive
from runner.errors import BadInput, CorruptData, DataUnavailable, RunnerError
from tests.conftest import Result
from tests.damage import damaged

Cli = Callable[..., Result]
Count = Callable[[str, str], None]
BODY = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(200))
few = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
many = settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
OWN = {"split": "kfold", "fold": 0, "undirected": True, "normalize_features": False}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def toy(archive: bytes, member: str | None = "a/wanted", name: str = "toy/wanted") -> File:
    """A file in a mirror whose archive has these bytes, as if a recipe had pinned them."""
    mirror = Mirror(path="archive", sha256=sha256(archive), member=member)
    return File(title="Toy", name=name, sha256=sha256(BODY), mirror=mirror)


def zipped(*entries: tuple[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return made.getvalue()


def tarred(*entries: tuple[str, bytes], mode: str = "w", **fields: Any) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            for field, value in fields.items():
                setattr(entry, field, value)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


ENTRIES = (("a/other", b"x" * 700), ("a/wanted", BODY), ("b", b"y"))
ARCHIVES = {
    "zip": zipped(*ENTRIES),
    "tar": tarred(*ENTRIES),
    "tar.gz": tarred(*ENTRIES, mode="w:gz"),
    "tar.bz2": tarred(*ENTRIES, mode="w:bz2"),
    "tar.xz": tarred(*ENTRIES, mode="w:xz"),
}


def outcome(fetch: Callable[[], Path]) -> str:
    """``right`` or the error's name; anything but the right bytes or one clear line is a failure."""
    try:
        assert fetch().read_bytes() == BODY
    except RunnerError as error:
        told = error
    else:
        return "right"
    assert "\n" not in str(told)
    return type(told).__name__


def damaged_archives(own_mirror: Path, kind: str, fault: tuple[str, bytes], count: Count) -> None:
    """The archive's own hash is taken from the damaged bytes, so that the unpacking itself is what is tried."""
    sources.cached(toy(b"")) and toy(b"").path.unlink()
    (own_mirror / "archive").write_bytes(fault[1])
    found = outcome(lambda: sources.fetch(toy(fault[1])))
    count(f"archive {fault[0]}", "still right" if found == "right" else "refused")
    left = [path.name for path in toy(b"").path.parent.iterdir() if not path.name.endswith(".lock")]
    assert left == (["wanted"] if found == "right" else [])


def damaged_cache(own_mirror: Path, fault: tuple[str, bytes], count: Count) -> None:
    (own_mirror / "archive").write_bytes(BODY)
    file = toy(BODY, member=None)
    sources.fetch(file).write_bytes(fault[1])
    same = fault[1] == BODY
    assert (sources.cached(file) is not None) == same
    assert outcome(lambda: sources.fetch(file)) == "right"
    count(f"cached file {fault[0]}", "no change" if same else "fetched again")


ANY_ARCHIVE = st.sampled_from(sorted(ARCHIVES)).flatmap(lambda kind: st.tuples(st.just(kind), damaged(ARCHIVES[kind])))


@few
@given(ANY_ARCHIVE)
def test_damaged_archive(own_mirror: Path, count_fault: Count, fault: tuple[str, tuple[str, bytes]]) -> None:
    damaged_archives(own_mirror, *fault, count_fault)


@pytest.mark.faults
@many
@given(ANY_ARCHIVE)
def test_many_damaged_archives(own_mirror: Path, count_fault: Count, fault: tuple[str, tuple[str, bytes]]) -> None:
    damaged_archives(own_mirror, *fault, count_fault)


@few
@given(damaged(BODY))
def test_damaged_cache(own_mirror: Path, count_fault: Count, fault: tuple[str, bytes]) -> None:
    damaged_cache(own_mirror, fault, count_fault)


@pytest.mark.faults
@many
@given(damaged(BODY))
def test_many_damaged_caches(own_mirror: Path, count_fault: Count, fault: tuple[str, bytes]) -> None:
    damaged_cache(own_mirror, fault, count_fault)


GRAPH = {
    "x": np.arange(24.0).reshape(6, 4),
    "y": np.array([0, 1, 2, 0, 1, 2]),
    "edge_index": np.array([[0, 1, 2, 3], [1, 2, 0, 4]]),
}


def own_file(suffix: str) -> bytes:
    made = io.BytesIO()
    if suffix == ".npz":
        np.savez(made, **GRAPH)  # type: ignore[arg-type]
    else:
        torch.save({name: torch.from_numpy(array) for name, array in GRAPH.items()}, made)
    return made.getvalue()


OWN_FILES = {suffix: own_file(suffix) for suffix in (".npz", ".pt")}
ANY_OWN = st.sampled_from(sorted(OWN_FILES)).flatmap(lambda s: st.tuples(st.just(s), damaged(OWN_FILES[s])))


def damaged_own_file(tmp_path: Path, suffix: str, fault: tuple[str, bytes], count: Count) -> None:
    (tmp_path / f"whole{suffix}").write_bytes(OWN_FILES[suffix])
    (tmp_path / f"mine{suffix}").write_bytes(fault[1])
    try:
        found = OwnFile(path=str(tmp_path / f"mine{suffix}"), **OWN).load("NodeClassification")  # type: ignore[arg-type]
    except BadInput as error:
        told = str(error)
        count(f"own {suffix} {fault[0]}", "refused")
    else:
        told = f"mine{suffix}"
        whole = OwnFile(path=str(tmp_path / f"whole{suffix}"), **OWN).load("NodeClassification")  # type: ignore[arg-type]
        assert found.fingerprint == whole.fingerprint
        count(f"own {suffix} {fault[0]}", "still right")
    assert "\n" not in told
    assert f"mine{suffix}" in told


@few
@given(ANY_OWN)
def test_damaged_own_file(tmp_path: Path, count_fault: Count, fault: tuple[str, tuple[str, bytes]]) -> None:
    damaged_own_file(tmp_path, *fault, count_fault)


@pytest.mark.faults
@many
@given(ANY_OWN)
def test_many_damaged_own_files(tmp_path: Path, count_fault: Count, fault: tuple[str, tuple[str, bytes]]) -> None:
    damaged_own_file(tmp_path, *fault, count_fault)


PICKLE = pickle.dumps({"x": np.arange(50), "graph": {0: [1], 1: [0]}}, 4)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damaged(PICKLE))
def test_damaged_pickle_is_read_or_told(tmp_path: Path, count_fault: Count, fault: tuple[str, bytes]) -> None:
    (tmp_path / "pickle").write_bytes(fault[1])
    told = ""
    assert fault[0] != "oversized" or unpickle.load(tmp_path / "pickle")["graph"] == {0: [1], 1: [0]}
    try:
        unpickle.load(tmp_path / "pickle")
    except CorruptData as error:
        told = str(error)
    assert "\n" not in told
    count_fault(f"pickle {fault[0]}", "refused" if told else "read")


def test_memo_bomb(tmp_path: Path) -> None:
    (tmp_path / "pickle").write_bytes(b"\x80\x02]r\xff\xff\xff\xff.")
    with pytest.raises(CorruptData, match="memo"):
        unpickle.load(tmp_path / "pickle")


class Runs:
    """Pickled, it asks for a command to be run."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.sentinel}",)


@pytest.mark.parametrize("suffix", [".npz", ".pt", "nested.npz", "legacy.pt"])
def test_code_is_not_run(tmp_path: Path, suffix: str) -> None:
    sentinel, path = tmp_path / "executed", tmp_path / f"mine{suffix}"
    evil = Runs(sentinel)
    if suffix == ".npz":
        np.savez(path, **GRAPH | {"x": np.array([evil], object)})  # type: ignore[arg-type]
    elif suffix == "nested.npz":
        inner = np.empty(1, object)
        inner[0] = pickle.dumps(evil)
        np.savez(path, **GRAPH | {"x": inner})  # type: ignore[arg-type]
    else:
        torch.save({"x": evil}, path, _use_new_zipfile_serialization=suffix == ".pt")
    with pytest.raises(BadInput) as told:
        OwnFile(path=str(path), **OWN).load("NodeClassification")  # type: ignore[arg-type]
    assert str(path) in str(told.value)
    assert not sentinel.exists()
    (tmp_path / "pickle").write_bytes(pickle.dumps([{"deep": [evil, (evil,)]}], 2))
    with pytest.raises(CorruptData, match="not admitted"):
        unpickle.load(tmp_path / "pickle")
    assert not sentinel.exists()


HUGE = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}


def test_header_that_claims_a_trillion_numbers(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, HUGE)  # type: ignore[arg-type]
    (tmp_path / "huge.npz").write_bytes(zipped(("x.npy", header.getvalue() + bytes(80))))
    begun = time.monotonic()
    with pytest.raises(CorruptData, match=r"huge\.npz"):
        read_npz(tmp_path / "huge.npz")
    torch.save({"x": torch.zeros(1).expand(10**12), "y": torch.zeros(1), "edge_index": 0}, tmp_path / "huge.pt")
    with pytest.raises(BadInput, match=r"huge\.pt: x can't be read as an array"):
        OwnFile(path=str(tmp_path / "huge.pt"), **OWN).load("NodeClassification")  # type: ignore[arg-type]
    assert time.monotonic() - begun < 5


def test_own_file_that_unpacks_beyond_memory(tmp_path: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("x.npy", b"")
        archive.infolist()[0].file_size = 1 << 50
    for name in ("bomb.npz", "bomb.pt"):
        (tmp_path / name).write_bytes(made.getvalue())
        with pytest.raises(CorruptData, match=r"unpacks to .* GB; this machine has"):
            (read_npz if name == "bomb.npz" else read_pt)(tmp_path / name)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_member_that_is_no_file(own_mirror: Path, tmp_path: Path, kind: bytes) -> None:
    (tmp_path / "secret").write_bytes(BODY)
    archive = tarred(("a/wanted", b""), type=kind, linkname=str(tmp_path / "secret"))
    (own_mirror / "archive").write_bytes(archive)
    with pytest.raises(CorruptData, match="is not a file"):
        sources.fetch(toy(archive))


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_member_twice(own_mirror: Path, pack: Callable[..., bytes]) -> None:
    archive = pack(("a/wanted", BODY), ("a/wanted", b"evil"))
    (own_mirror / "archive").write_bytes(archive)
    with pytest.raises(CorruptData, match="more than one member"):
        sources.fetch(toy(archive))


def bomb(kind: str) -> bytes:
    """64 MB in little, in the member or before it; a terabyte that is only claimed; a header of 200 MB."""
    zeros = bytes(64 << 20)
    if kind == "zip":
        return zipped(("a/wanted", zeros))
    if kind in ("tar.gz", "tar.xz"):
        return tarred(("a/wanted", zeros), mode=f"w:{kind[4:]}")
    if kind == "before":
        return tarred(("first", zeros), ("a/wanted", BODY), mode="w:gz")
    entry = tarfile.TarInfo("a/wanted")
    entry.size, entry.type = (1 << 40, tarfile.REGTYPE) if kind == "claimed" else (200 << 20, tarfile.XHDTYPE)
    return entry.tobuf() + bytes(4096)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz", "before", "claimed", "header"])
def test_bomb(own_mirror: Path, kind: str, count_fault: Count) -> None:
    archive = bomb(kind)
    (own_mirror / "archive").write_bytes(archive)
    toy(archive).path.parent.mkdir(parents=True)
    begun = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(CorruptData, match=r"makes more than 4194304 bytes|not a sound archive"):
            sources._keep(toy(archive), own_mirror / "archive", "a/wanted", limit=4 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20
    assert time.monotonic() - begun < 5
    count_fault("archive bomb", "refused")


def test_swapped_and_oversized_files_in_the_mirror(own_mirror: Path, count_fault: Count) -> None:
    for content in (BODY[::-1], BODY * 50, b""):
        (own_mirror / "archive").write_bytes(content)
        with pytest.raises(CorruptData, match="replace it, or unset RUNNER_DATA_MIRROR") as told:
            sources.fetch(toy(BODY, member=None))
        assert sha256(content) in str(told.value)
        count_fault("mirror swapped", "refused")


def test_damaged_memory_of_a_hash_is_not_fatal(own_mirror: Path) -> None:
    (own_mirror / "archive").write_bytes(BODY)
    file = File(title="Toy", name="open", sha256=None, mirror=Mirror(path="archive", sha256=sha256(BODY)))
    path = sources.fetch(file)
    path.with_name("open.sha256").write_bytes(b"\xff\xfe\x00")
    assert sources.fetch(file).read_bytes() == BODY
    assert sources.cached(file) == path


def test_the_command_line_tells_in_one_line(own_mirror: Path, cli: Cli) -> None:
    (own_mirror / "graphs").mkdir()
    (own_mirror / "graphs/pyg_raw_Amazon.tar.xz").write_bytes(b"noise")
    verified = cli("data", "verify", "amazon_photo")
    assert (verified.status, verified.err.count("\n")) == (1, 1)
    assert "pyg_raw_Amazon.tar.xz: sha256 is" in verified.err
    run = cli("method=backprop", "dataset=amazon_photo", "limit=1")
    assert (run.status, run.err.count("\n")) == (1, 1)
    assert run.err.startswith("runner: ")
    assert "replace it" in run.err


CHILD = """
import os, resource, signal, sys
from runner.datasets import sources
from runner.datasets.sources import File, Mirror, NpmArchive
from runner.errors import RunnerError
file = {file!r}
{before}
try:
    print(sources.fetch(file))
except RunnerError as error:
    print("runner:", error, file=sys.stderr)
    sys.exit(error.exit_status)
"""


def in_child(file: File, before: str = "", prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
    script = CHILD.format(file=file, before=before)
    command = [*prefix, sys.executable, "-c", script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_full_disk(own_mirror: Path, empty_cache: Path, count_fault: Count) -> None:
    """A file may not grow beyond 2 kB: what a full disk or a quota does to a writer."""
    (own_mirror / "archive").write_bytes(BODY)
    file = toy(BODY, member=None)
    child = in_child(file, "resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))")
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "make room there, or set RUNNER_DATA" in err
    assert err.count("\n") == 1
    assert [path.name for path in file.path.parent.iterdir() if path.suffix != ".lock"] == []
    assert outcome(lambda: sources.fetch(file)) == "right"
    count_fault("full disk", "told")


def test_read_only_cache(own_mirror: Path, empty_cache: Path, count_fault: Count) -> None:
    (own_mirror / "archive").write_bytes(BODY)
    empty_cache.mkdir()
    prefix: list[str] = []
    if os.geteuid() == 0:  # whom no permission binds, unless it lets go of that
        prefix = ["setpriv", *(f"--{kind}=-dac_override,-dac_read_search" for kind in ("bounding-set", "inh-caps"))]
        if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
            pytest.skip("root here, and setpriv can't bind it")
    empty_cache.chmod(0o555)
    child = in_child(toy(BODY, member=None), prefix=prefix)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert str(empty_cache) in err
    assert "Permission denied" in err
    assert err.count("\n") == 1
    # What is there already is used.
    empty_cache.chmod(0o755)
    path = sources.fetch(toy(BODY, member=None))
    for folder in (path.parent, path.parents[1], empty_cache):
        folder.chmod(0o555)
    child = in_child(toy(BODY, member=None), prefix=prefix)
    assert child.communicate(timeout=60)[0].strip() == str(path)
    empty_cache.chmod(0o755)
    count_fault("read-only cache", "told")


def registry_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: bytes, script: str) -> File:
    """npm, as a script that notes each call."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "archive.tgz").write_bytes(archive)
    npm = tmp_path / "bin/npm"
    npm.write_text(f"#!/bin/sh\necho called >> '{tmp_path}/calls'\nsource='{tmp_path}/archive.tgz'\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    package = NpmArchive(package="toy", version="1", sha256=sha256(archive), size=1, member="a/wanted")
    return File(title="Toy", name="toy/wanted", sha256=sha256(BODY), package=package)


@pytest.mark.parametrize("processes", [2, 8])
def test_many_processes_fetch_once(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int, count_fault: Count
) -> None:
    slow = 'sleep 1; cp "$source" toy-1.tgz'
    file = registry_of(tmp_path, monkeypatch, ARCHIVES["tar.gz"], slow)
    children = [in_child(file) for _ in range(processes)]
    for child in children:
        out, err = child.communicate(timeout=120)
        assert (child.returncode, out.strip()) == (0, str(file.path)), err
    assert file.path.read_bytes() == BODY
    assert (tmp_path / "calls").read_text() == "called\n"
    count_fault(f"{processes} processes at once", "one fetch")


def test_many_processes_copy_from_the_mirror(own_mirror: Path, count_fault: Count) -> None:
    (own_mirror / "archive").write_bytes(BODY)
    children = [in_child(toy(BODY, member=None)) for _ in range(4)]
    assert [child.wait(timeout=120) for child in children] == [0] * 4
    assert toy(BODY).path.read_bytes() == BODY
    count_fault("4 processes at once", "right")


SLOW = "real = sources.members\ndef slow(*a):\n    for c in real(*a):\n        yield c[:99]\n        {kill}\n"
KILL = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize("moment", ["downloading", "unpacking"])
def test_killed_while_fetching(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, count_fault: Count
) -> None:
    half = 'head -c 99 "$source" > toy-1.tgz\nkill -KILL $PPID'
    whole = 'cp "$source" toy-1.tgz'
    file = registry_of(tmp_path, monkeypatch, ARCHIVES["tar.gz"], half if moment == "downloading" else whole)
    before = "" if moment == "downloading" else f"{SLOW.format(kill=KILL)}sources.members = slow"
    child = in_child(file, before)
    assert child.wait(timeout=60) == -signal.SIGKILL
    assert not file.path.exists()
    assert not (empty_cache / "archives/toy@1").exists() or moment == "unpacking"
    file = registry_of(tmp_path, monkeypatch, ARCHIVES["tar.gz"], whole)
    assert outcome(lambda: sources.fetch(file)) == "right"
    left = {path.name for path in empty_cache.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert left == {"wanted", "toy@1"}
    count_fault("killed while fetching", "right after repeat")


def test_unavailable_registry_is_told(empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = registry_of(tmp_path, monkeypatch, b"", "echo 'npm error network offline' >&2; exit 1")
    with pytest.raises(DataUnavailable, match="npm pack toy@1: npm error network offline") as told:
        sources.fetch(file)
    assert "\n" not in str(told.value)
