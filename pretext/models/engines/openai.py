"""Generation by a server that speaks the OpenAI protocol: a hosted model, or vLLM, llama.cpp, Ollama, ... next door."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pretext.errors import EngineError, UsageError
from pretext.models.chat_format import escape_control_tokens
from pretext.models.engines import Sampling, Usage, cut_at_stop, ignore_progress
from pretext.prompts import Prompt

_DEFAULT_URL = "https://api.openai.com/v1"
_MAX_STOP_STRINGS = 4  # the protocol's limit; more of them are cut on our side alone
_MAX_ANSWER_BYTES = 2**20  # bytes; 4096 tokens with everything around them are a tenth of it
_CONNECT_SECONDS = 10.0  # seconds
_PATIENCE = 8  # failures in a row that are chance, however few requests are in flight
_REMEDIES = {
    "no connection": "check that it runs at this address",
    "no answer in time": "check that it is not stuck, or set speed.request_timeout higher or speed.concurrency lower",
    "HTTP status 401": "set OPENAI_API_KEY to a key that it accepts",
    "HTTP status 403": "set OPENAI_API_KEY to a key that it accepts",
    "HTTP status 404": "check the model's name {model!r}, and that the address ends as it should, often in /v1",
    "HTTP status 429": "set speed.concurrency lower, or wait until its limits allow more",
}
_DEFAULT_REMEDY = "check the server's own log, and that it serves the model {model!r}"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _RequestFailure:
    """Why a request has no text; `is_server_fault` tells a server in trouble from a request that it refused."""

    kind: str
    is_server_fault: bool = True


_FOREIGN_ANSWER = _RequestFailure("an answer that is not of the OpenAI protocol")
_NOT_SENT = _RequestFailure("not sent")


class OpenAIEngine:
    """A model behind the `completions` (base prompts) and `chat/completions` (chat prompts) endpoints.

    Requests are not repeatable: no seed is sent, as servers differ in what they make of one. A server is given up once
    as many requests in a row have failed as are in flight, 8 at least.

    Args:
        model: the server's name for the model.
        base_url: address of the server; default: OPENAI_BASE_URL, or api.openai.com.
        concurrency: requests in flight.
        timeout: seconds until an attempt counts as unanswered; a request, with all its repetitions, gets twice that.
        retries: how often a request is repeated after no answer, 408, 409, 429 or 5xx, with growing pauses, or after
            the pause that the server asks for.
        prices: of a million tokens read and of a million written, for the log; None where there is none.

    Raises:
        UsageError: no OPENAI_API_KEY for a server that is not on this machine, or an address that is none.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        concurrency: int = 64,
        timeout: float = 120.0,
        retries: int = 3,
        prices: tuple[float | None, float | None] = (None, None),
    ) -> None:
        self._url = base_url or os.environ.get("OPENAI_BASE_URL") or _DEFAULT_URL
        self._address = _parse_address(self._url)
        _api_key(self._address)
        self._model = model
        self._concurrency = concurrency
        self._timeout = timeout
        self._retries = retries
        self._prices = prices
        self.usage = Usage()

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, advance: Callable[[int], None] = ignore_progress
    ) -> list[str | None]:
        """See `Engine`."""
        from anyio.from_thread import start_blocking_portal

        if not prompts:
            return []
        before = self.usage
        # The event loop has a thread of its own: a notebook runs one already. Ctrl-C cancels every request in flight.
        with start_blocking_portal() as portal:
            outcomes = portal.call(self._ask_all, prompts, sampling, advance)
        self._report_outcomes(outcomes, self.usage - before)
        return [
            None if isinstance(outcome, _RequestFailure) else cut_at_stop(outcome, sampling.stop)
            for outcome in outcomes
        ]

    async def _ask_all(
        self, prompts: Sequence[Prompt], sampling: Sampling, advance: Callable[[int], None]
    ) -> list[str | _RequestFailure]:
        """The outcomes in order; what a server that was given up has not been asked is `_NOT_SENT`."""
        outcomes: list[str | _RequestFailure] = [_NOT_SENT] * len(prompts)
        waiting = iter(enumerate(prompts))
        failures_in_a_row = 0

        async def work() -> None:
            nonlocal failures_in_a_row
            for index, prompt in waiting:
                outcomes[index] = outcome = await self._ask(client, prompt, sampling)
                in_trouble = isinstance(outcome, _RequestFailure) and outcome.is_server_fault
                failures_in_a_row = failures_in_a_row + 1 if in_trouble else 0
                advance(1)
                if failures_in_a_row >= max(self._concurrency, _PATIENCE):
                    return

        async with self._open_client() as client, asyncio.TaskGroup() as workers:
            for _ in range(min(self._concurrency, len(prompts))):
                workers.create_task(work())
        return outcomes

    def _open_client(self) -> Any:
        from openai import AsyncOpenAI, Timeout

        # Whoever does not even take up the connection will not write.
        timeout = Timeout(self._timeout, connect=min(self._timeout, _CONNECT_SECONDS))
        return AsyncOpenAI(
            api_key=_api_key(self._address), base_url=self._url, timeout=timeout, max_retries=self._retries
        )

    async def _ask(self, client: Any, prompt: Prompt, sampling: Sampling) -> str | _RequestFailure:
        import openai

        try:
            async with asyncio.timeout(2 * self._timeout):
                body = await self._send(client, prompt, sampling)
        except (TimeoutError, openai.APITimeoutError):
            return _RequestFailure("no answer in time")
        except openai.APIConnectionError:
            return _RequestFailure("no connection")
        except openai.APIStatusError as error:
            return _RequestFailure(
                f"HTTP status {error.status_code}", is_server_fault=error.status_code not in (400, 413, 422)
            )
        except (openai.OpenAIError, ValueError):  # a lone surrogate in the prompt, for one
            return _RequestFailure("a request that cannot be written down", is_server_fault=False)
        if isinstance(body, _RequestFailure):
            return body
        try:
            reply = json.loads(body)
            choice = reply["choices"][0]
            text = choice["message"]["content"] if prompt.chat else choice["text"]
        except (ValueError, RecursionError, LookupError, TypeError):
            return _FOREIGN_ANSWER
        self.usage += _parse_usage(reply)
        return text if isinstance(text, str) else _RequestFailure("an answer without text", is_server_fault=False)

    async def _send(self, client: Any, prompt: Prompt, sampling: Sampling) -> bytes | _RequestFailure:
        """The body of the answer, read in pieces: its length is the server's choice, the memory is ours."""
        text = escape_control_tokens(prompt.text)  # the server's tokenizer is out of reach
        settings: dict[str, Any] = {
            "model": self._model,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if sampling.stop:
            settings["stop"] = list(sampling.stop[:_MAX_STOP_STRINGS])
        endpoint = client.chat.completions if prompt.chat else client.completions
        asked = {"messages": [{"role": "user", "content": text}]} if prompt.chat else {"prompt": text}
        async with endpoint.with_streaming_response.create(**asked, **settings) as response:
            return await _read_body(response)

    def _report_outcomes(self, outcomes: list[str | _RequestFailure], used: Usage) -> None:
        """Tell of failures by their kind and number alone: a server's own words may repeat a key or a prompt."""
        kinds = Counter(outcome.kind for outcome in outcomes if isinstance(outcome, _RequestFailure))
        sent = len(outcomes) - kinds.pop(_NOT_SENT.kind, 0)
        summary = ", ".join(f"{kind}: {count}" for kind, count in kinds.most_common()) or "none"
        log = _logger.warning if kinds else _logger.info
        log(
            "%d requests to the server at %s: %d tokens read, %d written%s; failed: %s.",
            sent, self._address, used.read, used.written, self._format_cost(used), summary,
        )  # fmt: skip
        if sent < len(outcomes) or kinds.total() == sent:
            remedy = _REMEDIES.get(kinds.most_common(1)[0][0], _DEFAULT_REMEDY).format(model=self._model)
            raise EngineError(
                f"The server at {self._address} failed for {kinds.total()} of {sent} requests and was given up "
                f"({summary}); {remedy}, then resume."
            )

    def _format_cost(self, used: Usage) -> str:
        """What the tokens of this batch, and of all so far, cost, where a price is set."""
        if self._prices == (None, None):
            return ""
        read, written = (price or 0.0 for price in self._prices)
        batch, total = ((read * usage.read + written * usage.written) / 1e6 for usage in (used, self.usage))
        return f", cost {batch:.4f} ({total:.4f} in all)"


async def _read_body(response: Any) -> bytes | _RequestFailure:
    body = bytearray()
    try:
        async for piece in response.iter_bytes():
            body += piece
            if len(body) > _MAX_ANSWER_BYTES:
                return _RequestFailure("an answer of more than 1 MiB")
    except Exception:  # the HTTP library's own errors; which library that is depends on the client's version
        return _RequestFailure("an answer that broke off")
    return bytes(body)


def _parse_usage(reply: Any) -> Usage:
    """The tokens that the server counted, 0 where it does not."""
    counted = reply.get("usage")
    counts = [counted.get(name) if isinstance(counted, dict) else 0 for name in ("prompt_tokens", "completion_tokens")]
    return Usage(*(count if isinstance(count, int) else 0 for count in counts))


def _parse_address(url: str) -> str:
    """The address as it may be shown: without user, password and query."""
    parts = urlsplit(url)
    try:
        numbered = parts.port is None or parts.port > 0
    except ValueError:
        numbered = False
    if parts.scheme not in ("http", "https") or not parts.hostname or not numbered or parts.username or parts.password:
        raise UsageError(
            "The address of the server must look like http://localhost:8000/v1, without user or password in it; set "
            "base_url or OPENAI_BASE_URL to one, and the key in OPENAI_API_KEY."
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _api_key(address: str) -> str:
    key = os.environ.get("OPENAI_API_KEY")
    if key:
        return key
    host = urlsplit(address).hostname or ""
    if not _is_loopback(host):
        raise UsageError(
            f"The server at {address} needs a key; set OPENAI_API_KEY (to any word if the server asks for none)."
        )
    return "none"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
