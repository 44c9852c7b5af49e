"""NoProp: the formulas against closed forms, blocks that don't touch one another, and what a command does."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from runner import registry
from runner.compose import compose
from runner.contracts import ImageClassification
from runner.errors import BadInput, RunnerError
from runner.hardware.activations import SavedActivations
from runner.methods.learning_rules.noprop import schedule
from runner.methods.learning_rules.noprop.adjoint import Flow
from runner.methods.learning_rules.noprop.blocks import positions
from runner.methods.learning_rules.noprop.dt import BlockLoss
from runner.methods.learning_rules.noprop.embedding import LabelEmbedding, OutHead, noised, typical_images
from runner.methods.learning_rules.noprop.workers import Workers
from tests.conftest import Result

Cli = Callable[..., Result]
CLASSES = 4


def task_of(images: int = 48, *, seed: int = 0) -> ImageClassification:
    """Noise around one random image a class, 6 x 6 pixels; as many to test as to train."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.rand(CLASSES, 1, 6, 6, generator=draw)
    y = torch.arange(2 * images) % CLASSES
    x = (centres[y] + 0.1 * torch.randn(2 * images, 1, 6, 6, generator=draw)).to(torch.get_default_dtype())
    return ImageClassification(
        name="blobs",
        fingerprint="blobs",
        train_x=x[:images],
        train_y=y[:images],
        val_x=x[:0],
        val_y=y[:0],
        test_x=x[images:],
        test_y=y[images:],
        train_index=torch.arange(images),
        val_index=torch.arange(0),
        num_classes=CLASSES,
        published=(images, images),
        low=torch.zeros(1, 1, 1),
        high=torch.ones(1, 1, 1),
    )


def built(name: str, task: ImageClassification, *overrides: str) -> Any:
    """A method of this name for small blocks, built as a run builds it."""
    small = ["method.width=8", "method.image_widths=[8]", "method.fuse_widths=[8,6]", "method.batch_size=16"]
    small += ["method.channels=[2,3,4]"]
    config = compose([f"method={name}", "dataset=digits", *small, *overrides]).config
    method = registry.build(config["method"])
    run = SimpleNamespace(adapt=lambda module: module.to(torch.get_default_dtype()), device=torch.device("cpu"))
    torch.manual_seed(0)
    method.build(task, run)
    return method


QUIET: Any = SimpleNamespace(save=lambda *_: None, step_bytes=lambda *_: 0, step_cost=lambda *_: {})
"""A run that keeps nothing and makes no step to see what it costs."""


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


# Schedules

ABARS = (
    st.tuples(st.floats(0.001, 0.998), st.floats(0.001, 0.998)).map(sorted).filter(lambda two: two[1] - two[0] > 1e-4)
)


@given(ABARS)
def test_a_step_from_the_posterior_with_the_true_embedding_lands_on_the_posterior(pair: list[float]) -> None:
    before, now = torch.tensor(pair, dtype=torch.float64)
    a, b, c = schedule.step(before, now)
    torch.testing.assert_close(a + b * before.sqrt(), now.sqrt())
    torch.testing.assert_close(b**2 * (1 - before) + c, 1 - now)
    assert c > 0


@given(ABARS, st.integers(0, 2**31))
def test_the_weight_of_a_blocks_loss_is_a_divergence(pair: list[float], seed: int) -> None:
    before, now = torch.tensor(pair, dtype=torch.float64)
    a, b, c = schedule.step(before, now)
    draw = torch.Generator().manual_seed(seed)
    u, uhat, z = torch.randn(3, 5, generator=draw, dtype=torch.float64)
    spread = c * torch.eye(5, dtype=torch.float64)
    q, p = MultivariateNormal(a * u + b * z, spread), MultivariateNormal(a * uhat + b * z, spread)
    weight = 0.5 * (schedule.snr(now) - schedule.snr(before))
    torch.testing.assert_close(kl_divergence(q, p), weight * (uhat - u).square().sum())


@given(st.integers(1, 30), st.floats(1e-5, 2e-3))
def test_the_cosine_schedule_rises(steps: int, clip: float) -> None:
    abar = schedule.cosine(steps, clip)
    assert len(abar) == steps + 1
    assert (schedule.snr(abar).diff() > 0).all()
    assert (abar[0], abar[-1]) == (clip, 1 - clip)


def test_a_schedule_that_stands_still_is_refused() -> None:
    with pytest.raises(BadInput, match=r"abar_clip=0\.1 flattens the schedule of 50 blocks"):
        schedule.cosine(50, 0.1)


