"""Adapt the generator, and let it write the texts: on public text, on private text, or on private text with DP-SGD.

    adapted-on-public    epsilon 0: on what it wrote from the prompt, and as many texts of the public file. What
                         adaptation alone gains must not be sold as private gain
    adapted-on-private   epsilon infinity: on the clients' texts as they are, the ceiling of every adaptation
    dp-sgd-lora          one gradient a client, clipped, summed and noised in each step (user-level DP-SGD, Abadi et al.
                         2016) of a low-rank adapter; the noisy mean goes through Adam, which is post-processing

All three learn to answer the prompt that they are then asked: the public sentence with its invented examples. The noise
of `dp-sgd-lora` is simulated, see `comparison.federated`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from comparison.accounting import fedavg_multiplier
from comparison.costs import ClientCost, training_cost
from comparison.federated import Server, Vector, poisson_cohorts, train_federated, white_noise
from pretext.config.settings import Adapt, Config, Models
from pretext.errors import EngineError, NoSignal, UsageError
from pretext.evolution.public_texts import read_public_texts
from pretext.files import make_folder_atomically
from pretext.jobs.adapting import adapt_to_examples
from pretext.jobs.parts import Parts
from pretext.jobs.run import make_first_population
from pretext.models.adaptation import Example
from pretext.models.adapters import use_adapted
from pretext.models.learner import Learner, Row
from pretext.progress import show_progress
from pretext.prompts import Prompt
from pretext.screening.screen import Screen
from pretext.texts import Reservoir
from privacy import Budget

if TYPE_CHECKING:
    import torch

_MOMENTUM = 0.9
_POOL_FACTOR = 2  # texts of the pool, half written and half public, for each that is learned from


@dataclass(frozen=True)
class PrivateTraining:
    """How `dp-sgd-lora` trains.

    Attributes:
        rank: of the adapter; each further weight adds noise.
        steps: of the server.
        passes: how often a client takes part, in the mean.
        clip: L2 norm of a client's gradient at most.
        learning_rate: of Adam.
    """

    rank: int = 4
    steps: int = 12
    passes: int = 3
    clip: float = 1.0
    learning_rate: float = 1e-3

    @property
    def setting(self) -> str:
        """What a reader of the table must know."""
        return (
            f"rank {self.rank}, {self.steps} steps, {self.passes} passes, clip {self.clip:g}, "
            f"Adam with rate {self.learning_rate:g}; simulated noise"
        )


DP_SGD_TRAINING: Final = PrivateTraining()


def pool_of_public_texts(config: Config, public: str, parts: Parts) -> list[str]:
    """Return texts that the generator writes from the prompt, and as many of the public file, screened alike."""
    rng = np.random.default_rng([config.evolution.seed, 7])
    screen, size = Screen(config.screening), config.adapt.texts * _POOL_FACTOR // 2
    wider = config.model_copy(update={"evolution": config.evolution.model_copy(update={"population": size})})
    written = [candidate.text for candidate in make_first_population(wider, screen, parts.engine())]
    reservoir = Reservoir[str](size, rng.integers)
    for text in filter(screen.keep, read_public_texts(config.initial, public, screen.max_words)):
        reservoir.add(text)
    return [*written, *reservoir.sample]


def adapt_to(config: Config, texts: Sequence[str], folder: Path) -> Models:
    """Adapt the generator to a sample of texts, and return the models with it in place of the generator."""
    rng = np.random.default_rng([config.evolution.seed, 8])
    chosen = [texts[row] for row in rng.permutation(len(texts))[: config.adapt.texts]]
    prompt = prompt_of(config)
    adapt_to_examples(config, [Example(prompt, text) for text in chosen], folder, rng)
    return use_adapted(config.models, folder)


def prompt_of(config: Config) -> Prompt:
    """Return the prompt to learn and to ask: the first public sentence, with the invented examples."""
    return config.prompt_style.describe(config.initial.prompts[0], config.initial.examples)


class AdapterClients:
    """Clients who compute gradients of a low-rank adapter of the generator on their own texts.

    Args:
        config: generator and device.
        texts: of every client.
        training: rank.

    Attributes:
        start: the adapter's first weights, shape (d,); they change nothing yet.
    """

    def __init__(self, config: Config, texts: Sequence[Sequence[str]], training: PrivateTraining) -> None:
        settings = Adapt(method="lora", rank=training.rank)
        speed, seed = config.speed, config.evolution.seed
        self._learner = Learner(config.models.generator, settings, speed.device, speed.dtype, seed)
        prompt = prompt_of(config)
        encoded = ([self._learner.encode(prompt, text) for text in own] for own in texts)
        self._rows: list[list[Row]] = [[row for row in own if row is not None] for own in encoded]
        self._weights: list[torch.nn.Parameter] = self._learner.trained_weights
        self.start = _flatten(self._weights)

    def update(self, model: Vector, client: int) -> Vector:
        """Return the negative gradient of a client's loss in nats per token, shape (d,); zero without usable texts."""
        rows = self._rows[client]
        if not rows:
            return np.zeros_like(model)
        self._load(model)
        return -_flatten(self._learner.differentiate(rows))

    @property
    def cost(self) -> ClientCost:
        """Cost of a client with the mean number of tokens in a step; it reads the prompt once a step."""
        answers = sum(len(row.answer) for rows in self._rows for row in rows) / len(self._rows)
        prompt = next((len(row.prompt) for rows in self._rows for row in rows), 0)
        return training_cost(self._learner.size, len(self.start), prompt + answers)

    def save(self, model: Vector, folder: Path) -> None:
        """Save the adapter with these weights."""
        self._load(model)
        self._learner.save(folder)

    def _load(self, model: Vector) -> None:
        import torch

        offset = 0
        with torch.no_grad():
            for weight in self._weights:
                part = model[offset : offset + weight.numel()]
                weight.copy_(torch.from_numpy(part).view_as(weight))
                offset += weight.numel()


