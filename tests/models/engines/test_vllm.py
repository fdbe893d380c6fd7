"""vLLM in its process: what it must not touch, how it ends, what it loads. The contract is in test_contract.py."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig

import pretext.models.engines.vllm
from pretext.config.settings import Adapt, Models, Speed
from pretext.errors import EngineError, ModelError, UsageError
from pretext.models.adaptation import Example, adapt
from pretext.models.adapters import use_adapted
from pretext.models.engines import Sampling, open_engine
from pretext.models.engines.transformers import TransformersEngine
from pretext.models.engines.vllm import VLLMEngine, check_quantization, choose_vllm_dtype, compute_cache_bytes
from pretext.prompts import Prompt, make_few_shot_prompt
from privacy import DiscreteGaussian, bounded_sum
from tests.models.engines.test_subprocess import _gone
from tests.support import tiny
from tests.support.runs import rows_of, write_rows

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed"),
]
SHARE = 0.02  # of the memory
GREEDY = Sampling(max_tokens=12, temperature=0.0)
PROMPTS = [Prompt("The weather"), Prompt("I would like"), Prompt("What do you think", chat=True)]
DRIVER = f"""
import sys
from pretext.config.settings import Models, Speed
from pretext.models.engines import Sampling, open_engine
from pretext.models.engines.transformers import TransformersEngine
from pretext.models.engines.vllm import VLLMEngine
from pretext.prompts import Prompt, make_few_shot_prompt
engine = VLLMEngine(sys.argv[1], memory_share={SHARE})
print(engine.pid, flush=True)
engine.complete([Prompt("The weather")] * 20_000, Sampling(max_tokens=400), lambda n: print(n, flush=True))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny.build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def engine(checkpoint):
    vllm = VLLMEngine(str(checkpoint), memory_share=SHARE)
    yield vllm
    vllm.close()


@pytest.fixture(scope="module")
def plain(engine):
    """The model's answers without an adapter and unquantized."""
    return engine.complete(PROMPTS, GREEDY)


def _generators() -> list[object]:
    import torch

    return [random.getstate(), str(np.random.get_state()), torch.random.get_rng_state().tolist()]


# It touches nothing of ours


def test_leaves_every_generator_of_this_process_alone(checkpoint, engine):
    before = _generators()
    engine.complete(PROMPTS, Sampling(max_tokens=4, seed=7))
    assert _generators() == before
    assert "vllm" not in sys.modules


def test_noise_does_not_follow_the_seed(engine):
    zero = np.zeros(1, np.int64)
    bounded = bounded_sum(zero, zero, np.ones(1), dimension=64, norm_squared=Fraction(1))
    noise = []
    for _ in range(2):
        engine.complete(PROMPTS, Sampling(max_tokens=4, seed=7))
        noise.append(DiscreteGaussian(2.0**30, bounded.grid).draw(bounded).tolist())
    assert noise[0] != noise[1]


def test_starting_leaves_generators_and_streams_alone(checkpoint, capfd):
    before = _generators()
    second = VLLMEngine(str(checkpoint), memory_share=SHARE)
    assert _generators() == before
    pid = second.pid
    assert "vllm_worker" in Path(f"/proc/{pid}/cmdline").read_text()
    del second
    assert _gone(pid)
    assert capfd.readouterr() == ("", "")


# How it works


def test_reports_prompts_as_they_end(engine):
    reported = []
    engine.complete([Prompt("The weather")] * 300, Sampling(max_tokens=8), reported.append)
    assert sum(reported) == 300
    assert len(reported) > 100


def test_the_prefix_that_variations_of_a_text_share_is_computed_once(engine):
    examples = ["The weather was fine.", "I would like one cup of coffee.", "What do you think of the phone?"]
    prompt = make_few_shot_prompt(examples, None, chat=False)
    read, cached = engine.usage.read, engine.cached_tokens
    engine.complete([prompt] * 8, GREEDY)
    assert engine.cached_tokens - cached > 0.6 * (engine.usage.read - read)


# How it ends


def test_killed_in_the_middle_it_says_so_and_starts_anew(engine, plain):
    threading.Timer(1.0, lambda: os.kill(engine.pid, signal.SIGKILL)).start()
    with pytest.raises(EngineError, match=r"killed from outside .* then resume\.$"):
        engine.complete([Prompt("The weather")] * 20_000, Sampling(max_tokens=400))
    assert engine.complete(PROMPTS, GREEDY) == plain


