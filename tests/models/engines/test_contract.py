from __future__ import annotations

import importlib.util

import pytest

from pretext.errors import ModelError, UsageError
from pretext.models.engines import Engine, Sampling
from pretext.models.engines.openai import OpenAIEngine
from pretext.models.engines.ray import RayEngine
from pretext.models.engines.scripted import ScriptedEngine
from pretext.models.engines.transformers import TransformersEngine
from pretext.models.engines.vllm import VLLMEngine
from pretext.prompts import Prompt
from tests.models.engines.engine_contract import BASE, EngineContract
from tests.support.server import ModelServer
from tests.support.vllm_server import MODEL, vllm_server

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
        _check_seed_decides(engine)


@pytest.mark.slow
class TestTransformers(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, checkpoint) -> Engine:
        return TransformersEngine(checkpoint, device="cpu", dtype="float32", batch_size=8)

    def test_the_seed_decides(self, engine):
        _check_seed_decides(engine)


@pytest.mark.slow
class TestTransformersEmbedded(EngineContract):
    longest_token = 32

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> Engine:
        return TransformersEngine("embedded", device="cpu")


@pytest.mark.slow
class TestOpenAI(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, checkpoint):
        with ModelServer(TransformersEngine(checkpoint, device="cpu", dtype="float32")) as server:
            yield OpenAIEngine("tiny", base_url=server.url, concurrency=8)


@pytest.mark.vllm
class TestVLLM(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, checkpoint):
        _skip_without_vllm(checkpoint)
        engine = VLLMEngine(checkpoint, memory_share=MEMORY_SHARE)
        yield engine
        engine.close()

    def test_the_seed_decides(self, engine):
        _check_seed_decides(engine)

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
        engine = VLLMEngine("embedded", memory_share=0.1)
        yield engine
        engine.close()


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


@pytest.mark.ray
@pytest.mark.filterwarnings("default")  # Ray uses what other packages deprecate, and leaves sockets open
class TestRay(EngineContract):
    """Two workers on this machine, with vLLM in them."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, checkpoint):
        if importlib.util.find_spec("ray") is None:
            with pytest.raises(ModelError, match=r"pretext\[ray,vllm\]"):
                RayEngine(checkpoint, workers=2)
            pytest.skip("ray is not installed")
        engine = RayEngine(checkpoint, workers=2, memory_share=2 * MEMORY_SHARE)
        yield engine
        engine.close()
        import ray

        ray.shutdown()

    def test_a_worker_that_dies_is_replaced_and_its_prompts_are_answered(self, engine):
        """Kill a worker when the first answers arrive; Ray draws its prompts again."""
        killed = []

        def kill(prompts):
            if prompts and not killed:
                killed.append(_find_worker())
                killed[0].kill()

        texts = engine.complete([Prompt(f"{number} of many") for number in range(1000)], Sampling(max_tokens=32), kill)
        assert killed and not killed[0].is_running()
        assert len(texts) == 1000 and None not in texts
        assert len(set(texts)) > 900

    def test_a_model_that_cannot_be_loaded_is_told(self, engine, tmp_path):
        from tests.support import tiny

        folder = tiny.build(tmp_path / "model")
        (folder / "model.safetensors").write_bytes(b"rubbish")
        with pytest.raises(ModelError, match="cannot load the model"):
            RayEngine(str(folder), workers=1, memory_share=MEMORY_SHARE)

    def test_takes_no_adapter(self, checkpoint):
        with pytest.raises(UsageError, match="takes no LoRA adapter"):
            RayEngine(checkpoint, adapter="some/adapter")


def _find_worker():
    """Find one of Ray's processes that hold the model."""
    import psutil

    children = psutil.Process().children(recursive=True)
    return next(process for process in children if "MapWorker(MapBatches(vLLM" in " ".join(process.cmdline()))


def _check_seed_decides(engine: Engine) -> None:
    first, same_seed, new_seed = (engine.complete([BASE] * 4, Sampling(max_tokens=16, seed=seed)) for seed in (1, 1, 2))
    assert first == same_seed
    assert first != new_seed


def _skip_without_vllm(checkpoint: str) -> None:
    if importlib.util.find_spec("vllm") is None:
        with pytest.raises(ModelError, match=r"pretext\[cpu\]"):
            VLLMEngine(checkpoint)
        pytest.skip("vllm is not installed")
