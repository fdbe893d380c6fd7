from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pretext.config import Models, Speed
from pretext.engines import Sampling, Usage, cut_at_stop, open_engine
from pretext.engines.openai import OpenAIEngine
from pretext.engines.scripted import ScriptedEngine
from pretext.engines.transformers import TransformersEngine
from pretext.errors import EngineError, ModelError, UsageError
from pretext.prompts import Prompt, token_ids
from tests.contracts import tiny
from tests.contracts.server import ModelServer

KEY = "sk-very-secret-0123456789"
TEXT = "a text that must not be logged"
SHORT = Sampling(max_tokens=4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(tiny.build(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def local(checkpoint):
    return TransformersEngine(checkpoint, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def tokenizer(checkpoint):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ModelServer(ScriptedEngine(lambda prompt, rng: f"said {rng.integers(10**6)}")) as running:
        yield running


def _client(server: ModelServer, **settings) -> OpenAIEngine:
    return OpenAIEngine("tiny", base_url=server.url, **({"retries": 0, "timeout": 10.0} | settings))


# The closed choice


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
    from pretext.engines.vllm import VLLMEngine

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pretext\[vllm\]"):
        VLLMEngine(checkpoint)


def test_opening_the_modules_imports_nothing_heavy():
    code = (
        "import sys, pretext.models, pretext.engines.transformers, pretext.engines.vllm, pretext.engines.openai; "
        "print(*{'torch', 'transformers', 'vllm', 'openai'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.stdout.strip(), run.stderr) == ("", "")


# Prompts as tokens


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("control", ["<|im_end|>", "<|endoftext|>", "<|im_start|>system\n"])
def test_special_tokens_stay_text(tokenizer, control, chat):
    plain = token_ids(Prompt("before  after", chat), tokenizer)
    ids = token_ids(Prompt(f"before {control} after", chat), tokenizer)
    special = set(tokenizer.all_special_ids)
    assert [token for token in ids if token in special] == [token for token in plain if token in special]
    assert f"before {control} after" in tokenizer.decode(ids)


def test_a_chat_prompt_follows_the_template(tokenizer):
    said = tokenizer.decode(token_ids(Prompt("Hello", chat=True), tokenizer))
    assert said == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_with_a_date_gives_the_same_prompt_every_day(tokenizer, monkeypatch):
    monkeypatch.setattr(
        tokenizer, "chat_template", "{{ date_string or strftime_now('%d %b %Y') }} {{ messages[0]['content'] }}"
    )
    assert tokenizer.decode(token_ids(Prompt("Hello", chat=True), tokenizer)) == "26 Jul 2024 Hello"


@pytest.mark.parametrize("template", [None, "fixed words"])
def test_no_template_for_the_text_is_a_model_error(tokenizer, monkeypatch, template):
    monkeypatch.setattr(tokenizer, "chat_template", template)
    with pytest.raises(ModelError, match="base prompts"):
        token_ids(Prompt("Hello", chat=True), tokenizer)


def test_an_empty_prompt_has_a_token(tokenizer):
    assert token_ids(Prompt(""), tokenizer) == [tokenizer.eos_token_id]


def test_a_start_token_is_kept(checkpoint):
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    tokenizer.bos_token = "<|im_start|>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)]
    )
    ids = token_ids(Prompt("Hello"), tokenizer)
    assert ids[0] == start
    assert ids.count(start) == 1


# Transformers


def test_a_batch_gives_what_single_prompts_give(local):
    prompts = [Prompt("word " * count) for count in (1, 7, 40, 3)]
    greedy = Sampling(max_tokens=12, temperature=0.0)
    assert local.complete(prompts, greedy) == [local.complete([prompt], greedy)[0] for prompt in prompts]


def test_greedy_agrees_with_the_library(local, checkpoint, tokenizer):
    import torch
    from transformers import AutoModelForCausalLM

    prompt = Prompt("The weather was fine")
    ids = torch.tensor([token_ids(prompt, tokenizer)])
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    theirs = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20)
    ours = local.complete([prompt], Sampling(max_tokens=20, temperature=0.0))
    assert ours == [tokenizer.decode(theirs[0, ids.shape[1] :], skip_special_tokens=True)]


def test_draws_from_the_nucleus_with_the_right_shares():
    import torch

    from pretext.engines.transformers import _draw

    logits = torch.log(torch.tensor([[0.1, 0.5, 0.15, 0.25]])).repeat(20_000, 1)
    sampling = Sampling(max_tokens=1, top_p=0.7)
    drawn = _draw(logits, sampling, torch.Generator().manual_seed(0)).numpy()
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    # Five standard errors of a share: a false alarm in 10^6 seeds; the seed is fixed besides.
    assert np.abs(shares - [0, 2 / 3, 0, 1 / 3]).max() < 5 * np.sqrt(2 / 9 / len(drawn))


def test_sampling_leaves_the_global_generator_alone(local):
    import torch

    before = torch.random.get_rng_state()
    local.complete([Prompt("Hello")], SHORT)
    assert torch.equal(before, torch.random.get_rng_state())


def test_prompts_longer_than_the_context(local, caplog):
    long = Prompt("word and " * 600)
    assert [type(text) for text in local.complete([long, Prompt("short")], SHORT)] == [type(None), str]
    assert "1 of 2 prompts" in caplog.text
    with pytest.raises(EngineError, match=f"context of {tiny.CONTEXT}"):
        local.complete([long], SHORT)


@pytest.mark.parametrize("wrong", [{"device": "abacus"}, {"dtype": "float99"}, {"dtype": "int8"}, {"batch_size": 0}])
def test_wrong_settings(checkpoint, wrong):
    with pytest.raises(UsageError):
        TransformersEngine(checkpoint, **wrong)


def test_an_unknown_model(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError) as raised:
        TransformersEngine("no-such-organisation/no-such-model")
    assert "no-such-organisation/no-such-model" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_damaged_model(tmp_path):
    tiny.build(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError) as raised:
        TransformersEngine(str(tmp_path), device="cpu")
    assert "\n" not in str(raised.value)


def _altered(tmp_path, *, tokenizer=None, config=None):
    """The tiny model with other entries in its JSON files; None takes an entry away."""
    tiny.build(tmp_path)
    for name, entries in (("tokenizer_config.json", tokenizer or {}), ("config.json", config or {})):
        settings = json.loads((tmp_path / name).read_text()) | entries
        (tmp_path / name).write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))
    return str(tmp_path)


@pytest.mark.parametrize("missing", [["pad_token"], ["pad_token", "eos_token"]])
def test_a_tokenizer_without_pad_or_end_token(tmp_path, missing, local):
    folder = _altered(tmp_path, tokenizer=dict.fromkeys(missing))
    engine = TransformersEngine(folder, device="cpu", dtype="float32")
    prompts, greedy = [Prompt("word " * count) for count in (1, 7, 40, 3)], Sampling(max_tokens=6, temperature=0.0)
    assert [getattr(engine._tokenizer, name) for name in missing] == [None] * len(missing)
    assert engine.complete(prompts, greedy) == local.complete(prompts, greedy)


def test_a_model_and_tokenizer_without_any_end_write_until_they_may_no_more(tmp_path):
    folder = _altered(
        tmp_path,
        tokenizer=dict.fromkeys(["eos_token", "pad_token"]),
        config=dict.fromkeys(["eos_token_id", "pad_token_id"]),
    )
    (tmp_path / "generation_config.json").write_text("{}")
    rename = json.loads((tmp_path / "tokenizer.json").read_text().replace("<|im_end|>", "<|no_end|>"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(rename))
    engine = TransformersEngine(folder, device="cpu", dtype="float32")
    before = engine.usage
    engine.complete([Prompt("Hello")] * 20, Sampling(max_tokens=40))
    assert (engine.usage - before).written == 20 * 40


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"architectures": ["RobertaForMaskedLM"]}, r"RobertaForMaskedLM.*masked language model.*models\.masked"),
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, "an encoder-decoder model"),
        ({"architectures": ["BertModel"]}, "BertModel.*none that writes on"),
    ],
)
def test_a_model_that_cannot_write_on_is_named_before_it_is_loaded(tmp_path, config, told):
    folder = _altered(tmp_path, config=config)
    (tmp_path / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(ModelError, match=told) as raised:
        TransformersEngine(folder, device="cpu")
    assert str(raised.value).count(". ") == 0 and str(raised.value).endswith("as models.generator.")


def test_a_model_too_large_for_memory_is_not_loaded(checkpoint, tmp_path, monkeypatch):
    weights = sum(file.stat().st_size for file in Path(checkpoint).glob("*.safetensors"))
    free = {"bytes": weights // 2 - 100_000}
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=free["bytes"]))
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(ModelError, match="GiB are free; name a smaller or a quantised model"):
            TransformersEngine(checkpoint, device="cpu", dtype=dtype)
    free["bytes"] = weights // 2 + 100_000  # enough for two bytes per weight, too little for four
    assert TransformersEngine(checkpoint, device="cpu", dtype="bfloat16").complete([Prompt("Hello")], SHORT)
    with pytest.raises(ModelError, match="GiB are free"):
        TransformersEngine(checkpoint, device="cpu", dtype="float32")
    # Most of a terabyte, of which nothing but the configuration speaks.
    huge = _altered(tmp_path, config={"hidden_size": 16384, "intermediate_size": 65536, "num_hidden_layers": 100})
    with pytest.raises(ModelError, match=r"takes .* GiB on cpu"):
        TransformersEngine(huge, device="cpu")


