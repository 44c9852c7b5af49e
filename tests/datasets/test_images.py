"""Image sets: what is pinned is what is read; drawing, framing and scaling do what they say; batches are whole."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runner.contracts import ImageClassification
from runner.datasets import images, sources
from runner.datasets.image_tasks import proportional
from runner.datasets.sources import Status
from runner.errors import BadInput, CorruptData
from runner.methods.ops.minibatches import CROP, cropped_and_flipped, minibatches
from tests.datasets.test_recipes import composed, make

PINNED = ["mnist", "fashion_mnist", "cifar10_subset", "digits"]


def load(name: str, **overrides: Any) -> ImageClassification:
    dataset = make(composed(name, **overrides))
    if any(sources.status(file) in (Status.URL, Status.MISSING) for file in dataset.files()):  # type: ignore[arg-type]
        pytest.skip("not in the cache, and RUNNER_DATA_MIRROR does not have it")
    task = dataset.load("ImageClassification")
    assert isinstance(task, ImageClassification)
    return task


@pytest.mark.parametrize("name", PINNED)
def test_content_is_what_is_pinned(name: str) -> None:
    config = composed(name)
    task = load(name)
    assert (task.fingerprint, task.counts()) == (config["_fingerprint_"], config["_counts_"])
    for split in ("train", "val", "test"):
        x, y = task.part(split)  # type: ignore[arg-type]
        assert x.dtype == torch.float32
        assert y.dtype == torch.int64
        assert x.shape == (len(y), *task.shape)
        assert float(x.min()) == 0.0
        assert float(x.max()) == 1.0
        assert y.unique().tolist() == list(range(task.num_classes))
    assert len(task.train_y) + len(task.val_y) == task.published[0]


def test_the_fingerprint_does_not_hang_on_what_is_taken() -> None:
    task = load("digits", train_size=50, val_size=20, test_size=30, pool=2, draw=3, mean=[0.3], std=[0.4])
    assert task.fingerprint == composed("digits")["_fingerprint_"]
    assert [len(task.part(split)[1]) for split in ("train", "val", "test")] == [50, 20, 30]  # type: ignore[arg-type]
    assert task.shape == (1, 4, 4)
    assert torch.equal(task.low, torch.tensor([[[-0.3 / 0.4]]]))
    assert torch.equal(task.high, torch.tensor([[[0.7 / 0.4]]]))


def test_rows_of_a_cifar_archive(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (3, 2 + 3072), dtype=np.uint8)
    with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("cifar-100-binary/train.bin")
        member.size = rows.nbytes
        archive.addfile(member, io.BytesIO(rows.tobytes()))
    read = images.cifar_rows(tmp_path / "cifar.tar.gz", "cifar-100-binary/train.bin", 3, labels=2)
    assert np.array_equal(read, rows)
    pixels, labels = images._cifar_pair(read, labels=2)
    assert np.array_equal(labels, rows[:, 1]), "the finer of the two labels"
    assert np.array_equal(pixels[2, 1].flatten(), rows[2, 2 + 1024 : 2 + 2048])
    with pytest.raises(CorruptData, match=r"train\.bin has 9222 bytes"):
        images.cifar_rows(tmp_path / "cifar.tar.gz", "cifar-100-binary/train.bin", 4, labels=2)


def test_pad_pool_and_normalise() -> None:
    plain, framed = load("digits"), load("digits", pad=2, pool=2, mean=[0.5], std=[0.25])
    expected = torch.nn.functional.pad(plain.train_x, [2] * 4).unfold(2, 2, 2).unfold(3, 2, 2).mean((-2, -1))
    assert torch.allclose(framed.train_x, (expected - 0.5) / 0.25, atol=1e-5)


def test_draws_differ_and_splits_are_disjoint() -> None:
    one, other = load("digits", val_size=200), load("digits", val_size=200, draw=1)
    assert not set(one.train_index.tolist()) & set(one.val_index.tolist())
    assert not torch.equal(one.val_index, other.val_index)
    assert torch.equal(one.test_x, other.test_x)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"train_size": 1500}, "train_size"),
        ({"val_size": 1400}, "train_size"),
        ({"test_size": 398}, "test_size"),
        ({"mean": [0.1, 0.2]}, "mean"),
    ],
)
def test_what_cannot_be_taken_is_told(overrides: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        load("digits", **overrides)


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=200), seed=st.integers(0, 1000))
def test_every_stretch_holds_the_classes_in_proportion(labels: list[int], seed: int) -> None:
    y = np.array(labels)
    order = proportional(y, seed)
    assert sorted(order.tolist()) == list(range(len(y)))
    for length in range(len(y) + 1):
        counts = np.bincount(y[order[:length]], minlength=5)
        assert (np.abs(counts - length * np.bincount(y, minlength=5) / len(y)) <= 2.5).all()


@pytest.mark.parametrize("damage", ["short", "magic", "gzip"])
def test_a_damaged_idx_file_is_told(damage: str, tmp_path: Path) -> None:
    sound = b"\x00\x00\x08\x01" + (5).to_bytes(4, "big") + bytes(5)
    content = {"short": sound[:-1], "magic": b"\x00\x00\x0d" + sound[3:], "gzip": sound}[damage]
    file = tmp_path / "labels.gz"
    file.write_bytes(content if damage == "gzip" else gzip.compress(content))
    with pytest.raises(CorruptData, match="remove it"):
        images._idx(file)


def test_own_images(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (30, 5, 6, 3), np.uint8)
    labels = np.arange(30) % 3
    np.savez(tmp_path / "own.npz", x_train=pixels, y_train=labels, x_test=pixels[:6], y_test=labels[:6])
    task = load("image_file", path=str(tmp_path / "own.npz"), val_size=9)
    assert task.shape == (3, 5, 6)
    assert [len(task.part(split)[1]) for split in ("train", "val", "test")] == [21, 9, 6]  # type: ignore[arg-type]
    assert torch.allclose(task.test_x[0], torch.from_numpy(pixels[0].transpose(2, 0, 1) / 255).float())


@pytest.mark.parametrize("wrong", ["missing", "float", "labels", "absent"])
def test_own_images_that_are_none_are_told(wrong: str, tmp_path: Path) -> None:
    arrays: dict[str, Any] = {f"x_{part}": np.zeros((4, 3, 3), np.uint8) for part in ("train", "test")}
    arrays |= {f"y_{part}": np.zeros(4, np.uint8) for part in ("train", "test")}
    if wrong == "missing":
        del arrays["y_test"]
    elif wrong == "float":
        arrays["x_train"] = arrays["x_train"].astype(float)
    elif wrong == "labels":
        arrays["y_train"] = arrays["y_train"][:2]
    if wrong != "absent":
        np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(BadInput, match=r"own\.npz"):
        load("image_file", path=str(tmp_path / "own.npz"))


def test_a_batch_is_every_image_once() -> None:
    task = load("digits", train_size=100)
    seen = torch.cat([x for x, _ in minibatches(task, 32, torch.Generator().manual_seed(0))])
    assert sorted(map(tuple, seen.flatten(1).tolist())) == sorted(map(tuple, task.train_x.flatten(1).tolist()))
    sizes = [len(y) for _, y in minibatches(task, 32, torch.Generator(), drop_last=True)]
    assert sizes == [32, 32, 32]


def test_augmentation_is_a_crop_of_the_padded_image_or_its_mirror() -> None:
    x = torch.rand(20, 3, 7, 9)
    black = torch.tensor([-1.0, -2.0, 0.5]).reshape(3, 1, 1)
    changed = cropped_and_flipped(x, black, torch.Generator().manual_seed(1))
    mirrored = 0
    for before, after in zip(x, changed, strict=True):
        padded = black.expand(3, 7 + 2 * CROP, 9 + 2 * CROP).clone()
        padded[:, CROP:-CROP, CROP:-CROP] = before
        crops = [padded[:, i : i + 7, j : j + 9] for i in range(2 * CROP + 1) for j in range(2 * CROP + 1)]
        plain = any(torch.allclose(crop, after, atol=1e-6) for crop in crops)
        flipped = any(torch.allclose(crop.flip(-1), after, atol=1e-6) for crop in crops)
        assert plain or flipped
        mirrored += flipped
    assert 3 < mirrored < 17
