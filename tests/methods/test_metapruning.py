"""Networks as graphs, metanetworks over them, and pruning by groups of channels."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from runner.compose import compose
from runner.contracts import ImageClassification
from runner.datasets.images import Digits
from runner.errors import BadInput
from runner.identity import Identity
from runner.methods.models.conv_norm import NormedConvolutions
from runner.methods.models.resnet_cifar import ResNetCifar
from runner.methods.pruning import weight_masks
from runner.methods.pruning.channel_groups import GROUP_L2, ChannelGroups, Criterion, coefficients, costs, spread
from runner.methods.pruning.channel_pruning import Pruned, Schedule, compacted
from runner.methods.pruning.meta_training import MetaTraining, Subject
from runner.methods.pruning.metanetwork import EPSILON, Ends, Layer, Metanetwork
from runner.methods.pruning.network_graph import NetworkGraph
from runner.methods.pruning.training import Recipe
from runner.store.records import Record, Records
from runner.stored import identify_run
from tests.conftest import Result

Cli = Callable[..., Result]


class Grouped(nn.Module):
    """A grouped convolution between two others."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 12, 3, padding=1, groups=4, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.second(torch.relu(self.first(x)))))
        return self.head(h.mean((2, 3)))


def networks() -> dict[str, tuple[nn.Module, Tensor]]:
    """With weights and statistics as training may leave them, and four inputs."""
    torch.manual_seed(1)
    images = torch.randn(4, 3, 8, 8)
    found = {
        "mlp": (
            nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 5)),
            images,
        ),
        "vgg": (vgg().network(3, 5), images),
        "residual": (ResNetCifar(widths=[4, 6], blocks=2).network(3, 5), images),
        "grouped": (Grouped(), images),
    }
    for network, _ in found.values():
        randomised(network)
    return found


def vgg(bias: bool = True) -> NormedConvolutions:
    return NormedConvolutions(channels=[5, 6, 7], strides=[1, 1, 2], pools=[2], bias=bias, init="default")


@torch.no_grad()
def randomised(network: nn.Module) -> nn.Module:
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5 if name.endswith("running_var") else torch.randn_like(value) * 0.4)
    return network.eval()


NAMES = list(networks())
PRUNABLE = [name for name in NAMES if name != "grouped"]


# The graph


@pytest.mark.parametrize("name", NAMES)
def test_the_way_to_the_graph_and_back_is_exact(name: str) -> None:
    network, x = networks()[name]
    graph = NetworkGraph(network)
    nodes, edges = graph.features()
    assert nodes.shape == (graph.num_nodes, graph.node_features)
    assert edges.shape == (graph.index.shape[1], graph.edge_features)
    written = graph.weights(nodes, edges)
    parameters = dict(network.named_parameters())
    assert written.keys() == parameters.keys(), "all that training moves is written"
    for key, value in parameters.items():
        assert torch.equal(written[key], value), key
    assert torch.equal(functional_call(network, written, (x,)), network(x))


def test_digits_have_the_stated_nodes_and_edges() -> None:
    network = NormedConvolutions(channels=[16, 32, 32], strides=[1, 2, 2], pools=[], bias=False, init="default")
    graph = NetworkGraph(network.network(1, 10))
    assert (graph.num_nodes, graph.index.shape[1], graph.node_features, graph.edge_features) == (91, 1872, 4, 9)


def test_a_residual_network_has_two_batch_norms_a_node_and_edges_for_its_shortcuts() -> None:
    network = ResNetCifar(widths=[4, 6], blocks=2).network(3, 5)
    graph = NetworkGraph(network)
    assert graph.node_features == 8
    assert graph.num_nodes == 3 + 4 + 2 * (4 + 4) + 2 * (6 + 6) + 5
    own = 3 * 4 + 4 * 16 + (4 * 6 + 36 + 4 * 6) + 2 * 36 + 6 * 5
    assert graph.index.shape[1] == own + 2 * 16 + 36, "the three shortcuts that change nothing join all pairs"
    _, edges = graph.features()
    downsampling = network[5].shortcut[1]
    assert isinstance(downsampling, nn.BatchNorm2d)
    nodes, _ = graph.features()
    assert (nodes[:, 4] != 1).sum() == 0, "a fresh batch norm is as a missing one"
    with torch.no_grad():
        downsampling.weight.fill_(3.0)
    nodes, edges = graph.features()
    assert (nodes[:, 4] == 3).sum() == 6
    assert (edges[:, :4] == 0).all(dim=1).sum() >= 2 * 16 + 36 + 24 + 30, "small kernels lie in the middle"


