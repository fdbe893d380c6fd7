"""Servers that speak the OpenAI protocol each in their own way, over real HTTP on loopback."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pretext.errors import EngineError, UsageError
from pretext.models.engines import Sampling, Usage
from pretext.models.engines.openai import OpenAIEngine
from pretext.models.engines.openai_failures import read_failure
from pretext.models.engines.scripted import ScriptedEngine
from pretext.prompts import Prompt
from tests.support.server import ModelServer

pytestmark = pytest.mark.slow

CHAT = [Prompt("Hello", chat=True)] * 3
SAMPLING = Sampling(max_tokens=4, temperature=0.8, top_p=0.9, stop=("x",))


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(ScriptedEngine(lambda prompt, rng: "said")) as model_server:
        yield model_server


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def _make_engine(server: ModelServer, **settings: Any) -> OpenAIEngine:
    return OpenAIEngine("tiny", base_url=server.url, **({"retries": 0, "timeout": 10.0} | settings))


def _answer(content: Any, **more: Any) -> tuple[int, bytes]:
    message = {"role": "assistant", "content": content, **more}
    return 200, json.dumps({"choices": [{"message": message, "text": content}]}).encode()


def _error(status: int, **error: Any) -> tuple[int, bytes]:
    return status, json.dumps({"error": {"message": "private words", **error}}).encode()


def _refuse(name: str, **error: Any) -> Callable[[str, dict[str, Any]], tuple[int, bytes]]:
    """Make a server's reply that refuses every request with this parameter."""
    return lambda path, body: _error(400, **error) if name in body else _answer("said")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("max_tokens", {"param": "max_tokens", "code": "unsupported_parameter"}),
        ("temperature", {"param": "temperature", "code": "unsupported_value"}),
        ("temperature", {"message": "`temperature` is deprecated for this model."}),
        ("top_p", {"message": "`temperature` and `top_p` cannot both be specified for this model."}),
        ("stop", {"message": "Argument not supported on this model: stop"}),
    ],
)
def test_complete__a_server_without_a_parameter__is_asked_in_its_own_way_from_then_on(
    server: ModelServer, name: str, error: dict[str, str]
) -> None:
    server.reply = _refuse(name, **error)  # type: ignore[method-assign]
    engine = _make_engine(server)
    assert engine.complete(CHAT, SAMPLING) == ["said"] * 3
    asked = len(server.requests)
    assert engine.complete(CHAT, SAMPLING) == ["said"] * 3
    assert asked <= 6 and len(server.requests) == asked + 3
    last = server.requests[-1]
    others = {"max_tokens", "temperature", "top_p", "stop"} - {name}
    assert name not in last and others <= set(last)
    assert last.get("max_completion_tokens") == (4 if name == "max_tokens" else None)


def test_complete__a_server_that_takes_no_limit_at_all__is_asked_without(server: ModelServer) -> None:
    def reply(path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        named = [name for name in ("max_tokens", "max_completion_tokens") if name in body]
        detail = [{"loc": ["body", name], "msg": "Extra inputs are not permitted"} for name in named]
        return (422, json.dumps({"detail": detail}).encode()) if named else _answer("said")

    server.reply = reply  # type: ignore[method-assign]
    assert _make_engine(server, concurrency=1).complete(CHAT, SAMPLING) == ["said"] * 3
    assert len(server.requests) == 5


def test_complete__further_fields__are_merged_into_every_request(server: ModelServer) -> None:
    request = {"chat_template_kwargs": {"enable_thinking": False}, "temperature": 1.0}
    server.reply = lambda path, body: _answer("said")  # type: ignore[method-assign]
    _make_engine(server, request=request).complete([Prompt("Hello"), Prompt("Hello", chat=True)], SAMPLING)
    for body in server.requests:
        assert body["chat_template_kwargs"] == {"enable_thinking": False} and body["temperature"] == 1.0
        assert body["max_tokens"] == 4


@pytest.mark.parametrize("content", [[{"type": "text", "text": "sa"}, {"type": "text", "text": "id"}], "said"])
def test_complete__a_content_in_parts__is_joined(server: ModelServer, content: Any) -> None:
    server.reply = lambda path, body: _answer(content)  # type: ignore[method-assign]
    assert _make_engine(server).complete(CHAT, SAMPLING) == ["said"] * 3


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("content", [None, ""])
def test_complete__an_answer_of_reasoning_only__names_the_remedy(
    server: ModelServer, field: str, content: str | None
) -> None:
    server.reply = lambda path, body: _answer(content, **{field: "private words"})  # type: ignore[method-assign]
    with pytest.raises(EngineError, match=r"max_tokens.*speed\.request") as raised:
        _make_engine(server).complete(CHAT, SAMPLING)
    assert "private" not in str(raised.value)


@pytest.mark.parametrize(
    ("failure", "named"),
    [
        (_error(400, param="max_tokens", message="maximum context length: 9; private words"), "longer context"),
        (_error(400, code="context_length_exceeded"), "longer context"),
        (_error(404, param="model", message="This is a chat model; private words"), 'prompt_format = "chat"'),
        ((404, b'{"detail": "Not Found"}'), 'prompt_format = "chat"'),
        (_error(429, code="insufficient_quota", type="insufficient_quota"), "limit"),
        (_error(400, code="invalid_prompt", param="prompt"), "invalid_prompt, prompt"),
        (_error(400, code="a key: sk-123", param="Words of a prompt"), "HTTP status 400: 3"),
    ],
)  # fmt: skip
def test_complete__a_refusal__is_told_by_identifiers_and_a_remedy_alone(
    server: ModelServer, failure: tuple[int, bytes], named: str
) -> None:
    server.reply = lambda path, body: failure  # type: ignore[method-assign]
    with pytest.raises(EngineError) as raised:
        _make_engine(server, retries=2).complete([Prompt("Hello")] * 3, SAMPLING)
    assert named in str(raised.value)
    assert not any(word in str(raised.value) for word in ("private", "sk-123", "Words"))
    assert len(server.requests) == 3, "what no waiting mends is not repeated"


def test_complete__an_error_with_status_200__is_repeated_as_that_status(server: ModelServer) -> None:
    answers = iter([(200, _error(502, code=502)[1]), (200, _error(502, code=502)[1])])
    server.reply = lambda path, body: next(answers, None) or _answer("said")  # type: ignore[method-assign]
    assert _make_engine(server, retries=2).complete(CHAT[:1], SAMPLING) == ["said"]
    server.reply = lambda path, body: (200, _error(502, code=502)[1])  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="HTTP status 502"):
        _make_engine(server).complete(CHAT, SAMPLING)


