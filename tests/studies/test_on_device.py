"""A real student, learning on its clients' devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from comparison.on_device import FEDERATED_METHODS, Device, FederatedMethod, train_on_devices
from hypothesis import given, settings
from hypothesis import strategies as st

from pretext.evaluation.student import CausalStudent
from privacy import Budget

pytestmark = pytest.mark.slow

# Everything is trained here, at rates that suit a student with random weights.
PLANTED = {
    "dp-fedavg": FederatedMethod("dp-fedavg", ".", 24, 6, 1, 1.0, 0.5, 2.0, 0.5),
    "dp-ftrl": FederatedMethod("dp-ftrl", ".", 24, 6, 1, 1.0, 0.5, 2.0, 0.5),
}
ENDLESS = None


def clients(count: int = 40) -> list[list[str]]:
    """Everybody says the same few things."""
    sentences = ["kernel driver screen boot", "garden soup recipe flower", "disk mount sound network"]
    return [[sentences[i % 3], sentences[(i + 1) % 3]] for i in range(count)]


@pytest.mark.parametrize("name", list(PLANTED))
def test_what_everybody_says_is_learned_without_noise(student: CausalStudent, name: str) -> None:
    device = Device(student, clients(), PLANTED[name])
    trained = train_on_devices(device, ENDLESS, 0)
    before, after = (model.score(clients()[0]).cross_entropy for model in (student, trained))
    assert after < before - 1.0


@pytest.mark.parametrize("name", list(PLANTED))
def test_with_a_tiny_budget_nothing_is_left_of_it(student: CausalStudent, name: str) -> None:
    """The twin: at epsilon 0.01 among 40 clients the noise is hundreds of times the sum of all updates."""
    trained = train_on_devices(Device(student, clients(), PLANTED[name]), Budget(0.01, 1e-6), 0)
    assert trained.score(clients()[0]).cross_entropy > student.score(clients()[0]).cross_entropy


def test_the_student_is_left_as_it_was_and_nothing_else_is_trained(student: CausalStudent) -> None:
    before = {name: weight.clone() for name, weight in student.module.state_dict().items()}
    device = Device(student, clients(), replace(PLANTED["dp-fedavg"], weight_pattern="norm"))
    trained = train_on_devices(device, ENDLESS, 0)
    for name, weight in trained.module.state_dict().items():
        assert torch.equal(student.module.state_dict()[name], before[name])
        assert torch.equal(weight, before[name]) == ("norm" not in name)


def test_a_device_begins_anew_every_time(student: CausalStudent) -> None:
    """Else one cell's noise-free or dearer model would be where the next one begins."""
    device = Device(student, clients(), PLANTED["dp-fedavg"])
    first, second = (train_on_devices(device, ENDLESS, 0).module.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_update_depends_on_the_model_and_the_clients_own_texts_alone(student: CausalStudent) -> None:
    device = Device(student, clients(), PLANTED["dp-fedavg"])
    start = device.start.copy()
    first = device.update(start, 3)
    device.update(start + 1, 5)
    np.testing.assert_array_equal(device.update(start, 3), first)
    alone = Device(student, clients()[3:4], PLANTED["dp-fedavg"])
    np.testing.assert_array_equal(alone.update(alone.start, 0), first)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=4))
def test_whatever_a_client_says_it_moves_the_model_by_the_clip_norm_at_most(texts: Sequence[str]) -> None:
    from comparison.federated import Server, train_federated, white_noise

    trained = small()
    device = Device(trained, [texts], replace(PLANTED["dp-fedavg"], local_rate=100.0))
    noises = white_noise(0.0, len(device.start), np.random.default_rng(0))
    moved = (
        train_federated(device.start, [np.array([0])], noises, device.update, Server(0.5, 1.0, 0.0, 1.0)) - device.start
    )
    assert np.linalg.norm(moved.astype(np.float64)) <= 0.5 * (1 + 1e-4)


def small() -> CausalStudent:
    from pretext.evaluation.tiny import make_untrained_student

    return make_untrained_student(
        ["some words"], vocabulary=300, hidden_size=8, intermediate_size=8, num_hidden_layers=1
    )


def test_costs_count_what_is_sent(student: CausalStudent) -> None:
    device = Device(student, clients(), FEDERATED_METHODS["dp-ftrl"])
    cost = device.cost
    assert cost.bytes_up == cost.bytes_down == 4 * len(device.start)
    sizes = sum(weight.numel() for weight in student.module.parameters())
    tokens = np.mean([sum(len(row) - 1 for row in student.encode(own)) for own in clients()])
    assert cost.flops == pytest.approx((4 * sizes + 2 * len(device.start)) * tokens)
