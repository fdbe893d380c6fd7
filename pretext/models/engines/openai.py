"""Generate with a server that speaks the OpenAI protocol: a hosted model, or a local vLLM, llama.cpp or Ollama."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from pretext.errors import EngineError, UsageError
from pretext.models.chat_format import escape_control_tokens
from pretext.models.engines import Sampling, Usage, cut_at_stop, ignore_progress
from pretext.prompts import Prompt

if TYPE_CHECKING:
    from pretext.config.settings import Models, Speed

_DEFAULT_URL = "https://api.openai.com/v1"
_MAX_STOP_STRINGS = 4  # the protocol's limit; we cut at further ones ourselves
_MAX_ANSWER_BYTES = 2**20  # a tenth of it holds 4096 tokens with everything around them
_CONNECT_SECONDS = 10.0
_PATIENCE = 8  # fewer failures in a row may be chance, however few requests are in flight
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
    """Why a request has no text; `is_server_fault` separates a server in trouble from a request that it refused."""

    kind: str
    is_server_fault: bool = True


_FOREIGN_ANSWER = _RequestFailure("an answer that is not of the OpenAI protocol")
_NOT_SENT = _RequestFailure("not sent")


class OpenAIEngine:
    """A model behind the `completions` (base prompts) and `chat/completions` (chat prompts) endpoints.

    Requests are not repeatable: no seed is sent, because servers treat seeds differently. The engine gives a server up
    after as many failures in a row as there are requests in flight, and after 8 at least.

    Args:
        model: the server's name for the model.
        base_url: address of the server; default: OPENAI_BASE_URL, or api.openai.com.
        concurrency: requests in flight.
        timeout: seconds until an attempt counts as unanswered; a request with all its retries gets twice that.
        retries: how often to repeat a request after no answer, 408, 409, 429 or 5xx, with growing pauses, or after the
            pause that the server asks for.
        prices: of a million tokens read and of a million written, for the log; None leaves costs out.

    Raises:
        UsageError: OPENAI_API_KEY is missing for a server that is not on this machine, or the address is malformed.
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
        _read_api_key(self._address)
        self._model = model
        self._concurrency = concurrency
        self._timeout = timeout
        self._retries = retries
        self._prices = prices
        self.usage = Usage()

    @classmethod
    def from_sections(cls, models: Models, speed: Speed) -> Self:
        """Use the server and the model that a configuration names; errors as the class."""
        return cls(
            models.generator,
            base_url=speed.base_url,
            concurrency=speed.concurrency,
            timeout=speed.request_timeout,
            prices=(speed.price_read, speed.price_written),
        )

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
        """Send all prompts; return the outcomes in order, `_NOT_SENT` for those left when the server is given up."""
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

        # A server that does not even accept the connection will not answer.
        timeout = Timeout(self._timeout, connect=min(self._timeout, _CONNECT_SECONDS))
        return AsyncOpenAI(
            api_key=_read_api_key(self._address), base_url=self._url, timeout=timeout, max_retries=self._retries
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
        except (openai.OpenAIError, ValueError):  # such as a lone surrogate in the prompt
            return _RequestFailure("a prompt that cannot be encoded", is_server_fault=False)
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
        """Send a request and read the answer in pieces: the server chooses its length, the memory is ours."""
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
        content = {"messages": [{"role": "user", "content": text}]} if prompt.chat else {"prompt": text}
        async with endpoint.with_streaming_response.create(**content, **settings) as response:
            return await _read_body(response)

    def _report_outcomes(self, outcomes: list[str | _RequestFailure], used: Usage) -> None:
        """Log failures by kind and number only: a server's own words may repeat a key or a prompt."""
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
        """Write the cost of this batch and of all batches so far; empty without prices."""
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
    except Exception:  # of the HTTP library, which depends on the client's version
        return _RequestFailure("an answer that broke off")
    return bytes(body)


def _parse_usage(reply: Any) -> Usage:
    """Read the tokens that the server counted, 0 where it does not count."""
    usage = reply.get("usage")
    counts = [usage.get(name) if isinstance(usage, dict) else 0 for name in ("prompt_tokens", "completion_tokens")]
    return Usage(*(count if isinstance(count, int) else 0 for count in counts))


def _parse_address(url: str) -> str:
    """Check the address and return it in a form that may be shown: without user, password and query."""
    parts = urlsplit(url)
    try:
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # of a port that is no number, or out of range
        is_valid = False
    if not is_valid or parts.username or parts.password:
        raise UsageError(
            "The address of the server must look like http://localhost:8000/v1, without a user or password; set "
            "base_url or OPENAI_BASE_URL to such an address, and OPENAI_API_KEY to the key."
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _read_api_key(address: str) -> str:
    key = os.environ.get("OPENAI_API_KEY")
    if key:
        return key
    host = urlsplit(address).hostname or ""
    if not _is_loopback(host):
        raise UsageError(
            f"The server at {address} needs a key; set OPENAI_API_KEY (to any word if the server needs none)."
        )
    return "none"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