@given(st.floats(1e-4, 0.9), st.integers(0, 2**31))
def test_divergence_from_the_prior(abar: float, seed: int) -> None:
    u = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = schedule.prior_divergence(torch.tensor(abar, dtype=torch.float64), u)
    one = torch.ones_like(u)
    expected = kl_divergence(Normal(abar**0.5 * u, (1 - abar) ** 0.5 * one), Normal(0 * u, one)).sum(1)
    torch.testing.assert_close(found, expected)
    assert (found >= 0).all()


@given(st.integers(0, 2**31))
def test_the_learned_schedule_is_monotone_with_fixed_ends(seed: int) -> None:
    torch.manual_seed(seed)
    learned = schedule.LearnedSchedule(-5.0, 5.0, 16).double()
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    rise = learned.rise(t).detach()
    torch.testing.assert_close(rise[[0, -1]], torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert (rise.diff() > 0).all()
    torch.testing.assert_close(learned.abar(t[[0, -1]]), torch.sigmoid(torch.tensor([-5.0, 5.0], dtype=torch.float64)))


def test_the_rate_of_the_learned_snr_is_its_slope_and_teaches_the_schedule() -> None:
    learned = schedule.LearnedSchedule(-2.0, 3.0, 16).double()
    t, step = torch.linspace(0.05, 0.95, 19, dtype=torch.float64), 1e-6
    snr = lambda at: schedule.snr(learned.abar(at))  # noqa: E731
    rate = learned.snr_rate(t)
    torch.testing.assert_close(rate, (snr(t + step) - snr(t - step)) / (2 * step), rtol=1e-6, atol=0)
    rate.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in learned.parameters())


# Embeddings and head


def test_noise_has_the_posteriors_mean_and_spread() -> None:
    u = torch.tensor([[2.0, -1.0]]).expand(200_000, 2)
    z = noised(u, torch.tensor(0.36))
    torch.testing.assert_close(z.mean(0), 0.6 * u[0], atol=0.01, rtol=0)
    torch.testing.assert_close(z.std(0), torch.full((2,), 0.8), atol=0.01, rtol=0)


@pytest.mark.parametrize("images", [1, 2, 3, 8, 9])
def test_prototypes_are_the_images_of_smallest_median_distance(images: int) -> None:
    x = torch.rand(3 * images, 7, generator=torch.Generator().manual_seed(images))
    y = torch.arange(3 * images) % 3
    for label, found in enumerate(typical_images(x, y, 3)):
        own = x[y == label]
        medians = [
            np.median(
                [np.linalg.norm(one - other) for place, other in enumerate(own.numpy()) if place != number] or [0]
            )
            for number, one in enumerate(own.numpy())
        ]
        assert torch.equal(found, own[int(np.argmin(medians))])


@pytest.mark.parametrize(
    ("kind", "dim", "learned"), [("one_hot", 4, False), ("learned", 20, True), ("prototype", 36, True)]
)
def test_embeddings(kind: str, dim: int, learned: bool) -> None:
    embedding = LabelEmbedding(kind, 20, task_of())  # type: ignore[arg-type]
    assert embedding.W.shape == (CLASSES, dim)
    assert embedding.learned is learned
    if kind != "prototype":
        torch.testing.assert_close(embedding.W @ embedding.W.T, torch.eye(CLASSES))
    z = torch.randn(9, dim)
    assert torch.equal(embedding.nearness(z).argmax(1), torch.cdist(z, embedding.W).argmin(1))
    rows = embedding.W.detach()
    assert embedding.gap() == pytest.approx(
        min(float((a - b).norm()) for a, b in itertools.combinations(rows, 2)), rel=1e-5
    )


@pytest.mark.parametrize("kind", ["one_hot", "learned", "prototype"])
@pytest.mark.parametrize("head", ["linear", "posterior"])
def test_the_heads_start_reads_every_clean_embedding(kind: Any, head: Any) -> None:
    embedding = LabelEmbedding(kind, 20, task_of())
    out = OutHead(head, "embedding", 3.0, 1.0, embedding)
    assert torch.equal(out(embedding.W, embedding).argmax(1), torch.arange(CLASSES))
    if kind == "one_hot":
        assert torch.equal(out.linear.weight, 3 * torch.eye(CLASSES))


def test_the_posterior_heads_logits() -> None:
    embedding = LabelEmbedding("learned", 20, task_of())
    out = OutHead("posterior", "random", 3.0, 0.5, embedding)
    z = torch.randn(5, 20)
    near = out.linear(z).softmax(1) @ embedding.W
    direct = -torch.cdist(near, embedding.W).square() / (2 * 0.5**2)
    torch.testing.assert_close(out(z, embedding).softmax(1), direct.softmax(1))


