"""Sets of labelled images: MNIST, Fashion-MNIST, CIFAR-10 and a subset of it, CIFAR-100, digits, a user's own file."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner import fingerprint
from runner.contracts import ImageClassification
from runner.datasets import array_files, sources
from runner.datasets.archives import TooLongError, members
from runner.datasets.image_tasks import Images, Labelled, proportional
from runner.errors import BadInput, CorruptData
from runner.types import PositiveInt

ARRAYS = ("x_train", "y_train", "x_test", "y_test")

MNIST_FILE = sources.File(
    title="MNIST",
    name="mnist/mnist.npz",
    sha256="06af5dfe73b70e3bc1c36439982b18a8d76803db9b544f6fdf838a37fbb01b64",
    mirror=sources.Mirror(
        path="images/mnist.npz", sha256="06af5dfe73b70e3bc1c36439982b18a8d76803db9b544f6fdf838a37fbb01b64"
    ),
    url=sources.Url(address="https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz", verbatim=False),
)


@dataclass(kw_only=True)
class Mnist(Images):
    """Handwritten digits, 28 x 28 grey pixels, 60 000 and 10 000 (LeCun et al. 1998)."""

    def files(self) -> list[sources.File]:
        """The raw file: an ``.npz`` of x_train, y_train, x_test and y_test."""
        return [MNIST_FILE]

    def load(self, task: str) -> ImageClassification:
        """The task; errors as in :func:`runner.datasets.sources.fetch`."""
        path = sources.fetch(MNIST_FILE)
        try:
            return self.task("MNIST", *_labelled(path))
        except ValueError as error:
            raise CorruptData(f"{path}: {error}; remove it to fetch it again") from error


def _fashion(name: str) -> sources.File:
    return sources.File(
        title="Fashion-MNIST",
        name=f"fashion-mnist/{name}",
        sha256=None,
        package=sources.DebianArchive(
            package="dataset-fashion-mnist",
            version="0.0~git20200523.55506a9-1",
            sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
            size=30_900_652,
            member=f"/usr/share/datasets/fashion-mnist/{name}",
        ),
        url=sources.Url(address=f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{name}", verbatim=False),
    )


@dataclass(kw_only=True)
class FashionMnist(Images):
    """Articles of clothing, 28 x 28 grey pixels, 60 000 and 10 000 (Xiao, Rasul & Vollgraf 2017)."""

    def files(self) -> list[sources.File]:
        """The four idx files, gzipped; packages and the original differ in their compression only."""
        return [
            _fashion(f"{part}-{kind}-ubyte.gz") for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
        ]

    def load(self, task: str) -> ImageClassification:
        """The task; errors as in :func:`runner.datasets.sources.fetch`."""
        train_x, train_y, test_x, test_y = (_idx(sources.fetch(file)) for file in self.files())
        return self.task("FashionMNIST", _pair(train_x, train_y), _pair(test_x, test_y))


CIFAR10_SUBSET = sources.File(
    title="CIFAR-10, a subset",
    name="cifar10-subset/cifar10_subset.zip",
    sha256="73afcede6499d28358cc63456e5f475fd5e6f8cfc6d8390b9488da18d44da9cd",
    mirror=sources.Mirror(
        path="images/cifar10_subset.zip",
        sha256="73afcede6499d28358cc63456e5f475fd5e6f8cfc6d8390b9488da18d44da9cd",
    ),
)


@dataclass(kw_only=True)
class Cifar10Subset(Images):
    """A genuine part of CIFAR-10: 8 000 of its training and 2 000 of its test images, balanced, 32 x 32 RGB."""

    def files(self) -> list[sources.File]:
        """One zip of PNG files, ``train/<class>/…`` and ``test/<class>/…``."""
        return [CIFAR10_SUBSET]

    def load(self, task: str) -> ImageClassification:
        """Images in the order of their paths; errors as in :func:`runner.datasets.sources.fetch`."""
        path = sources.fetch(CIFAR10_SUBSET)
        try:
            with zipfile.ZipFile(path) as archive:
                parts = {part: _folder(archive, part) for part in ("train", "test")}
        except (zipfile.BadZipFile, zlib.error, OSError, ValueError) as error:
            raise CorruptData(f"{path}: {error}; remove it to fetch it again") from error
        return self.task("CIFAR-10 (subset)", parts["train"], parts["test"])


CIFAR10_FILE = sources.File(
    title="CIFAR-10",
    name="cifar10/cifar-10-binary.tar.gz",
    sha256=None,
    url=sources.Url(address="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", verbatim=False),
)
CIFAR100_FILE = sources.File(
    title="CIFAR-100",
    name="cifar100/cifar-100-binary.tar.gz",
    sha256=None,
    url=sources.Url(address="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", verbatim=False),
)
_CIFAR_PIXELS = 3 * 32 * 32


@dataclass(kw_only=True)
class Cifar10(Images):
    """Photographs of ten kinds of things, 32 x 32 RGB, 50 000 and 10 000 (Krizhevsky 2009)."""

    def files(self) -> list[sources.File]:
        """The published archive, binary version: per image a byte for its class, then red, green and blue pixels."""
        return [CIFAR10_FILE]

    def load(self, task: str) -> ImageClassification:
        """The task; errors as in :func:`runner.datasets.sources.fetch`."""
        path = sources.fetch(CIFAR10_FILE)
        names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
        *train, test = (cifar_rows(path, f"cifar-10-batches-bin/{name}.bin", 10_000, labels=1) for name in names)
        return self.task("CIFAR-10", *(_cifar_pair(rows, labels=1) for rows in (np.concatenate(train), test)))


@dataclass(kw_only=True)
class Cifar100(Images):
    """Photographs of a hundred kinds of things, 32 x 32 RGB, 50 000 and 10 000 (Krizhevsky 2009)."""

    def files(self) -> list[sources.File]:
        """The published archive, binary version: per image its superclass, its class, and its pixels."""
        return [CIFAR100_FILE]

    def load(self, task: str) -> ImageClassification:
        """The task, of the hundred classes; errors as in :func:`runner.datasets.sources.fetch`."""
        path = sources.fetch(CIFAR100_FILE)
        sizes = {"train": 50_000, "test": 10_000}
        parts = [cifar_rows(path, f"cifar-100-binary/{name}.bin", size, labels=2) for name, size in sizes.items()]
        return self.task("CIFAR-100", *(_cifar_pair(rows, labels=2) for rows in parts))


def cifar_rows(path: Path, name: str, count: int, labels: int) -> NDArray[np.uint8]:
    """Rows [count, labels + 3072] of one file of a CIFAR archive.

    Raises:
        CorruptData: it has another length.
    """
    expected = count * (labels + _CIFAR_PIXELS)
    try:
        content = b"".join(members(path, name, limit=10 * expected))
    except TooLongError as error:
        raise CorruptData(f"{path}: longer than CIFAR; remove it to fetch it again") from error
    if len(content) != expected:
        raise CorruptData(f"{path}: {name} has {len(content)} bytes, not {expected}; remove it to fetch it again")
    return np.frombuffer(content, np.uint8).reshape(count, -1)


def _cifar_pair(rows: NDArray[np.uint8], labels: int) -> Labelled:
    """Pixels, and the last label of each row."""
    return _pair(rows[:, labels:].reshape(-1, 3, 32, 32), rows[:, labels - 1])


USUAL_TEST_IMAGES = 397
"""Of digits; its fingerprint is of this split, whichever is asked for."""


@dataclass(kw_only=True)
class Digits(Images):
    """1797 handwritten digits of 8 x 8 pixels in 0..16, as scikit-learn ships them.

    A split was not published with them: the test images are drawn class by class, always the same; more of them hold
    the fewer.
    """

    test_images: PositiveInt
    """How many test images are drawn, below 1797; the others are the training set."""

    def load(self, task: str) -> ImageClassification:
        """The task; nothing is fetched."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        pixels, labels = bunch.images[:, None].astype(np.uint8), bunch.target.astype(np.int64)
        if self.test_images >= len(labels):
            raise BadInput(f"dataset.test_images={self.test_images}: there are {len(labels)} images in all")
        order = proportional(labels, seed=0)
        usual, asked = (np.split(order, [count]) for count in (USUAL_TEST_IMAGES, self.test_images))
        content = fingerprint.of_images(
            **{part: (pixels[i], labels[i]) for part, i in zip(("test", "train"), usual, strict=True)}
        )
        (test_x, test_y), (train_x, train_y) = ((pixels[index], labels[index]) for index in asked)
        return self.task("digits", (train_x, train_y), (test_x, test_y), largest=16, content=content)