def test_the_released_codes_order_scrambles_the_classifier_alone() -> None:
    network, _ = networks()["vgg"]
    graph = NetworkGraph(network)
    written = graph.weights(*graph.features(), classifier="transposed")
    for key, value in network.named_parameters():
        if key == "4.2.weight":
            assert not torch.equal(written[key], value)
            assert torch.equal(written[key].flatten().sort().values, value.flatten().sort().values)
            assert torch.equal(written[key].T.flatten(), value.flatten())
        else:
            assert torch.equal(written[key], value)


class Unreadable(nn.Module):
    """Multiplies two values."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x


@pytest.mark.parametrize(
    "network",
    [
        Unreadable(),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 5)),
        nn.Sequential(nn.Conv2d(3, 4, 2), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.LSTM(4, 4)),
    ],
)
def test_what_is_no_graph_of_channels_is_refused(network: nn.Module) -> None:
    with pytest.raises(BadInput, match="graph of channels"):
        NetworkGraph(network)


# The metanetwork


def metanetwork(graph: NetworkGraph, res_ratio: float = 0.05, layers: int = 2) -> Metanetwork:
    torch.manual_seed(2)
    return Metanetwork(graph.node_features, graph.edge_features, width=8, layers=layers, res_ratio=res_ratio)


@pytest.mark.parametrize("name", NAMES)
def test_with_ratio_0_nothing_changes(name: str) -> None:
    network, _ = networks()[name]
    subject = Subject(network, "exact")
    nodes, edges = metanetwork(subject.graph, 0.0)(subject.nodes, subject.edges, subject.ends)
    assert torch.equal(nodes, subject.nodes)
    assert torch.equal(edges, subject.edges)
    changed = metanetwork(subject.graph)(subject.nodes, subject.edges, subject.ends)
    assert not torch.equal(changed[0], subject.nodes)


@torch.no_grad()
def permuted(network: nn.Module, groups: ChannelGroups, orders: list[Tensor]) -> nn.Module:
    """The same function, its channels in another order."""
    other = copy.deepcopy(network)
    for group, order in zip(groups.groups, orders, strict=True):
        for member in group.members:
            module = other.get_submodule(member.name.removesuffix(".weight"))
            tensors = [module.weight]
            if member.axis == 0:
                tensors += [module.bias] if module.bias is not None else []
                tensors += [module.running_mean, module.running_var] if hasattr(module, "running_mean") else []
            for tensor in tensors:
                tensor.copy_(tensor.index_select(member.axis if tensor.dim() > 1 else 0, order))
    return other


@pytest.mark.parametrize("name", PRUNABLE)
def test_renumbered_channels_get_renumbered_weights(name: str) -> None:
    network, x = networks()[name]
    groups = ChannelGroups(copy.deepcopy(network), x[:1])
    orders = [torch.randperm(size) for size in groups.sizes]
    other = permuted(network, groups, orders)
    torch.testing.assert_close(other(x), network(x), rtol=1e-4, atol=1e-5)
    subjects = [Subject(network, "exact"), Subject(other, "exact")]
    meta = metanetwork(subjects[0].graph, 0.5)
    first, second = copy.deepcopy(network), copy.deepcopy(other)
    for target, subject in zip((first, second), subjects, strict=True):
        target.load_state_dict(subject.changed(meta), strict=False)
    expected = permuted(first, groups, orders).state_dict()
    for key, value in second.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-5, msg=key)


def plainly(layer: Layer, x: Tensor, e: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """One direction, edge by edge: row 0 sends, row 1 receives."""
    f1, f2, f3, f4 = functional.silu(layer.maps(x)).chunk(4, dim=1)
    nodes = []
    for i in range(len(x)):
        found = [f2[i] * f1[j] * e[k] for k, (j, target) in enumerate(index.T.tolist()) if target == i]
        m = torch.stack(found) if found else torch.zeros(1, x.shape[1])
        std = (m.square().mean(0) - m.mean(0).square() + EPSILON).sqrt()
        nodes.append(torch.cat([m.mean(0), std, m.amax(0), m.amin(0)]))
    return layer.join(torch.stack(nodes)), f3[index[0]] * f4[index[1]] * e


def test_the_layer_is_the_formula_in_both_directions() -> None:
    """Against the edges: the same convolution on reversed edges with features s e, whose edge term comes back by s."""
    index = torch.tensor([[3, 4, 4, 5, 3, 5], [0, 0, 1, 1, 3, 3]])  # node 2 has no edges
    layer, x, e = Layer(6), torch.randn(6, 6), torch.randn(6, 6)
    ends, reversed_ends = Ends.of(index, 6), Ends.of(index.flip(0), 6)
    along, against = layer.along(x, e, ends), layer.along(x, layer.sign * e, reversed_ends)
    for found, wanted in (
        (along, plainly(layer, x, e, index)),
        (against, plainly(layer, x, layer.sign * e, index.flip(0))),
    ):
        torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found[1], wanted[1])
    nodes, edges = layer(x, e, ends)
    torch.testing.assert_close(nodes, along[0] + against[0])
    torch.testing.assert_close(edges, along[1] + layer.sign * against[1])
    mirrored_nodes, mirrored_edges = layer(x, layer.sign * e, reversed_ends)
    torch.testing.assert_close(mirrored_nodes, nodes)
    torch.testing.assert_close(mirrored_edges, layer.sign * edges)


# Groups, criterion, regulariser


def groups_of(name: str) -> ChannelGroups:
    network, x = networks()[name]
    return ChannelGroups(network, x[:1])


@pytest.mark.parametrize("name", PRUNABLE)
@pytest.mark.parametrize("reduction", ["mean", "sum", "max", "first"])
@pytest.mark.parametrize("normaliser", ["max", "mean", "none"])
def test_importances_are_those_of_torch_pruning(name: str, reduction: str, normaliser: str) -> None:
    import torch_pruning

    groups = groups_of(name)
    library = {"l2": 2, "l1": 1}
    for norm, power in library.items():
        theirs = torch_pruning.importance.GroupMagnitudeImportance(
            p=power, group_reduction=reduction, normalizer=None if normaliser == "none" else normaliser
        )
        ours = groups.importances(Criterion(norm, reduction, normaliser))
        for group, importance in zip(groups.groups, ours, strict=True):
            root = groups.network.get_submodule(group.root)
            function = torch_pruning.prune_conv_out_channels
            if isinstance(root, nn.Linear):
                function = torch_pruning.prune_linear_out_channels
            whole = groups._graph.get_pruning_group(root, function, list(range(len(importance))))
            torch.testing.assert_close(importance, theirs(whole))


@pytest.mark.parametrize("name", PRUNABLE)
def test_the_regulariser_is_torch_prunings(name: str) -> None:
    import torch_pruning

    network, x = networks()[name]
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2, group_reduction="mean", normalizer="max")
    theirs = torch_pruning.pruner.GroupNormPruner(network, x[:1], importance, reg=0.3, ignored_layers=[head])
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    theirs.regularize(network, alpha=16)
    ours = ChannelGroups(copy.deepcopy(network), x[:1]).push(dict(network.named_parameters()), 16.0)
    for key, parameter in network.named_parameters():
        torch.testing.assert_close(0.3 * ours.get(key, torch.zeros_like(parameter)), parameter.grad, msg=key)


def test_the_regulariser_leaves_channels_of_zeros_and_skips_groups_of_zeros() -> None:
    groups = groups_of("vgg")
    weights = {key: value.detach().clone() for key, value in groups.network.named_parameters()}
    first, second, _ = groups.groups
    for member in first.members:
        weights[member.name].select(member.axis, 2).zero_()
    push = groups.push(weights, 16.0)
    for member in first.members:
        assert (push[member.name].select(member.axis, 2) == 0).all()
    for member in second.members:
        weights[member.name].zero_()
    push = groups.push(weights, 16.0)
    assert second.members[1].name not in push
    assert all(value.isfinite().all() for value in push.values())


@given(
    norms=st.lists(st.floats(0.0, 1e3), min_size=1, max_size=9),
    alpha=st.floats(1.0, 100.0),
)
def test_smaller_norms_are_pushed_more(norms: list[float], alpha: float) -> None:
    values = torch.tensor(norms, dtype=torch.float64)
    gamma = coefficients(values, alpha)
    assert (gamma >= 1 - 1e-9).all()
    assert (gamma <= alpha + 1e-9).all()
    assert (gamma[values.argsort(descending=True)].diff() >= -1e-9).all()
    assert torch.equal(coefficients(values, 1.0), torch.ones_like(values))


def test_with_base_1_it_is_weight_decay_once_for_each_group() -> None:
    groups = groups_of("vgg")
    weights = dict(groups.network.named_parameters())
    times: dict[str, int] = {}
    for group in groups.groups:
        for member in group.members:
            times[member.name] = times.get(member.name, 0) + 1
    for key, value in groups.push(weights, 1.0).items():
        torch.testing.assert_close(value, times[key] * weights[key])


# Pruning of channels


@pytest.mark.parametrize("name", PRUNABLE)
@pytest.mark.parametrize("steps", [None, 6])
def test_pruning_reaches_its_speed_up_with_the_last_step(name: str, steps: int | None) -> None:
    network, x = networks()[name]
    before, _ = costs(network, x[:1])
    speedups = [1.2, 1.5, 2.0] if name == "mlp" else [1.3, 2.0, 3.0]
    schedule = Schedule(GROUP_L2, steps)
    found = list(schedule.kept(network, x[:1], speedups, torch.Generator()))
    everything = list(
        schedule.kept(
            network, x[:1], [before / cost - 1e-9 for cost in path(network, x[:1], schedule)], torch.Generator()
        )
    )
    for speedup, kept in zip(speedups, found, strict=True):
        small = compacted(network, x[:1], kept)
        reached = before / costs(small, x[:1])[0]
        assert reached >= speedup
        earlier = [one for one in everything if one.sum() > kept.sum()]
        last = before / costs(compacted(network, x[:1], earlier[-1]), x[:1])[0] if earlier else 1.0
        assert last < speedup, "one step less would not have reached it"
        assert small(x).shape == (4, 5)
        for member in ChannelGroups(small, x[:1]).groups:
            assert len(small.get_submodule(member.root).weight) >= 1
        for layer, norm in conv_and_norm(small):
            assert norm.num_features == layer.out_channels == len(norm.running_mean) == len(layer.weight)


def path(network: nn.Module, sample: Tensor, schedule: Schedule) -> list[float]:
    """Costs after each step of pruning, down to a channel a layer."""
    groups = ChannelGroups(copy.deepcopy(network), sample)
    at_once = 1 if schedule.steps is None else max(1, round(sum(groups.sizes) / schedule.steps))
    found = []
    while schedule._step(groups, at_once, torch.Generator()):
        found.append(costs(groups.network, sample)[0])
    return found


def conv_and_norm(network: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    modules = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))]
    return list(zip(modules[::2], modules[1::2], strict=True)) if modules else []  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PRUNABLE)
def test_pruning_a_channel_of_zeros_changes_no_logit(name: str) -> None:
    network, x = networks()[name]
    groups = ChannelGroups(network, x[:1])
    with torch.no_grad():
        for group in groups.groups:
            for member in group.members:
                module = network.get_submodule(member.name.removesuffix(".weight"))
                module.weight.select(member.axis, 1).zero_()
                if member.axis == 0 and module.bias is not None:
                    module.bias[1] = 0
    before = network(x)
    assert list(groups.importances(GROUP_L2)[0]).index(0) == 1
    for number in range(len(groups.groups)):
        groups.remove(number, [1])
    torch.testing.assert_close(groups.network(x), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PRUNABLE)
def test_a_checkpoint_gives_pruned_networks_back(name: str) -> None:
    network, x = networks()[name]
    store = Pruned(network, x, 2)
    (kept,) = Schedule(Criterion("random", "mean", "none"), None).kept(
        network, x[:1], [1.5], torch.Generator().manual_seed(0)
    )
    small = randomised(compacted(network, x[:1], kept))
    store.put(1, small, kept)
    other = Pruned(network, x, 2)
    other.load_state_dict(store.state_dict())
    assert torch.equal(other.network(1).eval()(x), small(x))
    assert torch.equal(other.network(0).eval()(x), network(x))
    assert network(x).shape == (4, 5)


def test_a_speed_up_that_would_empty_a_layer_is_refused() -> None:
    network, x = networks()["vgg"]
    with pytest.raises(BadInput, match="would empty a layer"):
        list(Schedule(GROUP_L2, None).kept(network, x[:1], [1000.0], torch.Generator()))
    with pytest.raises(BadInput, match="grouped convolutions"):
        groups_of("grouped")


# Masks of single weights


@given(st.sampled_from([1.0, 2.0, 4.0]), st.integers(0, 100))
def test_blocks_keep_their_largest_weights(sparsity: float, seed: int) -> None:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(10, 4))
    masks = weight_masks.blockwise(network, sparsity, 4)
    for key, weight in weight_masks.weights_of(network).items():
        rows, left = weight.detach().abs().flatten(1), masks[key].flatten(1)
        for start in range(0, rows.shape[1], 4):
            part, mask = rows[:, start : start + 4], left[:, start : start + 4]
            assert (mask.sum(1) == min(4 / sparsity, part.shape[1])).all()
            assert (part.masked_fill(~mask, torch.inf).amin(1) >= part.masked_fill(mask, -1.0).amax(1)).all()


def test_the_smallest_weights_of_all_go() -> None:
    network, _ = networks()["vgg"]
    masks = weight_masks.unstructured(network, 3.0)
    weights = weight_masks.weights_of(network)
    flat = torch.cat([weight.detach().abs().flatten() for weight in weights.values()])
    left = torch.cat([mask.flatten() for mask in masks.values()])
    assert int(left.sum()) == round(len(flat) / 3)
    assert flat[left].min() >= flat[~left].max()
    with pytest.raises(BadInput, match="can't be divided"):
        weight_masks.blockwise(network, 3.0, 4)


# Training


def digits(**options: object) -> ImageClassification:
    usual = {"test_images": 397, "train_size": 200, "val_size": 50, "test_size": None, "draw": 0, "pad": 0, "pool": 1}
    fields = {**usual, "mean": [0.0], "std": [1.0], "augmentation": "none", **options}
    return Digits(**fields).load("ImageClassification")


def test_digits_can_be_split_otherwise_without_another_fingerprint() -> None:
    usual, other = digits(train_size=None), digits(train_size=None, test_images=547, val_size=250)
    assert [len(part) for part in (other.train_y, other.val_y, other.test_y)] == [1000, 250, 547]
    assert other.fingerprint == usual.fingerprint
    assert torch.equal(other.test_x[:397], usual.test_x)
    pixels = torch.cat([other.train_x, other.val_x, other.test_x]).flatten(1)
    whole = torch.cat([usual.train_x, usual.val_x, usual.test_x]).flatten(1)
    assert torch.equal(pixels.unique(dim=0), whole.unique(dim=0))
    with pytest.raises(BadInput, match="test_images=1797"):
        digits(test_images=1797)


def test_a_step_follows_the_surrogate_loss() -> None:
    """CE(theta') + <stop_grad(push), theta'>, whose gradient autograd takes through M."""
    task = digits()
    network = randomised(vgg(bias=False).network(1, 10))
    subject = Subject(network, "exact")
    groups = ChannelGroups(copy.deepcopy(network), task.sample())
    meta = metanetwork(subject.graph)
    method = object.__new__(MetaTraining)
    method.batch_size, method.regulariser, method.alpha = 64, 0.1, 16.0
    changed = subject.changed(meta)
    loss, gradients, norm = method.direction(subject, groups, changed, task, torch.Generator().manual_seed(0))
    torch.autograd.backward(list(changed.values()), [gradients[name] for name in changed])
    found = [parameter.grad.clone() for parameter in meta.parameters()]

    changed = subject.changed(meta)
    push = {name: 0.1 * more for name, more in groups.push(changed, 16.0).items()}
    cross_entropy = functional.cross_entropy(functional_call(network, changed, (task.train_x,)), task.train_y)
    surrogate = cross_entropy + sum((more.detach() * changed[name]).sum() for name, more in push.items())
    wanted = torch.autograd.grad(surrogate, list(meta.parameters()))
    torch.testing.assert_close(loss, cross_entropy.detach())
    torch.testing.assert_close(norm, torch.stack([more.norm() for more in push.values()]).norm())
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def recipe(**options: object) -> Recipe:
    usual = {"epochs": 3, "batch_size": 64, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0, "milestones": ()}
    return Recipe(**{**usual, **options})


def test_the_learning_rate_falls_after_its_milestones() -> None:
    rates = [recipe(lr=1.0, milestones=(2, 3)).rate(epoch) for epoch in range(1, 5)]
    assert rates == pytest.approx([1.0, 1.0, 0.1, 0.01])


def test_sparse_learning_widens_the_spread() -> None:
    """And leaves the loss of the images where it was, within what a small network has to give."""
    task = digits()
    network = vgg(bias=False).network(1, 10)
    groups = ChannelGroups(network, task.sample())
    before = spread(network, task.sample())
    optimizer, draw = recipe(lr=0.1).optimizer(network), torch.Generator().manual_seed(1)
    losses = [
        recipe(lr=0.1).epoch(
            epoch,
            network,
            optimizer,
            task,
            draw,
            push=lambda weights: {name: 0.05 * more for name, more in groups.push(weights, 16.0).items()},
        )
        for epoch in range(1, 9)
    ]
    assert losses[-1] < losses[0]
    assert spread(network, task.sample()) > 2 * before


# Through the command line

SMALL = ["dataset=digits", "dataset.train_size=120", "dataset.val_size=40", "dataset.test_size=60"]
MODEL = ["model.channels=[4,6]", "model.strides=[2,2]"]
DATA_MODEL = " ".join(["method=data_model", *SMALL, *MODEL, "method.epochs=2", "method.milestones=[1]"])
SHORT = ["method.finetune_epochs=1", "method.width=6", "method.layers=2", "method.speedups=[1.5]", "method.epochs=2"]
META = ["method=metanetwork", *SMALL, *SHORT, "method.every=1"]
ARM = ["method.epochs_before=1", "method.epochs_after=1", "method.speedups=[1.5,2.0]", "progress=false"]


def made(tmp_path: Path, name: str) -> list[Record]:
    records = Records(f"sqlite:///{tmp_path}/runs/mlflow.db", "runner").all()
    return [one for one in records if name in one.metrics]


def test_the_arms_through_the_command_line(cli: Cli, tmp_path: Path) -> None:
    models = [f"'{DATA_MODEL} seed={seed}'" for seed in (11, 12)]
    meta = cli(*META, f"method.data_models=[{','.join(models)}]", "method.keep=last", "progress=false")
    assert meta.status == 0, meta.err
    (trained,) = made(tmp_path, "chosen_epoch")
    assert trained.metrics["chosen_epoch"] == 2
    assert trained.metrics["regulariser_norm/before"] != trained.metrics["regulariser_norm/after"]

    victim = f"method.victim='{DATA_MODEL} seed=1'"
    plain = cli("method=pruning", *SMALL, victim, *ARM)
    assert plain.status == 0, plain.err
    arm = cli("method=metapruning", *SMALL, victim, f"method.metanetwork=id:{trained.run_id}", *ARM)
    assert arm.status == 0, arm.err
    without, changed = sorted(made(tmp_path, "test_acc/base"), key=lambda one: one.start_ms)
    assert len(made(tmp_path, "macs")) == 3, "both arms have one victim"
    assert without.metrics["test_acc/base"] == changed.metrics["test_acc/base"] == without.metrics["test_acc/changed"]
    assert without.metrics["epochs"] == changed.metrics["epochs"] == 3, "and the same finetuning"
    assert without.metrics["spread/changed"] != changed.metrics["spread/changed"]
    for record in (without, changed):
        for speedup in ("1.5x", "2x"):
            assert record.metrics[f"macs_left/{speedup}"] <= 1 / float(speedup[:-1])
            assert 0 < record.metrics[f"weights_left/{speedup}"] < 1
    again = cli("mode=evaluate", f"run={changed.run_id}", "progress=false")
    assert again.status == 0, again.err
    (evaluated,) = [one for one in made(tmp_path, "test_acc/base") if one.tags["runner.kind"] == "evaluate"]
    for name, value in evaluated.metrics.items():
        if "acc" in name or "left" in name:
            assert value == changed.metrics[name], name


def test_the_keys_of_all_data_models_enter_the_key() -> None:
    def identity(*seeds: int) -> Identity:
        models = ",".join(f"'{DATA_MODEL} seed={seed}'" for seed in seeds)
        return identify_run(compose([*META, f"method.data_models=[{models}]"]))

    both = identity(11, 12)
    keys = [both.references[f"data_models.{place}"].key for place in (0, 1)]
    assert both.deciding["method"]["data_models"] == keys
    assert len({one.key for one in (both, identity(12, 11), identity(11, 13), identity(11))}) == 4


def test_where_no_change_is_best_the_arm_is_that_without_a_metanetwork(cli: Cli, tmp_path: Path) -> None:
    """An absurd push ruins the networks in every epoch."""
    ruin = ["method.res_ratio=100.0", "method.regulariser=0.0", "method.lr=1.0"]
    meta = cli(*META, *ruin, f"method.data_models=['{DATA_MODEL} seed=11']", "progress=false")
    assert meta.status == 0, meta.err
    (trained,) = made(tmp_path, "chosen_epoch")
    assert trained.metrics["chosen_epoch"] == 0
    assert trained.metrics["spread/before"] == trained.metrics["spread/after"]
    victim = f"method.victim='{DATA_MODEL} seed=1'"
    assert cli("method=pruning", *SMALL, victim, *ARM).status == 0
    assert cli("method=metapruning", *SMALL, victim, f"method.metanetwork=id:{trained.run_id}", *ARM).status == 0
    without, unchanged = made(tmp_path, "test_acc/base")
    names = [name for name in without.metrics if "acc" in name]
    assert {name: without.metrics[name] for name in names} == {name: unchanged.metrics[name] for name in names}


@pytest.mark.parametrize(
    "options",
    [
        ["method.structure=weights"],
        ["method.structure=blocks"],
        ["method.sparsity=0.05", "method.norm=l1", "method.steps=5"],
    ],
)
def test_variants_through_the_command_line(options: list[str], cli: Cli, tmp_path: Path) -> None:
    speedups = ["method.speedups=[2.0]"] if "method.structure=blocks" in options else []
    result = cli("method=pruning", *SMALL, f"method.victim='{DATA_MODEL} seed=1'", *ARM, *speedups, *options)
    assert result.status == 0, result.err
    (record,) = made(tmp_path, "test_acc/base")
    if "structure" in options[0]:
        assert 0.5 <= record.metrics["weights_left/2x"] < 0.6, "biases and batch norm stay"
        assert "macs_left/2x" not in record.metrics
    else:
        assert record.metrics["macs_left/2x"] <= 0.5


def test_other_images_and_other_methods_are_refused(cli: Cli) -> None:
    other = cli("method=pruning", *SMALL, "dataset.draw=1", f"method.victim='{DATA_MODEL}'", *ARM)
    assert other.status == 2
    assert "was trained on other images" in other.err
    perceptron = " ".join(["method=backprop_image", *SMALL, "method.epochs=1"])
    wrong = cli("method=pruning", *SMALL, f"method.victim='{perceptron}'", *ARM)
    assert (wrong.status, "no run of method=data_model" in wrong.err) == (2, True)


def test_without_torch_pruning_one_line_says_how_to_get_it(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    result = cli(*DATA_MODEL.split(), "progress=false")
    assert result.status == 2
    assert "pip install 'forward-runner[pruning]'" in result.err


KINDS = {"": ["model=resnet20", "model.widths=[4,6]", "model.blocks=1"], "_vgg19": [*MODEL, "model.bias=true"]}
GREY = ["dataset.mean=[0.0]", "dataset.std=[1.0]", "dataset.augmentation=none"]


@pytest.mark.parametrize("suffix", KINDS)
def test_the_full_scale_starts(suffix: str, cli: Cli, tmp_path: Path) -> None:
    """The paper's metanetwork and values, on a small network of the same kind, with other data and nearer targets."""
    experiment = f"+experiment=metapruning_full{suffix}"
    small = [*SMALL, *GREY, "progress=false", "limit=1"]
    kind = KINDS[suffix] if not suffix else [*KINDS[suffix], "model.pools=[]"]
    model = cli(f"{experiment}_data_model", *small, *kind, "method.speedup=1.1")
    assert model.status == 0, model.err
    run = recorded(model)
    meta = cli(f"{experiment}_metanetwork", *small, f"method.data_models=[id:{run}]", "method.keep=last")
    assert meta.status == 0, meta.err
    references = [f"method.victim=id:{run}", f"method.metanetwork=id:{recorded(meta)}"]
    arm = cli(experiment, "method=metapruning", *small, *references, "method.speedups=[1.2]")
    assert arm.status == 0, arm.err
    (data_model,), (pruned,) = made(tmp_path, "macs"), made(tmp_path, "test_acc/base")
    assert pruned.metrics["test_acc/base"] == data_model.metrics["test_acc"], "its pruned network came back whole"
    assert pruned.metrics["macs_left/1.2x"] <= 1 / 1.2


def recorded(result: Result) -> str:
    return result.out.partition("recorded as run ")[2].split()[0]