# Blocks that don't touch one another


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_blocks_loss_reaches_no_other_block(number: int) -> None:
    task = task_of()
    method = built("noprop_dt", task, "method.blocks=3")
    BlockLoss(method.network, number, method.abar, method.eta)(task.train_x, task.train_y).backward()
    for place, block in enumerate(method.network.blocks, 1):
        reached = [parameter.grad is not None for parameter in block.parameters()]
        assert all(reached) if place == number else not any(reached)
    assert all(parameter.grad is None for parameter in method.network.head.parameters())


def test_a_blocks_loss_is_its_formula() -> None:
    task = task_of()
    method = built("noprop_dt", task, "method.blocks=3", "method.embedding=learned")
    network, t = method.network.eval(), 2
    loss = BlockLoss(network, t, method.abar, 0.1)
    torch.manual_seed(5)
    found = loss(task.train_x, task.train_y)
    torch.manual_seed(5)
    abar = method.abar.float()
    snr = abar / (1 - abar)
    u = network.embedding.W[task.train_y]
    z = abar[t - 1].sqrt() * u + (1 - abar[t - 1]).sqrt() * torch.randn_like(u)
    block = network.blocks[t - 1]
    p = block.fuse(torch.cat([block.image(task.train_x), block.z(z)], 1)).softmax(1)
    squares = ((p @ network.embedding.W - u) ** 2).sum(1)
    torch.testing.assert_close(found, 3 / 2 * 0.1 * (snr[t] - snr[t - 1]) * squares.mean())


def test_learners_move_what_is_theirs_and_no_more() -> None:
    task = task_of()
    method = built("noprop_dt", task, "method.blocks=2")
    for place, learner in enumerate(method.learners()):
        before = copy.deepcopy(method.network.state_dict())
        learner.epoch(task, 16, (1, place))
        changed = moved(before, method.network.state_dict())
        assert changed
        assert all(name.startswith(f"blocks.{place}." if place < 2 else "head.") for name in changed)


def test_the_order_of_learners_does_not_matter() -> None:
    task = task_of()
    ends = []
    for order in ([0, 1, 2], [2, 0, 1]):
        method = built("noprop_dt", task, "method.blocks=2", "method.block=conv")
        learners = method.learners()
        for epoch, place in itertools.product(range(2), order):
            learners[place].epoch(task, 16, (7, place, epoch))
            torch.randn(3)  # the global stream is nobody's
        ends.append(method.network.state_dict())
    assert not moved(*ends)


@pytest.mark.parametrize("workers", [2, 3])
def test_processes_train_the_same_bits(workers: int) -> None:
    task = task_of()
    seeds = [[(3, place, epoch) for place in range(3)] for epoch in range(2)]
    alone = built("noprop_dt", task, "method.blocks=2", "method.block=conv")
    learners = alone.learners()
    losses = [[learner.epoch(task, 16, seed) for learner, seed in zip(learners, row, strict=True)] for row in seeds]
    beside = built("noprop_dt", task, "method.blocks=2", "method.block=conv")
    with Workers(workers, beside.learners(), task, 16) as processes:
        processes.wait()
        assert [processes.epoch(row) for row in seeds] == losses
    assert not moved(alone.network.state_dict(), beside.network.state_dict())


def test_a_process_that_dies_is_told() -> None:
    task = task_of()
    method = built("noprop_dt", task, "method.blocks=2")
    with Workers(2, method.learners(), task, 16) as processes:
        processes.wait()
        processes.processes[0].kill()
        with pytest.raises(RunnerError, match=r"method\.workers=1"):
            processes.epoch([(0, place, 1) for place in range(3)])


def test_a_learned_embedding_moves_with_every_block() -> None:
    task = task_of()
    method = built("noprop_dt", task, "method.blocks=2", "method.embedding=learned")
    (learner,) = method.learners()
    before = copy.deepcopy(method.network.state_dict())
    learner.epoch(task, 16, (1,))
    changed = moved(before, method.network.state_dict())
    assert {"embedding.W", "head.linear.weight"} <= changed
    assert any(name.startswith("blocks.0") for name in changed)
    assert any(name.startswith("blocks.1") for name in changed)


# Walks