@dataclass(kw_only=True)
class ImageFile(Images):
    """A user's own images: an ``.npz`` of x_train, y_train, x_test and y_test.

    Pixels are uint8, [n, H, W], [n, C, H, W] or [n, H, W, C] with C of 1 or 3; classes are integers from 0.
    """

    path: str

    def load(self, task: str) -> ImageClassification:
        """The task.

        Raises:
            BadInput: the file is missing, unreadable, or its arrays are no labelled images.
        """
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise BadInput(f"dataset.path: no file {path}")
        try:
            return self.task(path.stem, *_labelled(path))
        except CorruptData as error:
            raise BadInput(str(error)) from error
        except ValueError as error:
            raise BadInput(f"{path}: {error}") from error


def _labelled(path: Path) -> tuple[Labelled, Labelled]:
    """Training and test set of an ``.npz``.

    Raises:
        CorruptData: it can't be read, or lacks an array.
        ValueError: its arrays are no labelled images.
    """
    stored = array_files.read_npz(path)
    missing = [name for name in ARRAYS if name not in stored]
    if missing:
        raise CorruptData(f"{path}: has no array {missing[0]}; {', '.join(ARRAYS)} are expected")
    arrays = [stored[name] for name in ARRAYS]
    return _pair(*arrays[:2]), _pair(*arrays[2:])


