"""Generate with a server that speaks the OpenAI protocol: a hosted model, or a local vLLM, llama.cpp or Ollama."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from pretext.errors import EngineError, UsageError
from pretext.models.chat_format import escape_control_tokens
from pretext.models.engines import Sampling, Usage, cut_at_stop, ignore_progress
from pretext.models.engines.openai_failures import (
    QUOTA,
    REASONING_ONLY,
    RequestFailure,
    read_error_body,
    read_failure,
    read_foreign_answer,
)
from pretext.prompts import Prompt

if TYPE_CHECKING:
    from pydantic import JsonValue

    from pretext.config.settings import Models, Speed

_DEFAULT_URL = "https://api.openai.com/v1"
_MAX_STOP_STRINGS = 4  # the protocol's limit; we cut at further ones ourselves
_MAX_ANSWER_BYTES = 2**20  # a tenth of it holds 4096 tokens with everything around them
_CONNECT_SECONDS = 10.0
_PATIENCE = 8  # fewer failures in a row may be chance, however few requests are in flight
_REPEAT_SECONDS = 1.0  # between two attempts at a server that loads its model
_logger = logging.getLogger(__name__)


_NO_TEXT = RequestFailure("an answer without text", is_server_fault=False)
_NOT_SENT = RequestFailure("not sent")


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
        request: further fields of every request, such as `reasoning_effort`; they beat those of the engine.
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
        request: Mapping[str, JsonValue] | None = None,
        prices: tuple[float | None, float | None] = (None, None),
    ) -> None:
        self._url = (base_url or os.environ.get("OPENAI_BASE_URL") or _DEFAULT_URL).strip()
        self._address = _parse_address(self._url)
        _read_api_key(self._address)
        self._model = model
        self._concurrency = concurrency
        self._timeout = timeout
        self._retries = retries
        self._request = dict(request or {})
        self._names: dict[str, str | None] = {name: name for name in ("max_tokens", "temperature", "top_p", "stop")}
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
            request=speed.request,
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
        self._report_outcomes(outcomes, self.usage - before, prompts[0].chat)
        return [
            None if isinstance(outcome, RequestFailure) else cut_at_stop(outcome, sampling.stop) for outcome in outcomes
        ]

    async def _ask_all(
        self, prompts: Sequence[Prompt], sampling: Sampling, advance: Callable[[int], None]
    ) -> list[str | RequestFailure]:
        """Send all prompts; return the outcomes in order, `_NOT_SENT` for those left when the server is given up."""
        outcomes: list[str | RequestFailure] = [_NOT_SENT] * len(prompts)
        waiting = iter(enumerate(prompts))
        failures_in_a_row = 0

        async def work() -> None:
            nonlocal failures_in_a_row
            for index, prompt in waiting:
                outcomes[index] = outcome = await self._ask(client, prompt, sampling)
                in_trouble = isinstance(outcome, RequestFailure) and outcome.is_server_fault
                failures_in_a_row = failures_in_a_row + 1 if in_trouble else 0
                advance(1)
                if failures_in_a_row >= max(self._concurrency, _PATIENCE):
                    return

        async with self._open_client() as client, asyncio.TaskGroup() as workers:
            for _ in range(min(self._concurrency, len(prompts))):
                workers.create_task(work())
        return outcomes

    def _open_client(self) -> Any:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

        # A server that does not even accept the connection will not answer.
        timeout = Timeout(self._timeout, connect=min(self._timeout, _CONNECT_SECONDS))
        http_client = DefaultAsyncHttpxClient(
            timeout=timeout,
            follow_redirects=False,  # a prompt goes to the address that the user chose, and nowhere else
            trust_env=not _is_this_machine(urlsplit(self._address).hostname or ""),  # no proxy leads to this machine
            event_hooks={"response": [_forbid_vain_retries]},
        )
        key = _read_api_key(self._address)
        return AsyncOpenAI(
            api_key=key, base_url=self._url, timeout=timeout, max_retries=self._retries, http_client=http_client
        )

    async def _ask(self, client: Any, prompt: Prompt, sampling: Sampling) -> str | RequestFailure:
        """Ask until there is an answer, or a failure that will not pass.

        The client itself repeats what it knows as passing. Here, a server that loads its model is waited for, an error
        with the status 200 is repeated, and a parameter that the server does not take is left out.
        """
        started, repeats = time.monotonic(), 0
        try:
            async with asyncio.timeout(2 * self._timeout):
                while True:
                    names = dict(self._names)
                    outcome = await self._attempt(client, prompt, sampling, names)
                    if not isinstance(outcome, RequestFailure):
                        return outcome
                    if outcome.unsupported is None:
                        repeats += 1
                        is_loading = outcome.kind == "HTTP status 503" and time.monotonic() - started < self._timeout
                        if not is_loading and not (outcome.is_worth_repeating and repeats <= self._retries):
                            return outcome
                        await asyncio.sleep(_REPEAT_SECONDS)
                    elif names == self._names:  # else another request has found it out
                        self._leave_out(outcome.unsupported)
        except TimeoutError:
            return RequestFailure("no answer in time")

    async def _attempt(
        self, client: Any, prompt: Prompt, sampling: Sampling, names: Mapping[str, str | None]
    ) -> str | RequestFailure:
        """Send a request, with the parameters under the server's names, and read the answer."""
        import openai

        parameters = self._make_parameters(sampling, names)
        try:
            body = await self._send(client, prompt, parameters)
        except openai.APITimeoutError:
            return RequestFailure("no answer in time")
        except openai.APIConnectionError:
            return RequestFailure("no connection")
        except openai.APIStatusError as error:
            return read_failure(error.status_code, error.body, parameters)
        except (openai.OpenAIError, ValueError):  # such as a lone surrogate in the prompt
            return RequestFailure("a prompt that cannot be encoded", is_server_fault=False)
        if isinstance(body, RequestFailure):
            return body
        try:
            reply = json.loads(body)
            if isinstance(reply, dict) and reply.get("error") and not reply.get("choices"):
                return read_error_body(reply)
            choice = reply["choices"][0]
            outcome = _read_message(choice["message"]) if prompt.chat else _read_completion(choice["text"], prompt)
        except (ValueError, RecursionError, LookupError, TypeError):
            return read_foreign_answer(body)
        self.usage += _parse_usage(reply)
        return outcome

    def _make_parameters(self, sampling: Sampling, names: Mapping[str, str | None]) -> dict[str, Any]:
        """Make the sampling parameters of a request, each under the server's name for it or left out."""
        values = {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop": list(sampling.stop[:_MAX_STOP_STRINGS]),
        }
        named = {names[name]: value for name, value in values.items() if value != []}
        return {name: value for name, value in named.items() if name is not None and name not in self._request}

    def _leave_out(self, parameter: str) -> None:
        """Remember that the server does not take a parameter; `max_tokens` has a newer name that it may take."""
        ours = next(name for name, theirs in self._names.items() if theirs == parameter)
        self._names[ours] = "max_completion_tokens" if parameter == "max_tokens" else None
        if self._names[ours] is None:
            _logger.warning("The server at %s takes no %s; it decides for itself.", self._address, ours)

    async def _send(self, client: Any, prompt: Prompt, parameters: Mapping[str, Any]) -> bytes | RequestFailure:
        """Send a request and read the answer in pieces: the server chooses its length, the memory is ours."""
        text = escape_control_tokens(prompt.text)  # the server's tokenizer is out of reach
        endpoint = client.chat.completions if prompt.chat else client.completions
        content = {"messages": [{"role": "user", "content": text}]} if prompt.chat else {"prompt": text}
        async with endpoint.with_streaming_response.create(
            model=self._model, **content, **parameters, extra_body=self._request
        ) as response:
            return await _read_body(response)

    def _report_outcomes(self, outcomes: list[str | RequestFailure], used: Usage, chat: bool) -> None:
        """Log failures by kind and number only: a server's own words may repeat a key or a prompt."""
        failures = Counter(outcome for outcome in outcomes if isinstance(outcome, RequestFailure))
        sent = len(outcomes) - failures.pop(_NOT_SENT, 0)
        summary = ", ".join(f"{failure}: {count}" for failure, count in failures.most_common()) or "none"
        log = _logger.warning if failures else _logger.info
        log(
            "%d requests to the server at %s: %d tokens read, %d written%s; failed: %s.",
            sent, self._address, used.read, used.written, self._format_cost(used), summary,
        )  # fmt: skip
        if sent < len(outcomes) or failures.total() == sent:
            remedy = failures.most_common(1)[0][0].describe_remedy(self._model, chat)
            raise EngineError(
                f"The server at {self._address} failed for {failures.total()} of {sent} requests and was given up "
                f"({summary}); {remedy}, then resume."
            )

    def _format_cost(self, used: Usage) -> str:
        """Write the cost of this batch and of all batches so far; empty without prices."""
        if self._prices == (None, None):
            return ""
        read, written = (price or 0.0 for price in self._prices)
        batch, total = ((read * usage.read + written * usage.written) / 1e6 for usage in (used, self.usage))
        return f", cost {batch:.4f} ({total:.4f} in all)"