class Oracle(nn.Module):
    """A block that knows the classes."""

    def __init__(self, y: Tensor) -> None:
        super().__init__()
        self.y = y

    def image(self, x: Tensor) -> Tensor:
        return x

    def forward(self, z: Tensor, seen: Tensor, t: Tensor | None = None) -> Tensor:
        return 1e3 * nn.functional.one_hot(self.y, CLASSES).to(z.dtype)


@pytest.mark.parametrize("name", ["noprop_dt", "noprop_ct"])
@pytest.mark.parametrize("embedding", ["one_hot", "learned", "prototype"])
def test_with_an_oracle_a_walk_ends_at_the_class(name: str, embedding: str) -> None:
    task = task_of(400)
    method = built(
        name, task, f"method.embedding={embedding}", *(["method.abar_clip=1e-4"] if name == "noprop_dt" else [])
    )
    method.network.blocks = nn.ModuleList([Oracle(task.test_y) for _ in method.network.blocks])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        end = method.walk(method.start(400, generator), [task.test_x] * len(method.network.blocks), generator)[-1]
    right = (method.scored(end).argmax(1) == task.test_y).float().mean()
    assert right >= 0.99
    if name == "noprop_dt":  # the walk's end is a draw from q(z_T | y)
        torch.testing.assert_close(
            (end - method.network.embedding.W[task.test_y]).std().item(), 0.01, atol=2e-3, rtol=0
        )


@given(st.integers(1, 60))
def test_with_the_true_velocity_the_flow_lands_on_the_embedding(steps: int) -> None:
    task = task_of()
    method = built("noprop_fm", task, f"method.inference_steps={steps}", "method.embedding=learned")
    generator = torch.Generator().manual_seed(steps)
    z = method.start(len(task.test_y), generator)
    end = method.network.embedding.W[task.test_y].detach()
    method.velocity = lambda *_: end - z
    torch.testing.assert_close(method.walk(z, [task.test_x], generator)[-1], end, atol=1e-5, rtol=0)


def test_a_walks_image_path_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of()
    for name, blocks in (("noprop_ct", 1), ("noprop_fm", 1), ("noprop_dt", 5), ("noprop_backprop", 5)):
        method = built(name, task)
        calls: list[int] = []
        for block in method.network.blocks:
            block.image.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        method.evaluate(task, QUIET)
        assert len(calls) == 2 * blocks  # once for the test images, once for the training images


@pytest.mark.parametrize("name", ["noprop_dt", "noprop_ct", "noprop_fm", "noprop_backprop"])
def test_the_checkpoint_is_all_that_evaluation_needs(name: str) -> None:
    task = task_of()
    method = built(name, task, "method.embedding=prototype", "method.block=conv")
    again = built(name, task_of(seed=1), "method.embedding=prototype", "method.block=conv")
    again.model.load_state_dict(method.model.state_dict())
    torch.rand(1)
    assert again.evaluate(task, QUIET) == method.evaluate(task, QUIET)


@pytest.mark.parametrize("name", ["noprop_ct", "noprop_fm", "noprop_backprop"])
@pytest.mark.parametrize("embedding", ["one_hot", "learned", "prototype"])
def test_gradients_reach_all_that_learns(name: str, embedding: str) -> None:
    task = task_of()
    method = built(name, task, f"method.embedding={embedding}", "method.head=posterior")
    method.set_gradients(task.train_x, task.train_y)
    missing = {key for key, parameter in method.model.named_parameters() if parameter.grad is None}
    unused = {"head.linear.weight", "head.linear.bias"} if name == "noprop_fm" and embedding == "one_hot" else set()
    assert missing == unused


def test_times_are_told_apart() -> None:
    found = positions(torch.tensor([0.0, 0.001, 0.5, 1.0]), 64)
    assert found.shape == (4, 64)
    torch.testing.assert_close(found.square().sum(1), torch.full((4,), 32.0))
    assert (torch.cdist(found, found)[~torch.eye(4, dtype=torch.bool)] > 0.1).all()


def saved_bytes(method: Any, calls: list[Callable[[], Any]]) -> int:
    """Most of the calls, each of which ends in a step."""
    found = []
    for call in calls:
        measured = SavedActivations()
        with measured:
            call()
        for epoch in (2, 3):
            measured.settle(epoch)
        found.append(measured.bytes)
    return max(found)


