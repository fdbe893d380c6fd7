"""Train a student on the clients' devices: what a client's update is, and the two federated methods.

Which weights are trained, and how, was chosen with `scripts/studies/tune_federated.py` on docstrings of installed
packages in place of private text: that costs no privacy and reveals nothing of the private sets. With dp-fedavg at
epsilon 1 (51 clients standing for 2,400, one run each) the held-out cross entropy of `tiny` fell from 5.753 to 5.599
nats with the gains of the normalizing layers alone, to 5.491 with the down projections too, and to 5.399 with all
weights, so all are trained: most of the noise falls into directions that hardly matter.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from comparison.accounting import fedavg_multiplier, ftrl_multiplier
from comparison.costs import ClientCost, training_cost
from comparison.federated import (
    Server,
    Vector,
    epoch_cohorts,
    poisson_cohorts,
    train_federated,
    tree_noise,
    white_noise,
)
from pretext.evaluation.student import CausalStudent
from pretext.evaluation.training import make_batches, predict_tokens
from pretext.progress import show_progress
from privacy import Budget

if TYPE_CHECKING:
    import torch

ON_DEVICE: Final = ("dp-fedavg", "dp-ftrl")


@dataclass(frozen=True)
class FederatedMethod:
    """How a federated method trains.

    Attributes:
        name: dp-fedavg (clients are sampled in each round, noise is independent) or dp-ftrl (each client once in an
            epoch, noise by tree aggregation).
        weight_pattern: pattern of the names of the weights that are trained.
        rounds: of the server; for dp-ftrl the steps of all epochs together.
        passes: how often a client takes part, in the mean (dp-fedavg) or exactly (dp-ftrl: epochs).
        local_epochs: passes of a client over its own texts in one round.
        local_rate: its learning rate (plain gradient descent, as in federated averaging).
        clip: L2 norm of its update at most.
        server_rate, momentum: of the server.
    """

    name: str
    weight_pattern: str
    rounds: int
    passes: int
    local_epochs: int
    local_rate: float
    clip: float
    server_rate: float
    momentum: float

    @property
    def setting(self) -> str:
        """What a reader of the table must know."""
        weights = "all weights" if self.weight_pattern == "." else self.weight_pattern
        return (
            f"trains {weights}, {self.rounds} rounds, {self.passes} passes, "
            f"local rate {self.local_rate:g}, clip {self.clip:g}, server rate {self.server_rate:g}, "
            f"momentum {self.momentum:g}; simulated noise"
        )


_FEDAVG: Final = FederatedMethod(
    name="dp-fedavg",
    weight_pattern=".",  # all
    rounds=20,
    passes=2,
    local_epochs=1,
    local_rate=0.3,
    clip=0.2,
    server_rate=0.3,
    momentum=0.9,
)
FEDERATED_METHODS: Final = {
    method.name: method for method in (_FEDAVG, replace(_FEDAVG, name="dp-ftrl", rounds=16, passes=1))
}
_BATCH_TOKENS = 1024


class Device:
    """A client's device: it takes the server's model and some steps on its own texts.

    Args:
        student: the public student to begin with; it is left as it is.
        texts: of every client.
        method: which weights, and how.

    Attributes:
        start: the weights to be trained as the public student has them, shape (d,).
    """

    def __init__(self, student: CausalStudent, texts: Sequence[Sequence[str]], method: FederatedMethod) -> None:
        self._student, self.method = student, method
        self._rows = [student.encode(list(own)) for own in texts]
        self._module = copy.deepcopy(student.module).train().requires_grad_(False)
        pattern = re.compile(method.weight_pattern)
        named = dict(self._module.named_parameters())
        self._weights = {name: weight for name, weight in named.items() if pattern.search(name)}
        for weight in self._weights.values():
            weight.requires_grad_()
        self.start = self._flatten_weights()

    @property
    def clients(self) -> int:
        """Number of clients."""
        return len(self._rows)

    def update(self, model: Vector, client: int) -> Vector:
        """Return how a client's training changes the trained weights, shape (d,)."""
        import torch

        self._load_weights(model)
        weights = list(self._weights.values())
        for _ in range(self.method.local_epochs):
            for batch in make_batches(self._rows[client], _BATCH_TOKENS):
                logits, targets = predict_tokens(self._module, batch)
                loss = torch.nn.functional.cross_entropy(logits, targets)
                gradients = torch.autograd.grad(loss, weights)
                with torch.no_grad():
                    for weight, gradient in zip(weights, gradients, strict=True):
                        weight.sub_(gradient, alpha=self.method.local_rate)
        return np.subtract(self._flatten_weights(), model)

    def make_student(self, model: Vector) -> CausalStudent:
        """Return the student with the trained weights."""
        self._load_weights(model)
        return self._student.with_weights({name: weight.detach() for name, weight in self._weights.items()})

    @property
    def cost(self) -> ClientCost:
        """Cost of a client with the mean number of tokens in a round."""
        sizes = [weight.numel() for weight in self._module.parameters()]
        tokens = sum(len(row) - 1 for rows in self._rows for row in rows) / self.clients
        return training_cost(sum(sizes), len(self.start), tokens * self.method.local_epochs)

    def _load_weights(self, model: Vector) -> None:
        import torch

        offset = 0
        with torch.no_grad():
            for weight in self._weights.values():
                part = model[offset : offset + weight.numel()]
                weight.copy_(torch.from_numpy(part).view_as(weight))
                offset += weight.numel()

    def _flatten_weights(self) -> Vector:
        parts: list[torch.Tensor] = [weight.detach().flatten().cpu() for weight in self._weights.values()]
        return np.concatenate([part.numpy() for part in parts]).astype(np.float32)


def train_on_devices(device: Device, budget: Budget | None, seed: int, *, noise_share: float = 1.0) -> CausalStudent:
    """Return the student after federated training within the budget (unit client, relation add/remove).

    No budget means no noise. `seed` chooses who takes part and when; the noise is drawn from fresh entropy.
    The server divides by the number of clients as by a public estimate. `noise_share` scales the noise down for trials
    in which few clients stand for many; they have no guarantee. The student must not be released: see
    `comparison.federated`.
    """
    method, start, clients = device.method, device.start, device.clients
    rng, entropy = np.random.default_rng(seed), np.random.default_rng()
    steps = method.rounds // method.passes
    if method.name == "dp-fedavg":
        noise = noise_share * fedavg_multiplier(budget, method.rounds, 1 / steps)
        cohorts, noises = (
            poisson_cohorts(clients, 1 / steps, method.rounds, rng),
            white_noise(noise, len(start), entropy),
        )
    else:
        noise = noise_share * ftrl_multiplier(budget, method.passes, steps)
        cohorts, noises = (
            epoch_cohorts(clients, method.passes, steps, rng),
            tree_noise(noise, len(start), steps, entropy),
        )
    server = Server(method.clip, method.server_rate, method.momentum, clients / steps)
    with show_progress(f"Federated training, {method.name}", clients * method.passes) as advance:

        def update(model: Vector, client: int) -> Vector:
            advance(1)
            return device.update(model, client)

        return device.make_student(train_federated(start, cohorts, noises, update, server))