def test_a_request_that_vllm_refuses_is_one_sentence(engine, monkeypatch):
    monkeypatch.setattr("pretext.models.engines.vllm.encode_prompt", lambda prompt, tokenizer: [10**6])
    with pytest.raises(EngineError, match=r"^vLLM failed in the middle of a batch \(.*1000000.* then resume\.$"):
        engine.complete(PROMPTS, GREEDY)
    assert _gone(engine.pid)


@pytest.mark.parametrize(
    ("victim", "number", "error"),
    [("child", signal.SIGKILL, ModelError), ("parent", signal.SIGINT, KeyboardInterrupt)],
)
def test_killed_or_interrupted_while_it_loads(checkpoint, victim, number, error):
    def strike() -> None:
        children.append(_wait_for_worker(os.getpid(), known))
        os.kill(children[0] if victim == "child" else os.getpid(), number)

    known = _find_workers(os.getpid())  # the fixture's engine may be running
    children: list[int] = []
    threading.Thread(target=strike).start()
    with pytest.raises(error, match="killed from outside .*; take a smaller" if error is ModelError else None):
        VLLMEngine(str(checkpoint), memory_share=SHARE)
    assert _gone(children[0])


def test_no_orphan_when_the_parent_is_killed(checkpoint):
    with subprocess.Popen([sys.executable, "-c", DRIVER, str(checkpoint)], stdout=subprocess.PIPE, text=True) as driver:
        pid = int(driver.stdout.readline())
        driver.stdout.readline()
        assert not _ended(pid)
        driver.kill()
    assert _gone(pid)


