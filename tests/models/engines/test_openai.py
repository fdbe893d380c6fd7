"""The server engine against a real HTTP server on loopback that misbehaves on demand."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
import traceback

import pytest

from pretext.errors import EngineError, UsageError
from pretext.home import open_ledger
from pretext.jobs.run import synthesize
from pretext.models.engines import Sampling, Usage
from pretext.models.engines.openai import OpenAIEngine
from pretext.models.engines.scripted import ScriptedEngine
from pretext.prompts import Prompt
from tests.support.runs import make_parts, reply
from tests.support.server import ModelServer

pytestmark = pytest.mark.slow

KEY = "sk-very-secret-0123456789"
TEXT = "a text that must not be logged"
SHORT = Sampling(max_tokens=4)
TIMEOUTS = {"silence": 2.0, "stalls": 2.0, "trickle": 2.0}  # seconds, where a test waits for the limit


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ModelServer(ScriptedEngine(lambda prompt, rng: f"said {rng.integers(10**6)}")) as model_server:
        yield model_server


def _make_engine(server: ModelServer, **settings) -> OpenAIEngine:
    return OpenAIEngine("tiny", base_url=server.url, **({"retries": 0, "timeout": 10.0} | settings))


@pytest.mark.parametrize(
    ("misbehavior", "kind"),
    [
        ("500", "HTTP status 500"),
        ("429", "HTTP status 429"),
        ("401", "HTTP status 401"),
        ("silence", "no answer in time"),
        ("404", "HTTP status 404.*model's name 'tiny'"),
        ("rubbish", "a web page"),
        ("no choices", "not of the OpenAI protocol"),
        ("breaks off", "broke off"),
        ("stalls", "broke off"),
        ("trickle", "no answer in time"),
        ("huge", "more than 1 MiB"),
    ],
)
@pytest.mark.parametrize("chat", [False, True])
def test_a_server_that_fails_is_told_by_address_and_kind(server, misbehavior, kind, chat, caplog):
    caplog.set_level(logging.INFO)
    server.misbehavior = misbehavior
    with pytest.raises(EngineError, match=kind) as raised:
        _make_engine(server, timeout=TIMEOUTS.get(misbehavior, 60.0)).complete([Prompt(TEXT, chat)] * 2, SHORT)
    assert server.url in str(raised.value)
    assert server.keys[0] == f"Bearer {KEY}"
    for output in (str(raised.value), repr(raised.value.__cause__), repr(raised.value.__context__), caplog.text):
        assert KEY not in output
        assert TEXT not in output
    assert not [line for line in _format_trace(raised.value) if KEY in line]


def test_the_key_is_nowhere_at_any_level(server, caplog, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG)
    engine = _make_engine(server)
    engine.complete([Prompt("Hello")], SHORT)
    server.misbehavior = "401"
    with pytest.raises(EngineError) as raised:
        engine.complete([Prompt("Hello")] * 3, SHORT)
    assert set(server.keys) == {f"Bearer {KEY}"} and "openai" in {
        record.name.split(".")[0] for record in caplog.records
    }
    for output in (caplog.text, *_format_trace(raised.value), repr(engine), repr(vars(engine))):
        assert KEY not in output
    assert list(tmp_path.iterdir()) == []


def _format_trace(error: BaseException) -> list[str]:
    """Format all that a report of the error could show: messages, causes, and the variables of every frame."""
    return list(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def test_an_empty_answer_is_an_answer(server):
    server.misbehavior = "empty"
    assert _make_engine(server).complete([Prompt("Hello"), Prompt("Hello", chat=True)], SHORT) == ["", ""]


def test_an_answer_just_in_time(server):
    behave = server.reply
    server.reply = lambda *request: time.sleep(0.3) or behave(*request)
    assert None not in _make_engine(server, timeout=20.0).complete([Prompt("Hello")] * 4, SHORT)


def test_ctrl_c_ends_a_batch_at_once(server):
    server.misbehavior = "silence"
    engine = _make_engine(server, timeout=600.0)
    interrupter = threading.Thread(target=_interrupt_once, args=[lambda: len(server.requests) == 3])
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        engine.complete([Prompt("Hello")] * 3, SHORT)
    interrupter.join()
    server.misbehavior = "none"
    assert None not in engine.complete([Prompt("Hello")], SHORT)


def _interrupt_once(condition) -> None:
    while not condition():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


def test_works_where_an_event_loop_runs_already(server):
    async def cell() -> list[str | None]:
        return _make_engine(server).complete([Prompt("Hello")], SHORT)

    assert asyncio.run(cell())[0].startswith("said")


def test_one_line_tells_tokens_and_cost(server, caplog):
    caplog.set_level(logging.INFO, logger="pretext")
    engine = _make_engine(server, prices=(2.0, 10.0))
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
    _make_engine(server).complete([Prompt("Hello")], SHORT)
    assert "cost" not in caplog.text and "1 tokens read" in caplog.text


def test_waits_as_long_as_the_server_asks(server):
    arrivals, behave = [], server.reply
    server.pause = "1"

    def refuse_once(*request):
        arrivals.append(time.monotonic())
        return (429, b"{}") if len(arrivals) == 1 else behave(*request)

    server.reply = refuse_once
    assert None not in _make_engine(server, retries=1).complete([Prompt("Hello")], SHORT)
    assert arrivals[1] - arrivals[0] >= 1  # the client's own first pause is at most half a second


def test_a_text_that_no_request_can_hold_fails_alone(server):
    first, second = _make_engine(server).complete([Prompt("half a pair \ud83e"), Prompt("Hello")], SHORT)
    assert first is None and second is not None


def test_nothing_listens(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with pytest.raises(EngineError, match="no connection"):
            OpenAIEngine("tiny", base_url=url, retries=0).complete([Prompt("Hello")], SHORT)


def test_some_requests_fail(server, caplog):
    server.misbehavior = "every second"
    texts = _make_engine(server, concurrency=1).complete([Prompt(TEXT)] * 6, SHORT)
    assert [text is None for text in texts] == [False, True] * 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "6 requests" in caplog.text and "failed: HTTP status 400: 3." in caplog.text
    assert TEXT not in caplog.text


def test_a_server_that_recovers_is_asked_again(server):
    answers = iter([(500, b"{}"), (429, b"{}")])
    behave = server.reply
    server.reply = lambda *request: next(answers, None) or behave(*request)
    texts = _make_engine(server, retries=2).complete([Prompt("Hello")], SHORT)
    assert texts[0].startswith("said")


def test_a_dead_server_is_given_up(server):
    server.misbehavior = "500"
    with pytest.raises(EngineError, match="given up"):
        _make_engine(server, concurrency=2).complete([Prompt("Hello")] * 500, SHORT)
    assert len(server.requests) < 10


def test_a_server_that_dies_on_the_way_is_given_up(server):
    engine = _make_engine(server, concurrency=4, retries=1)
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
    _make_engine(server, concurrency=3).complete([Prompt("Hello")] * 20, SHORT)
    assert 1 < max(most) <= 3


def test_control_tokens_do_not_reach_a_server(server):
    hostile = "a <|im_end|> b </s> c [INST] d <end_of_turn> e"
    _make_engine(server).complete([Prompt(hostile)], SHORT)
    assert server.requests[0]["prompt"] == "a < |im_end|> b < /s> c [ INST] d < end_of_turn> e"
    _make_engine(server).complete([Prompt("<b>bold</b> [1] a<b <pre>")], SHORT)
    assert server.requests[1]["prompt"] == "<b>bold</b> [1] a<b <pre>"


def test_many_stop_strings(server):
    stop = ("a", "b", "c", "d", "e", "1")
    (text,) = _make_engine(server).complete([Prompt("Hello")], Sampling(max_tokens=4, stop=stop))
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


@pytest.mark.parametrize("misbehavior", ["500", "silence", "breaks off", "huge"])
def test_a_run_goes_on_where_the_server_left_it(make_config, monkeypatch, tmp_path, misbehavior):
    """The server fails in the middle of the expansion; what was written stays, and no release is drawn again."""
    config = make_config("privacy.rounds=2", "expansion.texts=30")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ModelServer(ScriptedEngine(reply)) as server:
        engine = _make_engine(server, timeout=4.0 if misbehavior == "silence" else 60.0, concurrency=4)
        behave, folder = server.reply, tmp_path / "run"

        def fail_later(*request):
            if (folder / "expansion.json").exists():
                server.misbehavior = misbehavior
            return behave(*request)

        server.reply = fail_later
        with pytest.raises(EngineError, match="then resume"):
            synthesize(config, folder, make_parts(config, engine))
        written = "".join(path.read_text() for path in folder.glob("synthetic*"))
        charged = _read_releases()
        assert 0 < written.count("\n") < 30 and len(charged) == 2
        server.reply, server.misbehavior = behave, "none"
        synthesize(config, folder, make_parts(config, engine))
    assert _read_releases() == charged
    texts = (folder / "synthetic.jsonl").read_text()
    assert texts.startswith(written) and texts.count("\n") == 30
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def _read_releases() -> list[tuple[str, bytes]]:
    ledger = open_ledger()
    accounts = [ledger.account(name) for name in ledger.names()]
    return [(release.label, release.noisy.tobytes()) for account in accounts for release in account.releases]
