"""Generation by a server that speaks the OpenAI protocol: a hosted model, or vLLM, llama.cpp, Ollama, ... next door."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pretext.engines import Sampling, Usage, cut_at_stop, unheard
from pretext.errors import EngineError, UsageError
from pretext.prompts import Prompt

_DEFAULT_URL = "https://api.openai.com/v1"
_MOST_STOP_STRINGS = 4  # the protocol's limit; more of them are cut on our side alone
# The server's tokenizer is out of reach, so what may be a control token of some model gets a space after its bracket.
_CONTROL = re.compile(r"<(?=[|｜]|/?s>|(?:bos|eos|pad)>|(?:start|end)_of_turn>)|\[(?=/?INST\])")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Failure:
    """Why a request has no text; `server` tells a server in trouble from a request that it refused."""

    kind: str
    server: bool = True


class OpenAIEngine:
    """A model behind the `completions` (base prompts) and `chat/completions` (chat prompts) endpoints.

    Requests are not repeatable: no seed is sent, as servers differ in what they make of one. Once `2 * concurrency`
    requests in a row have failed, the rest of the batch is not sent.

    Args:
        model: the server's name for the model.
        base_url: address of the server; default: OPENAI_BASE_URL, or api.openai.com.
        concurrency: requests in flight.
        timeout: seconds until a request counts as unanswered.
        retries: how often a request is repeated after no answer, 408, 409, 429 or 5xx, with growing pauses.

    Raises:
        UsageError: no OPENAI_API_KEY for a server that is not on this machine, or an address that is none.
    """

    def __init__(
        self, model: str, *, base_url: str | None = None, concurrency: int = 16, timeout: float = 60.0, retries: int = 3
    ) -> None:
        from openai import OpenAI

        url = base_url or os.environ.get("OPENAI_BASE_URL") or _DEFAULT_URL
        self._address = _address(url)
        self._model = model
        self._concurrency = concurrency
        self._failures_in_a_row = 0
        self.usage = Usage()
        self._counting = threading.Lock()
        self._client: Any = OpenAI(api_key=_api_key(self._address), base_url=url, timeout=timeout, max_retries=retries)

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, advance: Callable[[int], None] = unheard
    ) -> list[str | None]:
        """See `Engine`."""
        self._failures_in_a_row = 0
        pool = ThreadPoolExecutor(self._concurrency)
        try:
            outcomes = []
            for outcome in pool.map(lambda prompt: self._ask(prompt, sampling), prompts):
                outcomes.append(outcome)
                advance(1)
        finally:
            pool.shutdown(cancel_futures=True)
        self._report(outcomes)
        return [None if isinstance(outcome, _Failure) else cut_at_stop(outcome, sampling.stop) for outcome in outcomes]

    def _report(self, outcomes: list[str | _Failure]) -> None:
        """Tell of failures by their kind and number alone: a server's own words may repeat a key or a prompt."""
        kinds = Counter(outcome.kind for outcome in outcomes if isinstance(outcome, _Failure))
        if not kinds:
            return
        summary = ", ".join(f"{kind}: {count}" for kind, count in kinds.most_common())
        if kinds.total() == len(outcomes):
            raise EngineError(
                f"The server at {self._address} failed for all {len(outcomes)} requests ({summary}); check that it "
                f"runs, serves the model {self._model!r} and accepts the OPENAI_API_KEY given."
            )
        _logger.warning(
            "%d of %d requests to the server at %s failed (%s).", kinds.total(), len(outcomes), self._address, summary
        )

    def _ask(self, prompt: Prompt, sampling: Sampling) -> str | _Failure:
        if self._failures_in_a_row >= 2 * self._concurrency:
            return _Failure("not sent after failures in a row")
        outcome = self._request(prompt, sampling)
        in_trouble = isinstance(outcome, _Failure) and outcome.server
        # Threads may race for this count; it decides only how soon a dead server is given up.
        self._failures_in_a_row = self._failures_in_a_row + 1 if in_trouble else 0
        return outcome

    def _request(self, prompt: Prompt, sampling: Sampling) -> str | _Failure:
        import openai

        try:
            reply = self._send(prompt, sampling)
        except openai.APITimeoutError:
            return _Failure("no answer in time")
        except openai.APIConnectionError:
            return _Failure("no connection")
        except openai.APIStatusError as error:
            return _Failure(f"HTTP status {error.status_code}", server=error.status_code not in (400, 413, 422))
        except (openai.OpenAIError, ValueError, TypeError, AttributeError):
            return _Failure("an answer that is not of the OpenAI protocol")
        with self._counting:
            self.usage += _usage(reply)
        return _text(reply, prompt.chat)

    def _send(self, prompt: Prompt, sampling: Sampling) -> Any:
        text = _CONTROL.sub(r"\g<0> ", prompt.text)
        settings: dict[str, Any] = {
            "model": self._model,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if sampling.stop:
            settings["stop"] = list(sampling.stop[:_MOST_STOP_STRINGS])
        if prompt.chat:
            return self._client.chat.completions.create(messages=[{"role": "user", "content": text}], **settings)
        return self._client.completions.create(prompt=text, **settings)


def _text(reply: Any, chat: bool) -> str | _Failure:
    """The text of the first choice. The client checks no types, so a reply may be anything that JSON can say."""
    try:
        choice = reply.choices[0]
        text = choice.message.content if chat else choice.text
    except (AttributeError, IndexError, KeyError, TypeError):
        return _Failure("an answer that is not of the OpenAI protocol")
    return text if isinstance(text, str) else _Failure("an answer without text", server=False)


def _usage(reply: Any) -> Usage:
    """The tokens that the server counted, 0 where it does not."""
    counted = getattr(reply, "usage", None)
    read, written = getattr(counted, "prompt_tokens", 0), getattr(counted, "completion_tokens", 0)
    return Usage(*(number if isinstance(number, int) else 0 for number in (read, written)))


def _address(url: str) -> str:
    """The address as it may be shown: without user, password and query."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
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