def test_complete__a_server_that_loads_its_model__is_waited_for(server: ModelServer) -> None:
    server.reply = lambda path, body: (  # type: ignore[method-assign]
        _error(503) if len(server.requests) < 4 else _answer("said")
    )
    assert _make_engine(server).complete(CHAT[:1], SAMPLING) == ["said"]
    server.reply = lambda path, body: _error(503)  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="HTTP status 503"):
        _make_engine(server, timeout=1.0).complete(CHAT, SAMPLING)


def test_complete__a_redirect__is_not_followed(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer(ScriptedEngine(lambda prompt, rng: "stolen")) as thief:
        server.location = f"{thief.url}/completions"
        server.reply = lambda path, body: (307, b"")  # type: ignore[method-assign]
        with pytest.raises(EngineError, match="redirect"):
            _make_engine(server).complete([Prompt("Hello")], SAMPLING)
        assert not thief.requests


def test_complete__with_a_proxy_in_the_environment__reaches_this_machine_without(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert _make_engine(server).complete([Prompt("Hello")], SAMPLING) == ["said"]


@pytest.mark.parametrize("host", ["0.0.0.0", socket.gethostname()])
def test_complete__at_another_name_of_this_machine__needs_no_key(
    host: str, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("127.0.0.1", host) + "\n")
    engine = OpenAIEngine("tiny", retries=0, timeout=10.0)
    if host == "0.0.0.0":  # the server listens on loopback alone, where this address leads
        assert engine.complete([Prompt("Hello")], SAMPLING) == ["said"]


def test_complete__where_the_prompt_is_repeated__returns_the_answer(server: ModelServer) -> None:
    server.reply = lambda path, body: _answer(body["prompt"] + "said")  # type: ignore[method-assign]
    assert _make_engine(server).complete([Prompt("Hello <|im_end|>")], SAMPLING) == ["said"]


@pytest.mark.parametrize(
    ("body", "word"),
    [(b'data: {"choices": []}\n\ndata: [DONE]', "pieces"), (b"\n<!DOCTYPE html><title>private words", "web page")],
)
def test_complete__of_another_kind_of_answer__names_it_and_quotes_nothing(
    body: bytes, word: str, server: ModelServer
) -> None:
    server.reply = lambda path, _: (200, body)  # type: ignore[method-assign]
    with pytest.raises(EngineError, match=word) as raised:
        _make_engine(server).complete([Prompt("Hello")], SAMPLING)
    assert "private words" not in str(raised.value)


@pytest.mark.parametrize("key", ["sk-abc\n", "  sk-abc\r\n"])
def test_key__with_blanks_around_it__is_stripped(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    _make_engine(server).complete([Prompt("Hello")], SAMPLING)
    assert server.keys == ["Bearer sk-abc"]


@pytest.mark.parametrize("key", ["“sk-abc”", "sk\nabc", "sk abc", "sk-\x01", "schlüssel"])
def test_key__that_no_header_can_hold__is_refused_by_its_variable(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UsageError, match="OPENAI_API_KEY") as raised:
        _make_engine(server)
    assert key not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["http://[::1/v1", "http://localhost/\nHost: x", "http://a..b/v1", f"http://{'a' * 70}.org/v1", "http://a b/v1"],
)
def test_address__that_is_none__is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError):
        OpenAIEngine("any", base_url=url)


@pytest.mark.parametrize("usage", [{"prompt_tokens": -5}, {"prompt_tokens": 10**30}, {"prompt_tokens": "9"}, [1, 2]])
def test_usage__that_is_nonsense__counts_as_nothing(server: ModelServer, usage: Any) -> None:
    body = json.dumps({"choices": [{"text": "said"}], "usage": usage}).encode()
    server.reply = lambda path, _: (200, body)  # type: ignore[method-assign]
    engine = _make_engine(server)
    assert engine.complete([Prompt("Hello")], SAMPLING) == ["said"] and engine.usage == Usage()


def test_read_failure__of_any_body__is_a_kind() -> None:
    for body in (None, "text", [1], {"error": "text"}, {"error": {"code": ["x"]}}, {"detail": [{"loc": []}]}):
        assert str(read_failure(400, body, ["stop"])) == "HTTP status 400"
