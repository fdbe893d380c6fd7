from __future__ import annotations

import subprocess
import sys

import pytest

from pretext.config.settings import Models, Speed
from pretext.errors import EngineError, ModelError, UsageError
from pretext.models.engines import Sampling, cut_at_stop, open_engine
from pretext.models.engines.openai import OpenAIEngine
from pretext.models.engines.scripted import ScriptedEngine
from pretext.models.engines.transformers import TransformersEngine
from pretext.prompts import Prompt
from tests.support import tiny

SHORT = Sampling(max_tokens=4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(tiny.build(tmp_path_factory.mktemp("tiny")))


def test_sampling_is_checked_at_the_door():
    for wrong in (
        {"max_tokens": 0},
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"stop": ("",)},
        {"seed": -1},
    ):
        with pytest.raises(UsageError):
            Sampling(**({"max_tokens": 1} | wrong))


@pytest.mark.parametrize(("text", "cut"), [("one two", "one"), ("two", "two"), (" and one", "")])
def test_cut_at_stop(text, cut):
    assert cut_at_stop(text, (" two", " and", "!")) == cut


def test_open_engine(checkpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:9/v1")
    assert isinstance(open_engine(Models(generator=checkpoint), Speed(device="cpu")), TransformersEngine)
    assert isinstance(open_engine(Models(generator="any"), Speed(engine="openai")), OpenAIEngine)


def test_vllm_that_is_not_installed_is_named(monkeypatch, checkpoint):
    from pretext.models.engines.vllm import VLLMEngine

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pretext\[vllm\]"):
        VLLMEngine(checkpoint)


def test_opening_the_modules_imports_nothing_heavy():
    code = (
        "import sys, pretext.models.sources; from pretext.models.engines import openai, transformers, vllm; "
        "print(*{'torch', 'transformers', 'vllm', 'openai'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.stdout.strip(), run.stderr) == ("", "")


def test_a_script_may_fail():
    engine = ScriptedEngine(lambda prompt, rng: None if prompt.text == "bad" else "good")
    assert engine.complete([Prompt("bad"), Prompt("fine")], SHORT) == [None, "good"]
    with pytest.raises(EngineError):
        engine.complete([Prompt("bad")], SHORT)