def test_control_c_in_a_run_is_an_orderly_end(checkpoint, tmp_path, home):
    private = write_rows(tmp_path / "private.jsonl", rows_of())
    settings = ["speed.engine=vllm", f"speed.memory_share={SHARE}", f"models.generator={checkpoint}"]
    settings += ["evolution.population=20000", "variation.max_tokens=400", "data.client_column=client_id"]
    command = [sys.executable, "-m", "pretext", "run", "--private", str(private), "--epsilon", "10", "--prompt", "Talk"]
    command += [
        "--delta",
        "0.001",
        "--out",
        str(tmp_path / "run"),
        *(part for setting in settings for part in ("--set", setting)),
    ]
    environment = os.environ | {"VLLM_LOGGING_LEVEL": "INFO"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as run:
        child = _wait_for_worker(run.pid)
        _wait_for("init engine", Path(f"/proc/{child}/fd/1"))
        time.sleep(2)
        run.send_signal(signal.SIGINT)
        stderr = run.stderr.read()
    assert run.returncode == 4
    assert stderr.splitlines()[-1].endswith(f"pretext resume {tmp_path / 'run'}")
    assert _gone(child)


def _ended(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def _find_workers(pid: int) -> set[int]:
    """Find the vLLM processes that this process has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child) for child in children if "vllm_worker" in Path(f"/proc/{child}/cmdline").read_text()}


def _wait_for_worker(pid: int, known: Collection[int] = ()) -> int:
    """Wait until this process has started a vLLM process besides those already known; return its id."""
    while not _ended(pid):
        if workers := _find_workers(pid).difference(known):
            return workers.pop()
        time.sleep(0.1)
    pytest.fail("the run ended before it started vLLM")


def _wait_for(words: str, log: Path) -> None:
    while words not in log.read_text(errors="replace"):
        time.sleep(0.1)


# What it loads


def test_an_adapter_changes_the_answers_as_its_merged_weights_do(checkpoint, plain, tmp_path):
    adapter, merged = tiny.build_adapter(checkpoint, tmp_path)
    speed = Speed(engine="vllm", dtype="float32", memory_share=SHARE)
    adapted = open_engine(Models(generator=str(checkpoint), adapter=str(adapter)), speed).complete(PROMPTS, GREEDY)
    assert adapted != plain
    twin = TransformersEngine(str(merged), device="cpu", dtype="float32").complete(PROMPTS, GREEDY)
    # vLLM leaves out a character whose last bytes are still missing.
    assert [text.rstrip("\ufffd") for text in adapted] == [text.rstrip("\ufffd") for text in twin]


def test_a_short_context_and_a_tokenizer_without_pad_token(checkpoint, plain, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "tiny")
    tiny.change_settings(folder / "tokenizer_config.json", pad_token=None)
    short = VLLMEngine(str(folder), max_length=100, memory_share=SHARE)
    assert short.complete(PROMPTS, GREEDY) == plain
    with pytest.raises(EngineError, match="context of 100 tokens"):
        short.complete([Prompt("word " * 100)], GREEDY)
    short.close()


@pytest.mark.skipif("AVX512" not in torch.backends.cpu.get_cpu_capability(), reason="vLLM is wrong in 8 bits here")
def test_quantized_weights(checkpoint, plain, tmp_path):
    quantized = VLLMEngine(str(tiny.build_quantized(checkpoint, tmp_path / "int8")), memory_share=SHARE)
    texts = quantized.complete(PROMPTS, GREEDY)
    quantized.close()
    assert all(texts)
    assert sum(text[:3] == twin[:3] for text, twin in zip(texts, plain, strict=True)) >= 2


def test_8_bits_are_refused_where_vllm_computes_them_wrongly(checkpoint, tmp_path, monkeypatch):
    folder = tiny.build_quantized(checkpoint, tmp_path / "int8")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with pytest.raises(ModelError, match="computes in 8 bits"):
        VLLMEngine(str(folder), memory_share=SHARE)
    check_quantization("plain", AutoConfig.from_pretrained(checkpoint), cuda=False)
    check_quantization("int8", AutoConfig.from_pretrained(folder), cuda=True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    check_quantization("int8", AutoConfig.from_pretrained(folder), cuda=False)


def test_a_processor_that_is_slow_at_bfloat16_computes_in_float32(checkpoint, monkeypatch):
    config = AutoConfig.from_pretrained(checkpoint)
    for preferred, expected in (("float32", "float32"), ("bfloat16", None)):
        monkeypatch.setattr(pretext.models.engines.vllm, "choose_dtype", lambda device, *sizes, own=preferred: own)
        assert choose_vllm_dtype(config, None, cuda=False) == expected
        assert choose_vllm_dtype(config, None, cuda=True) is None
        assert choose_vllm_dtype(config, "awq", cuda=False) is None


def test_wider_weights_leave_less_for_the_cache(checkpoint):
    config = AutoConfig.from_pretrained(checkpoint)
    weights = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
    stored, double = (compute_cache_bytes("tiny", checkpoint, config, dtype, 0.5) for dtype in (None, "float64"))
    assert stored - double == weights * (8 // config.dtype.itemsize - 1)


# What it refuses


def test_a_model_that_does_not_fit(checkpoint):
    with pytest.raises(
        ModelError, match=r"is too large: its weights take 0\.00 GiB, and speed\.memory_share = 0\.0001"
    ):
        VLLMEngine(str(checkpoint), memory_share=0.0001)


def test_a_context_longer_than_the_models(checkpoint):
    with pytest.raises(
        UsageError, match=f"max_length is 513, but the context of the model .* is {tiny.CONTEXT} tokens"
    ):
        VLLMEngine(str(checkpoint), max_length=tiny.CONTEXT + 1)


def test_a_name_that_no_model_has():
    with pytest.raises(ModelError, match=r"'nobody/nothing' cannot be loaded \(.*\.$"):
        VLLMEngine("nobody/nothing")


def test_a_masked_model(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "masked")
    tiny.change_settings(folder / "config.json", architectures=["BertForMaskedLM"], model_type="bert")
    with pytest.raises(ModelError, match="masked"):
        VLLMEngine(str(folder))


def test_a_kind_of_model_that_vllm_does_not_know(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "unknown")
    tiny.change_settings(folder / "config.json", architectures=["NobodysForCausalLM"])
    with pytest.raises(
        ModelError,
        match=r"vLLM cannot start with .*Nobodys.*not supported for now\); .* or use the engine transformers\.$",
    ):
        VLLMEngine(str(folder), memory_share=SHARE)


def test_an_adapted_generator__lora_and_full__answers_as_transformers_does(checkpoint, tmp_path):
    speed = Speed(engine="vllm", memory_share=SHARE, device="cpu", dtype="float32")
    examples = [
        Example(prompt, f"{count} loaves of rye") for prompt in PROMPTS for count in ("two", "six", "ten", "no")
    ]
    for method in ("lora", "full"):
        folder = tmp_path / method
        settings = Adapt(method=method, rank=4, passes=4, learning_rate=0.01, batch_size=8)
        adapt(Models(generator=str(checkpoint)), settings, speed, examples * 8, examples, folder, 0)
        models = use_adapted(Models(generator=str(checkpoint)), folder)
        expected = open_engine(models, speed.model_copy(update={"engine": "transformers"})).complete(PROMPTS, GREEDY)
        assert all("loaves" in text for text in expected)
        vllm = open_engine(models, speed)
        assert vllm.complete(PROMPTS, GREEDY) == expected
        vllm.close()


def test_a_folder_without_an_adapter(checkpoint, tmp_path):
    with pytest.raises(ModelError, match="holds no LoRA adapter"):
        VLLMEngine(str(checkpoint), adapter=str(tmp_path))
