"""Generators that are adapted for comparison: on text as it is, and by noisy gradients of clients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from comparison.adapted import (
    AdapterClients,
    PrivateTraining,
    adapt_to,
    adapt_with_noise,
    pool_of_public_texts,
    prompt_of,
    train_adapter_with_noise,
    write_adapted,
)
from comparison.domains import DOMAINS
from comparison.federated import Vector
from comparison.methods import ADAPTED_METHODS, DP_SGD, Scale, config_of

from pretext.config.settings import Config
from pretext.models.engines.scripted import ScriptedEngine
from pretext.screening.screen import Screen
from privacy import Budget
from tests.support import tiny
from tests.support.runs import make_parts, reply

pytestmark = pytest.mark.slow
TRAINING = PrivateTraining(rank=4, steps=8, passes=8, clip=1.0, learning_rate=0.03)
SENTENCES = ("the kernel driver fails at boot", "my disk does not mount again", "sound is gone since the update")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.build(tmp_path_factory.mktemp("generator")))


@pytest.fixture
def config(checkpoint: str) -> Config:
    overrides = ("adapt.texts=64", "adapt.passes=4", "adapt.learning_rate=0.01", "speed.device='cpu'")
    scale = Scale(16, 2, 100, 12, 24, 3, 1e-3, generator=checkpoint, overrides=overrides)
    return config_of(DP_SGD, 1.0, 0, scale, DOMAINS["irc_ubuntu"], "public.jsonl", "irc_ubuntu", 1000)


def clients(count: int = 3) -> list[list[str]]:
    """Everybody says the same few things."""
    return [[SENTENCES[i % 3], SENTENCES[(i + 1) % 3]] for i in range(count)]


def measure_loss(adapter: AdapterClients, model: Vector) -> float:
    """Return the loss of the first client's texts in nats per token."""
    adapter.update(model, 0)  # puts the weights into the generator
    return adapter._learner.measure(adapter._rows[0])


def test_dp_sgd__without_noise__learns_what_everybody_says(config: Config) -> None:
    adapter = AdapterClients(config, clients(), TRAINING)
    model = train_adapter_with_noise(adapter, 3, None, 0, TRAINING)
    assert measure_loss(adapter, model) < measure_loss(adapter, adapter.start) - 4


def test_dp_sgd__with_a_tiny_budget__learns_nothing_of_it(config: Config) -> None:
    """The twin: at epsilon 0.01 among 3 clients the noise is hundreds of times the sum of all gradients."""
    adapter = AdapterClients(config, clients(), TRAINING)
    model = train_adapter_with_noise(adapter, 3, Budget(0.01, 1e-6), 0, TRAINING)
    assert measure_loss(adapter, model) > measure_loss(adapter, adapter.start) - 4


def test_update__of_a_client__depends_on_the_model_and_its_own_texts_alone(config: Config) -> None:
    adapter = AdapterClients(config, [*clients(2), [" "], []], TRAINING)
    first = adapter.update(adapter.start, 0)
    adapter.update(adapter.start + 1, 1)
    np.testing.assert_array_equal(adapter.update(adapter.start, 0), first)
    assert np.abs(first).max() > 0
    assert not adapter.update(adapter.start, 2).any() and not adapter.update(adapter.start, 3).any()
    alone = AdapterClients(config, clients(1), TRAINING)
    np.testing.assert_array_equal(alone.start, adapter.start)
    np.testing.assert_allclose(alone.update(alone.start, 0), first, atol=1e-6)


def test_dp_sgd__a_second_time__goes_on_from_the_folder(config: Config, tmp_path: Path) -> None:
    models, cost = adapt_with_noise(config, clients(), Budget(1.0, 1e-6), tmp_path / "adapter")
    before = (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes()
    again, _ = adapt_with_noise(config, clients(), Budget(1.0, 1e-6), tmp_path / "adapter")
    assert again == models and (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes() == before
    assert cost.bytes_up == cost.bytes_down > 0 and cost.flops > 0


def test_adapted__on_texts__writes_such_texts(config: Config, tmp_path: Path) -> None:
    places = ("here", "there", "at home", "at work", "in the lab", "on the train", "next door", "upstairs")
    texts = [f"{sentence} {place}" for sentence in SENTENCES for place in places] * 3
    written = write_adapted(config, adapt_to(config, texts, tmp_path / "adapter"))
    assert 1 <= len(written) <= 12
    assert any(text.startswith(SENTENCES) for text in written)  # a model with random weights would write none


def test_public_pool__of_a_file_and_a_prompt__holds_as_many_of_both(config: Config, public_file: Path) -> None:
    parts = make_parts(config, ScriptedEngine(reply))
    pool = pool_of_public_texts(config, str(public_file), parts)
    public = public_file.read_text()
    assert sum(text in public for text in pool) == 60  # all that there are, below half of the pool
    assert len(pool) == 64 + 60 and all(map(Screen(config.screening).keep, pool))


def test_adapted_methods__ask_the_same_prompt(checkpoint: str) -> None:
    scale = Scale(16, 2, 100, 12, 24, 3, 1e-3, generator=checkpoint)
    prompts = {
        prompt_of(config_of(method, 1.0, 0, scale, DOMAINS["irc_ubuntu"], "public.jsonl", "irc_ubuntu", 1000))
        for method in ADAPTED_METHODS
    }
    (prompt,) = prompts
    assert all(example in prompt.text for example in DOMAINS["irc_ubuntu"].examples)