def test_the_size_of_a_model_is_known_before_it_is_loaded(checkpoint, local):
    from transformers import AutoConfig

    from pretext.engines.transformers import _size

    held = sum(weight.numel() * weight.element_size() for weight in local._model.parameters())
    assert _size(checkpoint, AutoConfig.from_pretrained(checkpoint), local._model.dtype) == held


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own calls
def test_an_adapter_is_added_to_the_model(checkpoint, tmp_path, local):
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(1)
        base = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
        settings = LoraConfig(target_modules=["q_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(base, settings).save_pretrained(tmp_path)
    engine = TransformersEngine(checkpoint, adapter=str(tmp_path), device="cpu", dtype="float32")
    prompt, greedy = Prompt("The weather was fine"), Sampling(max_tokens=20, temperature=0.0)
    ids = torch.tensor([token_ids(prompt, engine._tokenizer)])
    plain = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    slow = PeftModel.from_pretrained(plain, tmp_path).generate(input_ids=ids, do_sample=False, max_new_tokens=20)
    expected = engine._tokenizer.decode(slow[0, ids.shape[1] :], skip_special_tokens=True)
    assert engine.complete([prompt], greedy) == [expected] != local.complete([prompt], greedy)


def test_an_adapter_that_is_not_there(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="cannot be loaded"):
        TransformersEngine(checkpoint, adapter=str(tmp_path), device="cpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'pretext\[lora\]'"):
        TransformersEngine(checkpoint, adapter=str(tmp_path), device="cpu")


# Servers


@pytest.mark.parametrize(
    ("misbehaviour", "kind"),
    [
        ("500", "HTTP status 500"),
        ("429", "HTTP status 429"),
        ("401", "HTTP status 401"),
        ("silence", "no answer in time"),
        ("404", "HTTP status 404.*model's name 'tiny'"),
        ("rubbish", "not of the OpenAI protocol"),
        ("no choices", "not of the OpenAI protocol"),
        ("breaks off", "broke off"),
        ("stalls", "broke off"),
        ("trickle", "no answer in time"),
        ("huge", "more than 1 MiB"),
    ],
)
@pytest.mark.parametrize("chat", [False, True])
def test_a_server_that_fails_is_told_by_address_and_kind(server, misbehaviour, kind, chat, caplog):
    caplog.set_level(logging.INFO)
    server.misbehaviour = misbehaviour
    with pytest.raises(EngineError, match=kind) as raised:
        _client(server, timeout=0.5).complete([Prompt(TEXT, chat)] * 2, SHORT)
    assert server.url in str(raised.value)
    assert server.keys[0] == f"Bearer {KEY}"
    for told in (str(raised.value), repr(raised.value.__cause__), repr(raised.value.__context__), caplog.text):
        assert KEY not in told
        assert TEXT not in told
    assert not [told for told in _trace(raised.value) if KEY in told]


def test_the_key_is_nowhere_at_any_level(server, caplog, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG)
    engine = _client(server)
    engine.complete([Prompt("Hello")], SHORT)
    server.misbehaviour = "401"
    with pytest.raises(EngineError) as raised:
        engine.complete([Prompt("Hello")] * 3, SHORT)
    assert set(server.keys) == {f"Bearer {KEY}"} and "openai" in {
        record.name.split(".")[0] for record in caplog.records
    }
    for told in (caplog.text, *_trace(raised.value), repr(engine), repr(vars(engine))):
        assert KEY not in told
    assert list(tmp_path.iterdir()) == []


def _trace(error: BaseException) -> list[str]:
    """What a report of the error could show: its words, what led to it, and the variables of the frames it left."""
    return list(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def test_an_empty_answer_is_an_answer(server):
    server.misbehaviour = "empty"
    assert _client(server).complete([Prompt("Hello"), Prompt("Hello", chat=True)], SHORT) == ["", ""]


def test_an_answer_just_in_time(server):
    behave = server.reply
    server.reply = lambda *request: time.sleep(0.3) or behave(*request)
    assert None not in _client(server, timeout=20.0).complete([Prompt("Hello")] * 4, SHORT)


def test_ctrl_c_ends_a_batch_at_once(server):
    server.misbehaviour = "silence"
    engine = _client(server, timeout=600.0)
    asked = threading.Thread(target=_interrupt_once, args=[lambda: len(server.requests) == 3])
    asked.start()
    with pytest.raises(KeyboardInterrupt):
        engine.complete([Prompt("Hello")] * 3, SHORT)
    asked.join()
    server.misbehaviour = "none"
    assert None not in engine.complete([Prompt("Hello")], SHORT)


def _interrupt_once(condition) -> None:
    while not condition():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


def test_works_where_an_event_loop_runs_already(server):
    async def cell() -> list[str | None]:
        return _client(server).complete([Prompt("Hello")], SHORT)

    assert asyncio.run(cell())[0].startswith("said")


def test_one_line_tells_tokens_and_cost(server, caplog):
    caplog.set_level(logging.INFO, logger="pretext")
    engine = _client(server, prices=(2.0, 10.0))
    engine.complete([Prompt("three short words")] * 100, SHORT)
    # A word is a token of the scripted engine: "three short words" and "said 123456".
    assert engine.usage == Usage(300, 200)
    assert [record.getMessage() for record in caplog.records] == [
        f"100 requests to the server at {server.url}: 300 tokens read, 200 written, cost 0.0026 (0.0026 in all); "
        "failed: none."
    ]
    engine.complete([Prompt("three short words")] * 100, SHORT)
    assert "cost 0.0026 (0.0052 in all)" in caplog.records[1].getMessage()


def test_without_prices_no_cost(server, caplog):
    caplog.set_level(logging.INFO, logger="pretext")
    _client(server).complete([Prompt("Hello")], SHORT)
    assert "cost" not in caplog.text and "1 tokens read" in caplog.text


def test_waits_as_long_as_the_server_asks(server):
    arrivals, behave = [], server.reply
    server.pause = "1"

    def refuse_once(*request):
        arrivals.append(time.monotonic())
        return (429, b"{}") if len(arrivals) == 1 else behave(*request)

    server.reply = refuse_once
    assert None not in _client(server, retries=1).complete([Prompt("Hello")], SHORT)
    assert arrivals[1] - arrivals[0] >= 1  # the client's own first pause is at most half a second


def test_a_text_that_no_request_can_hold_fails_alone(server):
    first, second = _client(server).complete([Prompt("half a pair \ud83e"), Prompt("Hello")], SHORT)
    assert first is None and second is not None


def test_nothing_listens(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with pytest.raises(EngineError, match="no connection"):
            OpenAIEngine("tiny", base_url=url, retries=0).complete([Prompt("Hello")], SHORT)


def test_some_requests_fail(server, caplog):
    server.misbehaviour = "every second"
    texts = _client(server, concurrency=1).complete([Prompt(TEXT)] * 6, SHORT)
    assert [text is None for text in texts] == [False, True] * 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "6 requests" in caplog.text and "failed: HTTP status 400: 3." in caplog.text
    assert TEXT not in caplog.text


def test_a_server_that_recovers_is_asked_again(server):
    answers = iter([(500, b"{}"), (429, b"{}")])
    behave = server.reply
    server.reply = lambda *request: next(answers, None) or behave(*request)
    texts = _client(server, retries=2).complete([Prompt("Hello")], SHORT)
    assert texts[0].startswith("said")


def test_a_dead_server_is_given_up(server):
    server.misbehaviour = "500"
    with pytest.raises(EngineError, match="given up"):
        _client(server, concurrency=2).complete([Prompt("Hello")] * 500, SHORT)
    assert len(server.requests) < 10


def test_a_server_that_dies_on_the_way_is_given_up(server):
    engine = _client(server, concurrency=4, retries=1)
    reported, behave = [], server.reply
    server.reply = lambda *request: behave(*request) if len(server.requests) <= 20 else (500, b"{}")
    with pytest.raises(EngineError, match=r"HTTP status 500: \d+\); check .* then resume\.$"):
        engine.complete([Prompt("Hello")] * 500, SHORT, reported.append)
    assert 20 < len(server.requests) < 60 and sum(reported) < 40


def test_no_more_requests_at_once_than_allowed(server):
    running, most = [], []
    behave = server.reply

    def slowly(*request):
        running.append(1)
        most.append(len(running))
        time.sleep(0.02)
        running.pop()
        return behave(*request)

    server.reply = slowly
    _client(server, concurrency=3).complete([Prompt("Hello")] * 20, SHORT)
    assert 1 < max(most) <= 3


def test_control_tokens_do_not_reach_a_server(server):
    hostile = "a <|im_end|> b </s> c [INST] d <end_of_turn> e"
    _client(server).complete([Prompt(hostile)], SHORT)
    assert server.requests[0]["prompt"] == "a < |im_end|> b < /s> c [ INST] d < end_of_turn> e"
    _client(server).complete([Prompt("<b>bold</b> [1] a<b <pre>")], SHORT)
    assert server.requests[1]["prompt"] == "<b>bold</b> [1] a<b <pre>"


def test_many_stop_strings(server):
    stop = ("a", "b", "c", "d", "e", "1")
    (text,) = _client(server).complete([Prompt("Hello")], Sampling(max_tokens=4, stop=stop))
    assert not set(text) & set("abcde1")
    assert server.requests[0]["stop"] == list("abcd")


def test_a_local_server_needs_no_key(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert OpenAIEngine("tiny", retries=0).complete([Prompt("Hello")], SHORT) != [None]


@pytest.mark.parametrize("url", ["https://api.example.org/v1", None])
def test_another_server_needs_one(url, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        OpenAIEngine("any", base_url=url)


@pytest.mark.parametrize(
    "url", ["localhost:8000", f"http://me:{KEY}@localhost/v1", "ftp://localhost/v1", "http://localhost:99999/v1"]
)
def test_an_address_that_is_none(url):
    with pytest.raises(UsageError) as raised:
        OpenAIEngine("any", base_url=url)
    assert KEY not in str(raised.value)


# Scripted


def test_a_script_may_fail():
    engine = ScriptedEngine(lambda prompt, rng: None if prompt.text == "bad" else "good")
    assert engine.complete([Prompt("bad"), Prompt("fine")], SHORT) == [None, "good"]
    with pytest.raises(EngineError):
        engine.complete([Prompt("bad")], SHORT)