def train_adapter_with_noise(
    clients: AdapterClients, count: int, budget: Budget | None, seed: int, training: PrivateTraining
) -> Vector:
    """Return the adapter's weights after DP-SGD within the budget (unit client, relation add/remove).

    No budget means no noise. `seed` chooses who takes part; the noise is drawn from fresh entropy. The mean
    is over the expected cohort, as the number of clients is public in this comparison. The adapter must not be
    released: the noise is simulated.

    Args:
        clients: compute the gradients.
        count: number of clients.
        budget: of the whole training.
        seed: see above.
        training: steps, passes, clip and learning rate.
    """
    rate = training.passes / training.steps
    multiplier = fedavg_multiplier(budget, training.steps, rate)
    cohorts = poisson_cohorts(count, rate, training.steps, np.random.default_rng(seed))
    noises = white_noise(multiplier, len(clients.start), np.random.default_rng())
    server = Server(training.clip, training.learning_rate, _MOMENTUM, count * rate, adaptive=True)
    with show_progress("DP-SGD of the generator", count * training.passes) as advance:

        def update(model: Vector, client: int) -> Vector:
            advance(1)
            return clients.update(model, client)

        return train_federated(clients.start, cohorts, noises, update, server)


def adapt_with_noise(
    config: Config, texts: Sequence[Sequence[str]], budget: Budget, folder: Path
) -> tuple[Models, ClientCost]:
    """Train an adapter by DP-SGD on the clients' texts; return the models with it, and the cost of a client."""
    clients = AdapterClients(config, texts, DP_SGD_TRAINING)
    if not any(folder.glob("*.safetensors")):
        model = train_adapter_with_noise(clients, len(texts), budget, config.evolution.seed, DP_SGD_TRAINING)
        with make_folder_atomically(folder) as fresh:
            clients.save(model, fresh)
    return config.models.model_copy(update={"adapter": str(folder)}), clients.cost


def write_adapted(config: Config, models: Models) -> list[str]:
    """Let an adapted generator write the texts that a configuration asks for, asked as it has learned to be.

    Raises:
        NoSignal: almost nothing that it writes is usable, as after training by little but noise.
    """
    sampling = {"temperature": config.expansion.temperature, "top_p": config.expansion.top_p}
    changed = {
        "models": models,
        "evolution": config.evolution.model_copy(update={"population": config.expansion.texts}),
        "variation": config.variation.model_copy(update=sampling),
    }
    adapted = config.model_copy(update=changed)
    engine = Parts.of(adapted).engine()
    try:
        return [candidate.text for candidate in make_first_population(adapted, Screen(adapted.screening), engine)]
    except (EngineError, UsageError) as error:
        raise NoSignal(str(error)) from None


def _flatten(weights: Sequence[torch.Tensor]) -> Vector:
    return np.concatenate([weight.detach().flatten().cpu().numpy() for weight in weights]).astype(np.float32)