def test_saved_activations_are_flat_in_depth_and_those_of_back_propagation_grow() -> None:
    task = task_of()
    ours, theirs = {}, {}
    for depth in (2, 6):
        dt = built("noprop_dt", task, f"method.blocks={depth}")
        ours[depth] = saved_bytes(dt, [lambda one=one: one.epoch(task, 16, (0,)) for one in dt.learners()])
        chain = built("noprop_backprop", task, f"method.blocks={depth}")
        theirs[depth] = saved_bytes(
            chain, [lambda chain=chain: chain.set_gradients(task.train_x[:16], task.train_y[:16])]
        )
    assert ours[2] == ours[6]
    assert theirs[6] > 2 * theirs[2]
    assert ours[6] < theirs[6] / 3


# The adjoint baseline


def test_adjoint_gradients_are_those_of_the_unrolled_steps(double: None) -> None:
    pytest.importorskip("torchdiffeq", reason="the adjoint baseline needs the extra 'adjoint'")
    task = task_of()
    steps = 400
    method = built("noprop_adjoint", task, f"method.steps={steps}", "method.embedding=learned")
    torch.manual_seed(3)
    method.set_gradients(task.train_x[:8], task.train_y[:8])
    found = {name: parameter.grad.clone() for name, parameter in method.model.named_parameters()}
    method.model.zero_grad()
    torch.manual_seed(3)
    network = method.network
    z = torch.randn(8, 20)
    state = z, network.blocks[0].image(task.train_x[:8])
    flow = Flow(network.blocks[0], network.embedding.W)
    for number in range(steps):
        state = state[0] + flow(torch.tensor(number / steps), state)[0] / steps, state[1]
    nn.functional.cross_entropy(network.classify(state[0]), task.train_y[:8]).backward()
    for name, parameter in method.model.named_parameters():  # Euler backwards isn't the transpose of Euler
        assert (found[name] - parameter.grad).norm() <= 0.02 * parameter.grad.norm() + 1e-6, name


def test_adjoint_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    result = cli("method=noprop_adjoint", "dataset=digits", "progress=false")
    assert result.status == 2
    assert result.err == "runner: method=noprop_adjoint needs torchdiffeq: pip install 'forward-runner[adjoint]'\n"


# Commands


def acc(result: Result) -> float:
    assert result.status == 0, result.err
    return float(result.out.split("test_acc")[1].split()[0])


@pytest.mark.parametrize("name", ["noprop_dt", "noprop_backprop"])
def test_digits_are_learned(name: str, cli: Cli) -> None:
    assert acc(cli(f"method={name}", "dataset=digits", "method.epochs=20", "progress=false")) >= 94


@pytest.mark.parametrize(("name", "least"), [("noprop_ct", 60), ("noprop_fm", 85)])
def test_one_block_for_all_times_learns_digits(name: str, least: float, cli: Cli) -> None:
    line = [f"method={name}", "dataset=digits", "method.epochs=30", "method.lr=3e-3", "method.batch_size=64"]
    assert acc(cli(*line, "method.inference_steps=20", "progress=false")) >= least


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["method.workers=2", "method.embedding=learned"], "take method.workers=1 or method.embedding=one_hot"),
        (["method.batch_size=64", "dataset.train_size=40"], "must be 2 to 40, the number of training images"),
        (["method.batch_size=1"], "must be 2 to"),
        (["method.abar_clip=0.2", "method.blocks=20"], "flattens the schedule of 20 blocks"),
        (
            ["method.embedding=prototype", "dataset.train_size=7", "method.batch_size=2"],
            "needs a training image of every",
        ),
        (["method=noprop_ct", "method.gamma_1=-6"], "must be above method.gamma_0=-5.0"),
        (["method=noprop_fm", "method.time_embedding=63"], "must be even"),
    ],
)
def test_what_can_not_be_is_told_in_one_line(line: list[str], told: str, cli: Cli) -> None:
    chosen = [] if line[0].startswith("method=") else ["method=noprop_dt"]
    result = cli(*chosen, "dataset=digits", "progress=false", *line)
    assert result.status == 2
    assert told in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        ["+experiment=noprop_full", "method=noprop_dt"],
        ["+experiment=noprop_full", "method=noprop_backprop"],
        ["+experiment=noprop_full_continuous", "method=noprop_ct"],
        ["+experiment=noprop_full_continuous", "method=noprop_fm"],
        ["+experiment=noprop_full_images", "method=forward_forward"],
    ],
)
def test_the_papers_setting_starts(line: list[str], cli: Cli) -> None:
    small = ["dataset.train_size=130", "dataset.test_size=20", "limit=1", "progress=false", "method.epochs=1"]
    small += ["method.inference_steps=3"] if "noprop_full_continuous" in line[0] else []
    result = cli(*line, "dataset=digits", *small)
    assert result.status == 0, result.err
