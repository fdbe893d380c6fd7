from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from pretext.engines import Engine, Sampling
from pretext.engines.openai import OpenAIEngine
from pretext.engines.scripted import ScriptedEngine
from pretext.engines.transformers import TransformersEngine
from pretext.engines.vllm import VLLMEngine
from pretext.errors import ModelError
from tests.contracts.engine_contract import BASE, EngineContract
from tests.contracts.server import ModelServer

START_SECONDS = 300
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
@pytest.mark.filterwarnings("default")  # vLLM uses what other packages deprecate
class TestVLLM(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, checkpoint) -> Engine:
        _skip_without_vllm(checkpoint)
        return VLLMEngine(checkpoint)

    def test_the_seed_decides(self, engine):
        _the_seed_decides(engine)

    def test_leaves_the_global_generator_alone(self, engine):
        import torch

        before = torch.random.get_rng_state()
        engine.complete([BASE], Sampling(max_tokens=4))
        assert torch.equal(before, torch.random.get_rng_state())

    @pytest.mark.slow
    def test_takes_thousands_of_prompts(self, engine):
        texts = engine.complete([BASE] * 3000, Sampling(max_tokens=4))
        assert None not in texts


@pytest.mark.vllm
@pytest.mark.filterwarnings("default")  # vLLM uses what other packages deprecate
@pytest.mark.slow
class TestOpenAIOnVLLM(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, checkpoint, tmp_path_factory):
        _skip_without_vllm(checkpoint)
        with _vllm_server(checkpoint, tmp_path_factory.mktemp("server") / "log") as url:
            yield OpenAIEngine("tiny", base_url=url)


def _the_seed_decides(engine: Engine) -> None:
    first, again, other = (engine.complete([BASE] * 4, Sampling(max_tokens=16, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def _skip_without_vllm(checkpoint: str) -> None:
    if importlib.util.find_spec("vllm") is None:
        with pytest.raises(ModelError, match=r"pretext\[cpu\]"):
            VLLMEngine(checkpoint)
        pytest.skip("vllm is not installed")


@contextmanager
def _vllm_server(checkpoint: str, log: Path):
    """vLLM's own server in a process group of its own, so that its workers end with it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = f"--model {checkpoint} --served-model-name tiny --host 127.0.0.1 --port {port} --enforce-eager"
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        *flags.split(),
        "--gpu-memory-utilization=0.3",
    ]
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": cores,
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_ready(process: subprocess.Popen, url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    pytest.fail(f"vLLM's server did not start:\n{log.read_text(errors='replace')[-4000:]}")