async def _read_body(response: Any) -> bytes | RequestFailure:
    body = bytearray()
    try:
        async for piece in response.iter_bytes():
            body += piece
            if len(body) > _MAX_ANSWER_BYTES:
                return RequestFailure("an answer of more than 1 MiB")
    except Exception:  # of the HTTP library, which depends on the client's version
        return RequestFailure("an answer that broke off")
    return bytes(body)


async def _forbid_vain_retries(response: Any) -> None:
    """Tell the client not to repeat a request where the quota is used up, which has the status of a rate limit."""
    if response.status_code == 429 and QUOTA.encode() in await response.aread():
        response.headers["x-should-retry"] = "false"


def _read_message(message: Any) -> str | RequestFailure:
    """Read a chat message, whose thinking some servers put in a field beside it."""
    text = _read_text(message["content"])
    has_reasoning = any(message.get(name) for name in ("reasoning_content", "reasoning"))
    return RequestFailure(REASONING_ONLY, is_server_fault=False) if has_reasoning and text in ("", _NO_TEXT) else text


def _read_text(content: Any) -> str | RequestFailure:
    """Read a content, which some servers write as a list of parts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        texts = [text for text in parts if isinstance(text, str)]
        return "".join(texts) if texts else _NO_TEXT
    return content if isinstance(content, str) else _NO_TEXT


def _read_completion(content: Any, prompt: Prompt) -> str | RequestFailure:
    """Read the text of a completion, before which some servers repeat the prompt."""
    text = _read_text(content)
    return text.removeprefix(escape_control_tokens(prompt.text)) if isinstance(text, str) else text


def _parse_usage(reply: Any) -> Usage:
    """Read the tokens that the server counted, 0 where it does not count or counts nonsense."""
    usage = reply.get("usage")
    counts = [usage.get(name) if isinstance(usage, dict) else 0 for name in ("prompt_tokens", "completion_tokens")]
    return Usage(*(int(count) if isinstance(count, int | float) and 0 <= count < 2**40 else 0 for count in counts))


def _parse_address(url: str) -> str:
    """Check the address and return it in a form that may be shown: without user, password and query."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")  # refuses empty and overlong labels
        is_valid = parts.scheme in ("http", "https") and bool(host) and (parts.port is None or parts.port > 0)
    except ValueError:  # of brackets that do not match, or of a port that is no number or out of range
        is_valid = False
    if not is_valid or not _is_printable(url) or parts.username or parts.password:
        raise UsageError(
            "The address of the server must look like http://localhost:8000/v1, without a user or password; set "
            "base_url or OPENAI_BASE_URL to such an address, and OPENAI_API_KEY to the key."
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _read_api_key(address: str) -> str:
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if key and not _is_printable(key):
        raise UsageError(
            "OPENAI_API_KEY holds a character that no key has, such as a blank, a line end or a typographic quote; "
            "set it anew."
        )
    if key:
        return key
    if not _is_this_machine(urlsplit(address).hostname or ""):
        raise UsageError(
            f"The server at {address} needs a key; set OPENAI_API_KEY (to any word if the server needs none)."
        )
    return "none"


def _is_printable(text: str) -> bool:
    """Whether the text is of printable ASCII alone, without blanks."""
    return all("!" <= character <= "~" for character in text)


def _is_this_machine(host: str) -> bool:
    """Whether a host is this machine, as far as that shows without asking a name server."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost") or host == socket.gethostname().lower()
    with suppress(OSError), socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6) as own:
        own.bind((host, 0))  # only an address of one's own can be bound, 0.0.0.0 and those in a network too
        return True
    return address.is_loopback
