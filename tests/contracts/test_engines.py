from __future__ import annotations

import importlib.util

import pytest

from pretext.engines import Engine, Sampling
from pretext.engines.openai import OpenAIEngine
from pretext.engines.scripted import ScriptedEngine
from pretext.engines.transformers import TransformersEngine
from pretext.engines.vllm import VLLMEngine
from pretext.errors import ModelError
from tests.contracts.engine_contract import BASE, EngineContract
from tests.contracts.server import ModelServer
from tests.contracts.vllm_server import MODEL, vllm_server

MEMORY_SHARE = 0.02
WORDS = ["the", "weather", "was", "fine", "and", "people", "went", "out", "to", "buy", "some", "bread"]


def _babble(prompt, rng):
    start = prompt.text.split()[0] if prompt.text.split() else "nothing"
    return " ".join([start, *rng.choice(WORDS, 40)])


class TestScripted(EngineContract):
    @pytest.fixture
    def engine(self) -> Engine:
        return ScriptedEngine(_babble)

    def test_the_seed_decides(self, engine):
        _the_seed_decides(engine)


class TestTransformers(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, checkpoint) -> Engine:
        return TransformersEngine(checkpoint, device="cpu", dtype="float32", batch_size=8)

    def test_the_seed_decides(self, engine):
        _the_seed_decides(engine)


@pytest.mark.slow
class TestTransformersEmbedded(EngineContract):
    longest_token = 32

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> Engine:
        return TransformersEngine("embedded", device="cpu")


class TestOpenAI(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, checkpoint):
        served = TransformersEngine(checkpoint, device="cpu", dtype="float32")
        with ModelServer(served) as server:
            yield OpenAIEngine("tiny", base_url=server.url, concurrency=8)


@pytest.mark.vllm
class TestVLLM(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, checkpoint):
        _skip_without_vllm(checkpoint)
        running = VLLMEngine(checkpoint, memory_share=MEMORY_SHARE)
        yield running
        running.close()

    def test_the_seed_decides(self, engine):
        _the_seed_decides(engine)

    def test_takes_thousands_of_prompts(self, engine):
        texts = engine.complete([BASE] * 3000, Sampling(max_tokens=4))
        assert None not in texts


@pytest.mark.vllm
@pytest.mark.slow
class TestVLLMEmbedded(EngineContract):
    longest_token = 32

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, checkpoint):
        _skip_without_vllm(checkpoint)
        running = VLLMEngine("embedded", memory_share=0.1)
        yield running
        running.close()


@pytest.mark.vllm
@pytest.mark.slow
class TestOpenAIOnVLLM(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, checkpoint, tmp_path_factory):
        _skip_without_vllm(checkpoint)
        with vllm_server(
            checkpoint, tmp_path_factory.mktemp("server") / "log", "--kv-cache-memory-bytes=268435456"
        ) as server:
            yield OpenAIEngine(MODEL, base_url=server.url)


def _the_seed_decides(engine: Engine) -> None:
    first, again, other = (engine.complete([BASE] * 4, Sampling(max_tokens=16, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def _skip_without_vllm(checkpoint: str) -> None:
    if importlib.util.find_spec("vllm") is None:
        with pytest.raises(ModelError, match=r"pretext\[cpu\]"):
            VLLMEngine(checkpoint)
        pytest.skip("vllm is not installed")
