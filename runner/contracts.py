"""What the runner, methods and datasets expect of one another.

A dataset hands over a *task*; a method is built for the task, fitted and evaluated; the *run* is the
only thing a method knows of the outside (``runner.run.Run``).
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from runner.run import Run


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a dataset hands over. A subclass per kind of problem; its name is what ``_tasks_`` lists in YAML."""

    name: str
    """The dataset's own name."""
    fingerprint: str
    """SHA-256 (hex) of the content as published, before any preprocessing; see ``runner.fingerprint``."""

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Self:
        """The same task with all tensors on ``device`` and all floating-point ones of type ``dtype``."""
        moved: dict[str, Any] = {
            field.name: value.to(device, dtype if value.is_floating_point() else value.dtype)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return dataclasses.replace(self, **moved)

    def splits(self) -> dict[str, Tensor]:
        """Index tensors (int64) by split name, recorded with every run. Empty where there is none."""
        return {}

    def sample(self) -> Tensor | None:
        """One input [1, …] as a network takes it, for modelled hardware; None where a network takes more than that."""
        return None

    def counts(self) -> dict[str, int]:
        """Sizes that papers publish (nodes, edges, …), checked by ``runner data verify``."""
        return {}


@dataclass(frozen=True, kw_only=True)
class NodeClassification(Task):
    """One graph whose nodes carry classes (N nodes, E directed edges, F features, C classes)."""

    x: Tensor
    """Node features [N, F], float32."""
    edge_index: Tensor
    """[2, E], int64, row 0 source and row 1 target; sorted by (source, target), no duplicates."""
    y: Tensor
    """Classes [N], int64, in 0..C-1."""
    num_classes: int
    train: Tensor
    """Indices of training nodes, int64, sorted; likewise ``val`` and ``test``. They are disjoint."""
    val: Tensor
    test: Tensor

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.x.shape[0]

    @property
    def num_features(self) -> int:
        """F."""
        return self.x.shape[1]

    def splits(self) -> dict[str, Tensor]:
        """Train, val and test nodes."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def counts(self) -> dict[str, int]:
        """N, E, F and C."""
        return {
            "nodes": self.num_nodes,
            "edges": self.edge_index.shape[1],
            "features": self.num_features,
            "classes": self.num_classes,
        }


LinkSplit = Literal["train", "val", "test"]


@dataclass(frozen=True, kw_only=True)
class LinkPrediction(Task):
    """One undirected graph, some of whose edges are hidden and are to be told from pairs without an edge.

    N nodes, E directed edges in all, F features; P positive and Q negative pairs in a split. A pair is
    two nodes in either order; every undirected edge of the graph is a positive pair of one split, once.
    Negative pairs, (i, j) with i != j and no edge, are drawn once with the split.
    """

    x: Tensor
    """Node features [N, F], float32."""
    train_edge_index: Tensor
    """Edges that carry messages while training and validating: the training ones, in both directions.

    [2, E_train], int64, row 0 source and row 1 target; sorted by (source, target), no duplicates.
    """
    test_edge_index: Tensor
    """Edges that carry messages in the test: the training and validation ones, likewise."""
    train_pos: Tensor
    """Positive pairs [2, P], int64; likewise those of ``val`` and ``test``, and the negative ones [2, Q]."""
    train_neg: Tensor
    val_pos: Tensor
    val_neg: Tensor
    test_pos: Tensor
    test_neg: Tensor

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.x.shape[0]

    @property
    def num_features(self) -> int:
        """F."""
        return self.x.shape[1]

    def message_edges(self, split: LinkSplit) -> Tensor:
        """The edges that may carry messages where the pairs of ``split`` are judged: [2, …], both directions."""
        return self.test_edge_index if split == "test" else self.train_edge_index

    def positives(self, split: LinkSplit) -> Tensor:
        """Pairs with an edge [2, P]."""
        return {"train": self.train_pos, "val": self.val_pos, "test": self.test_pos}[split]

    def negatives(self, split: LinkSplit) -> Tensor:
        """Pairs without an edge [2, Q]."""
        return {"train": self.train_neg, "val": self.val_neg, "test": self.test_neg}[split]

    def pairs(self, split: LinkSplit) -> Tensor:
        """All pairs of a split [2, P + Q], the positive ones first."""
        return torch.cat([self.positives(split), self.negatives(split)], dim=1)

    def labels(self, split: LinkSplit) -> Tensor:
        """For each of ``pairs``: 1 with an edge, 0 without; [P + Q], of the type of ``x``."""
        positive, negative = self.positives(split), self.negatives(split)
        return torch.cat([self.x.new_ones(positive.shape[1]), self.x.new_zeros(negative.shape[1])])

    def splits(self) -> dict[str, Tensor]:
        """The positive and negative pairs of train, val and test; the message edges follow from them."""
        names = ("train_pos", "train_neg", "val_pos", "val_neg", "test_pos", "test_neg")
        return {name: getattr(self, name) for name in names}

    def counts(self) -> dict[str, int]:
        """N, E (hidden edges too) and F."""
        edges = self.test_edge_index.shape[1] + 2 * self.test_pos.shape[1]
        return {"nodes": self.num_nodes, "edges": edges, "features": self.num_features}


@dataclass(frozen=True, kw_only=True)
class GraphClassification(Task):
    """Many graphs, each with a class (G graphs; N nodes, E directed edges in all; F features, C classes).

    The graphs lie one after the other: a graph's nodes have consecutive numbers, and no edge leaves it.
    """

    x: Tensor
    """Node features [N, F], float32."""
    edge_index: Tensor
    """[2, E], int64, row 0 source and row 1 target; sorted by (source, target), no duplicates."""
    graph_of: Tensor
    """Each node's graph [N], int64, in 0..G-1, in ascending order; no graph is empty."""
    y: Tensor
    """The graphs' classes [G], int64, in 0..C-1."""
    num_classes: int
    train: Tensor
    """Indices of training graphs, int64, sorted; likewise ``val``, which may be empty, and ``test``."""
    val: Tensor
    test: Tensor

    @property
    def num_features(self) -> int:
        """F."""
        return self.x.shape[1]

    def splits(self) -> dict[str, Tensor]:
        """Train, val and test graphs."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def counts(self) -> dict[str, int]:
        """G, N, E and C."""
        return {
            "graphs": len(self.y),
            "nodes": self.x.shape[0],
            "edges": self.edge_index.shape[1],
            "classes": self.num_classes,
        }


@dataclass(frozen=True, kw_only=True)
class KnowledgeGraphCompletion(Task):
    """Facts (head, relation, tail), some of them hidden: which entity completes (h, r, ?), and which (?, r, t)?

    N entities, R relations, T triples of a set. Training and validation ask about one graph. The test asks about the
    same one, or (``inductive``) about a graph of other entities with the same relations, whose own facts are given
    in the test only.
    """

    entities: tuple[str, ...]
    """Names of the N entities of training and validation, by number; likewise ``relations``."""
    relations: tuple[str, ...]
    train: Tensor
    """Triples [T, 3], int64, sorted: head, relation, tail. They are facts, and the questions of training."""
    val: Tensor
    """Questions of validation [T, 3], likewise."""
    test: Tensor
    """Questions of the test, numbered by ``test_entities``."""
    inductive: bool
    test_entities: tuple[str, ...]
    """Those of the graph that the test is about."""
    test_facts: Tensor
    """Its facts [T, 3]: the training ones, unless inductive."""

    def facts(self, split: LinkSplit) -> Tensor:
        """What may be seen where questions of ``split`` are answered [T, 3]."""
        return self.test_facts if split == "test" else self.train

    def questions(self, split: LinkSplit) -> Tensor:
        """Its triples [T, 3], each of which asks for its tail and for its head."""
        return {"train": self.train, "val": self.val, "test": self.test}[split]

    def known(self, split: LinkSplit) -> Tensor:
        """Triples that are no wrong answers [T, 3] beside the asked one: all of them, or (inductive) the facts."""
        return self.facts(split) if self.inductive else torch.cat([self.train, self.val, self.test])

    def names(self, split: LinkSplit) -> tuple[str, ...]:
        """Of the entities, by number."""
        return self.test_entities if split == "test" else self.entities

    def counts(self) -> dict[str, int]:
        """N, R and the sizes of the sets; of the test's own graph where it has one."""
        sizes = {name: len(self.questions(name)) for name in ("train", "val", "test")}
        own = {"test_entities": len(self.test_entities), "test_facts": len(self.test_facts)} if self.inductive else {}
        return {"entities": len(self.entities), "relations": len(self.relations), **sizes, **own}


@dataclass(frozen=True, kw_only=True)
class PairClassification(Task):
    """One directed graph, ordered pairs of whose nodes carry classes (N nodes, E edges, F features, C classes).

    What is asked of a pair is the dataset's to say: which way its edge goes, whether there is one.
    """

    x: Tensor
    """Node features [N, F], float32."""
    edge_index: Tensor
    """The observed edges [2, E], int64, row 0 source and row 1 target: no edge of a val or test pair is among them."""
    num_classes: int
    train_pairs: Tensor
    """Pairs of nodes [2, P], int64, and their classes [P], int64, in 0..C-1; likewise ``val`` and ``test``."""
    train_y: Tensor
    val_pairs: Tensor
    val_y: Tensor
    test_pairs: Tensor
    test_y: Tensor
    published_edges: int
    """Edges of the whole graph."""

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.x.shape[0]

    @property
    def num_features(self) -> int:
        """F."""
        return self.x.shape[1]

    def part(self, split: LinkSplit) -> tuple[Tensor, Tensor]:
        """Pairs and classes of a split."""
        return getattr(self, f"{split}_pairs"), getattr(self, f"{split}_y")

    def splits(self) -> dict[str, Tensor]:
        """The pairs of train, val and test."""
        return {split: self.part(split)[0] for split in ("train", "val", "test")}

    def counts(self) -> dict[str, int]:
        """N and the edges of the whole graph."""
        return {"nodes": self.num_nodes, "edges": self.published_edges}


ImageSplit = Literal["train", "val", "test"]


@dataclass(frozen=True, kw_only=True)
class ImageClassification(Task):
    """Images with classes (n images of a split, C channels, H x W pixels, K classes)."""

    train_x: Tensor
    """Training images [n, C, H, W], float32, scaled and normalised as the dataset's YAML says."""
    train_y: Tensor
    """Their classes [n], int64, in 0..K-1. Likewise ``val`` and ``test``; ``val`` may be empty."""
    val_x: Tensor
    val_y: Tensor
    test_x: Tensor
    test_y: Tensor
    train_index: Tensor
    """Places [n] of the training images in the published training set, int64, sorted; likewise ``val_index``."""
    val_index: Tensor
    num_classes: int
    published: tuple[int, int]
    """Images of the published training and test set."""
    low: Tensor
    """What a pixel of value 0 became, [C, 1, 1]; ``high``: one of the largest value. Attacks stay within."""
    high: Tensor
    augmentation: Literal["none", "crop_flip"] = "none"
    """What a method does to training images, drawn anew for every batch (``runner.methods.ops.minibatches``)."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.train_x.shape[1:]
        return channels, height, width

    def part(self, split: ImageSplit) -> tuple[Tensor, Tensor]:
        """Images and classes of a split."""
        return getattr(self, f"{split}_x"), getattr(self, f"{split}_y")

    def sample(self) -> Tensor:
        """The first training image."""
        return self.train_x[:1]

    def splits(self) -> dict[str, Tensor]:
        """Training and validation images, by their places in the published training set."""
        return {"train": self.train_index, "val": self.val_index}

    def counts(self) -> dict[str, int]:
        """Images of both published sets, and K."""
        return {"train": self.published[0], "test": self.published[1], "classes": self.num_classes}


@dataclass(frozen=True, kw_only=True)
class ForceField(Task):
    """Frames of one molecule's beads with the forces on them, and what is known of its potential beforehand.

    S frames, N beads; b bonds, a angles, d dihedrals with n harmonics, p repelling pairs, c native contacts. Lengths
    are in A, angles in rad, energies in kcal/mol, masses in amu; floating-point tensors are float32. The prior is

        sum_bonds k/2 (r - r_0)^2 + sum_angles k/2 (theta - theta_0)^2 + sum_pairs (sigma / r)^6
        + sum_dihedrals sum_h (s_h sin h phi + c_h cos h phi),  h = 1..n.
    """

    positions: Tensor
    """[S, N, 3]."""
    energies: Tensor
    """[S]; empty where they aren't known: forces that average over what isn't shown have no energy beside them."""
    forces: Tensor
    """[S, N, 3], kcal/mol/A."""
    types: Tensor
    """Kinds of beads [N], int64, in 0..num_types-1."""
    num_types: int
    masses: Tensor
    """[N]."""
    bonds: Tensor
    """Beads [b, 2], int64; likewise ``angles`` [a, 3], with the corner in the middle, and ``dihedrals`` [d, 4]."""
    bond_lengths: Tensor
    """r_0 [b]."""
    bond_stiffness: Tensor
    """k [b], kcal/mol/A^2."""
    angles: Tensor
    angle_values: Tensor
    """theta_0 [a]."""
    angle_stiffness: Tensor
    """k [a], kcal/mol/rad^2."""
    dihedrals: Tensor
    dihedral_sin: Tensor
    """s [d, n]."""
    dihedral_cos: Tensor
    """c [d, n]."""
    repulsions: Tensor
    """Pairs of beads [p, 2], int64."""
    repulsion_ranges: Tensor
    """sigma [p]."""
    contacts: Tensor
    """Pairs of beads that touch in the folded target [c, 2], int64; none where there is no target."""
    contact_lengths: Tensor
    """Their distances there [c]."""
    beta: float
    """1 / kT at which the frames were drawn, mol/kcal."""
    train: Tensor
    """Indices of training frames, int64, sorted; likewise ``val`` and ``test``. They are disjoint."""
    val: Tensor
    test: Tensor

    def splits(self) -> dict[str, Tensor]:
        """Train, val and test frames."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def counts(self) -> dict[str, int]:
        """S and N."""
        return {"frames": self.positions.shape[0], "beads": self.positions.shape[1]}


@dataclass(frozen=True, kw_only=True)
class Workload(Task):
    """Only the sizes of a network's input and output: what modelled hardware needs to tell a network's cost."""

    input_shape: tuple[int, ...]
    """Of one sample, channels first."""
    num_classes: int

    def sample(self) -> Tensor:
        """Zeros [1, *input_shape]."""
        return torch.zeros(1, *self.input_shape)

    def counts(self) -> dict[str, int]:
        """Numbers of a sample, and K."""
        return {"inputs": math.prod(self.input_shape), "classes": self.num_classes}


TaskKind = TypeVar("TaskKind", bound=Task)


class RawFile(Protocol):
    """A recipe for one file."""

    @property
    def title(self) -> str:
        """What a user calls it."""

    @property
    def path(self) -> Path:
        """Where it lies once it is had."""

    def status(self) -> str:
        """here | mirror | fetchable | url | missing, by a look at names only."""

    def fetch(self) -> Path:
        """The verified local file, fetched first where it is needed."""


class Dataset(ABC):
    """A source of tasks. Constructor: keyword-only arguments, the keys of its YAML, without defaults."""

    def files(self) -> Sequence[RawFile]:
        """The raw files that ``load`` reads, for ``runner data``; empty where a library fetches its own."""
        return ()

    @abstractmethod
    def load(self, task: str) -> Task:
        """Hand over the task of kind ``task`` (one of the YAML's ``_tasks_``).

        Raises:
            runner.errors.DataUnavailable: the genuine data can't be had here.
            runner.errors.CorruptData: files or content differ from what the recipe pins.
        """


class Together(ABC):
    """Several runs of one method, trained in turns; each by its number in the lists that ``Method.together`` got."""

    @abstractmethod
    def fit(self, number: int) -> Iterator[None]:
        """Train one run, as ``Method.fit`` does, with ``run.epochs``, ``run.log`` and a stop of its own.

        It yields wherever its next step is made with the others'. What it raises is this run's failure alone. Between
        its turns the process's random numbers are nobody's: it draws from ``run.draws`` and ``run.generator``.
        """

    @abstractmethod
    def step(self, numbers: Sequence[int]) -> None:
        """Make the step that these runs wait for: those that have yielded, not those that have ended."""


class Method(ABC, Generic[TaskKind]):
    """A learning procedure for one kind of task.

    Constructor: keyword-only arguments, the keys of its YAML, without defaults.

    ``build`` sets ``self.model``, whose ``state_dict`` is the run's checkpoint: all that ``evaluate``
    needs beside the task. A method with loops of its own writes them with ``run.epochs``.
    """

    model: nn.Module

    @abstractmethod
    def build(self, task: TaskKind, run: Run) -> None:
        """Make ``self.model`` for ``task``; random numbers come from torch's global generator, which is seeded."""

    @abstractmethod
    def fit(self, task: TaskKind, run: Run) -> None:
        """Train ``self.model``."""

    @classmethod
    def together(cls, methods: Sequence[Self], tasks: Sequence[TaskKind], runs: Sequence[Run]) -> Together | str:
        """How runs that differ in nothing but their seed are trained in one pass, or why they can't be.

        An optional ability, for ``seeds_at_once``; each run must end as ``fit`` would have ended it.

        Args:
            methods: built, one a run.
            tasks: theirs; a split may follow from the seed, and so may all else.
            runs: theirs.
        """
        return "the method trains its runs one by one"

    @abstractmethod
    def evaluate(self, task: TaskKind, run: Run) -> dict[str, float]:
        """Metrics of ``self.model`` as built and loaded from a checkpoint: must not need ``fit``."""


class Backbone(ABC):
    """A network architecture: an ordered list of blocks, each buildable with given widths."""

    num_layers: int
    hidden_channels: int
    takes_images: ClassVar[bool] = False
    """Whether ``network``'s ``in_channels`` counts an image's channels; if not, all of its pixels."""

    @abstractmethod
    def block(self, in_channels: int, out_channels: int, *, head: bool = False) -> nn.Module:
        """One block; ``head`` marks the block that gives a network's output (GAT averages its heads there)."""

    @abstractmethod
    def network(self, in_channels: int, out_channels: int) -> nn.Module:
        """All blocks, with what stands between them; ``forward(x, graph)``."""

    def initialise(self, model: nn.Module, task: Task) -> None:  # noqa: B027
        """Give the blocks of a built network other initial weights than their own; called once, after ``build``.

        Args:
            model: a method's ``model``, whose blocks came from ``block`` or ``network``; changed in place.
            task: what it will be trained on.
        """