def _pair(pixels: NDArray[Any], labels: NDArray[Any]) -> Labelled:
    """Pixels as [n, C, H, W] and classes as int64; ValueError says what is wrong with them."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4):
        raise ValueError(f"images are {pixels.dtype} {list(pixels.shape)}, expected uint8 [n, H, W] or [n, C, H, W]")
    if labels.shape != pixels.shape[:1] or labels.dtype.kind not in "iu" or not len(labels) or labels.min() < 0:
        raise ValueError(f"{len(pixels)} images need as many classes, integers from 0")
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.shape[1] not in (1, 3) and pixels.shape[3] in (1, 3):
        pixels = pixels.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels), labels.astype(np.int64)


def _idx(path: Path) -> NDArray[np.uint8]:
    """The array of a gzipped idx file of bytes: two zero bytes, type 8, the number of dimensions, big-endian sizes."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptData(f"{path}: not a sound gzip file ({error}); remove it to fetch it again") from error
    dimensions = content[3] if content[:3] == b"\x00\x00\x08" and len(content) > 3 else 0
    header = 4 + 4 * dimensions
    shape = np.frombuffer(content[4:header], ">i4") if dimensions else np.zeros(0, ">i4")
    if not dimensions or len(shape) != dimensions or int(np.prod(shape, dtype=np.int64)) != len(content) - header:
        raise CorruptData(f"{path}: not an idx file of bytes; remove it to fetch it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _folder(archive: zipfile.ZipFile, part: str) -> Labelled:
    """Images of ``part/<class>/<name>.png``; classes in alphabetical order, which is CIFAR's own."""
    from PIL import Image

    names = sorted(name for name in archive.namelist() if name.startswith(f"{part}/") and name.endswith(".png"))
    classes = sorted({name.split("/")[1] for name in names})
    pixels = np.empty((len(names), 32, 32, 3), np.uint8)
    for place, name in enumerate(names):
        with Image.open(io.BytesIO(archive.read(name)), formats=["PNG"]) as image:
            pixels[place] = np.asarray(image.convert("RGB"))
    labels = np.array([classes.index(name.split("/")[1]) for name in names], np.int64)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)), labels
