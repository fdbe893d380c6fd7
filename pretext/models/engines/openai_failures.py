"""Read why a server of the OpenAI protocol has no text for a request, without repeating its words.

A server's message may hold a key or a prompt, so it is read and never shown. What is shown: the kind of the failure,
and the short identifiers `code`, `param` and `type` of the protocol's errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

_IDENTIFIER = re.compile(r"[a-z_]{1,40}")
_CONTEXT = re.compile(
    r"context_length_exceeded|context[ _](?:length|window|size)|maximum (?:context|input|prompt|sequence)|n_ctx"
    r"|(?:prompt|input) (?:is )?too long|max_model_len|max_seq_len",
    re.IGNORECASE,
)
_UNSUPPORTED = re.compile(
    r"unsupported|not (?:be )?(?:support|permit|allow|accept|recogni[sz]ed)|unrecogni[sz]ed|unknown|unexpected|extra"
    r"|deprecated|only the default|cannot both|instead",
    re.IGNORECASE,
)
QUOTA = "insufficient_quota"
"""The code of an error that no waiting mends, although its status is that of a rate limit."""
_OWN_FAULTS = (400, 413, 422)  # statuses of a request that a server in good health refuses

REASONING_ONLY, TOO_LONG = "an answer of reasoning only", "a prompt longer than the model's context"
QUOTA_USED_UP, REDIRECT = "a quota that is used up", "a redirect"
STREAM, WEB_PAGE = "an answer in pieces", "a web page"
_KEY_REMEDY = "set OPENAI_API_KEY to a key that it accepts"
_REMEDIES = {
    "no connection": "check that it runs at this address",
    "no answer in time": "check that it is not stuck, or set speed.request_timeout higher or speed.concurrency lower",
    REASONING_ONLY: "raise max_tokens, or switch the model's thinking off with speed.request",
    TOO_LONG: "use fewer or shorter examples or a lower max_tokens, or a model with a longer context",
    QUOTA_USED_UP: "raise the account's limit, or set OPENAI_API_KEY to another key",
    STREAM: "switch streaming off at the server",
    WEB_PAGE: "check the address, which often ends in /v1; a proxy or a login may answer in the server's place",
    REDIRECT: "it names another address, to which nothing was sent; if you trust that one, set speed.base_url to it",
    "HTTP status 401": _KEY_REMEDY,
    "HTTP status 403": _KEY_REMEDY,
    "HTTP status 404": "check the model's name {model!r}, that the address ends as it should, often in /v1, and that "
    'the server has this endpoint: models.prompt_format = "{other}" asks another one',
    "HTTP status 429": "set speed.concurrency lower, or wait until its limits allow more",
}
_DEFAULT_REMEDY = "check the server's own log, and that it serves the model {model!r}"


@dataclass(frozen=True)
class RequestFailure:
    """Why a request has no text.

    Attributes:
        kind: for the log, and the key of the remedy.
        detail: the server's identifiers; may be empty.
        is_server_fault: a server in trouble, and not a request that it refused.
        is_worth_repeating: the same request may succeed later, and the client has not repeated it.
        unsupported: the request's parameter that the server does not take.
    """

    kind: str
    detail: str = ""
    is_server_fault: bool = True
    is_worth_repeating: bool = False
    unsupported: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} ({self.detail})" if self.detail else self.kind

    def describe_remedy(self, model: str, chat: bool) -> str:
        """Say what to do about it; `chat` is the format of the prompts."""
        return _REMEDIES.get(self.kind, _DEFAULT_REMEDY).format(model=model, other="base" if chat else "chat")


def read_foreign_answer(body: bytes) -> RequestFailure:
    """Say what an answer is that is not of the OpenAI protocol."""
    start = body[:100].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"data:", b"event:", b":")):
        return RequestFailure(STREAM)
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        return RequestFailure(WEB_PAGE)
    return RequestFailure("an answer that is not of the OpenAI protocol")


def read_failure(status: int, body: object, parameters: Collection[str]) -> RequestFailure:
    """Read an error by its status and its body, parsed or not; `parameters` are those of the request."""
    error = _error_of(body)
    identifiers = [error.get(name) for name in ("code", "param", "type")]
    shown = dict.fromkeys(name for name in identifiers if isinstance(name, str) and _IDENTIFIER.fullmatch(name))
    detail = ", ".join(shown)
    if QUOTA in shown:
        return RequestFailure(QUOTA_USED_UP)
    if 300 <= status < 400:
        return RequestFailure(REDIRECT, f"HTTP status {status}")
    is_refused = status in _OWN_FAULTS
    if is_refused and _CONTEXT.search(_words_of(body)):
        return RequestFailure(TOO_LONG, detail, is_server_fault=False)
    unsupported = _find_unsupported(body, parameters) if is_refused else None
    return RequestFailure(f"HTTP status {status}", detail, not is_refused, unsupported=unsupported)


def read_error_body(reply: Mapping[str, Any]) -> RequestFailure:
    """Read the error that a server sent in place of an answer, with the status 200."""
    code = str(_error_of(reply).get("code"))
    status = int(code) if re.fullmatch(r"[45]\d\d", code) else 500
    failure = read_failure(status, reply, ())
    return replace(failure, is_worth_repeating=status in (408, 409, 429) or status >= 500)


def _find_unsupported(body: object, parameters: Collection[str]) -> str | None:
    """Find which of the request's parameters a server that refused it does not take; None if none is named."""
    words = _words_of(body)
    if not _UNSUPPORTED.search(words):
        return None
    named = [name for name in parameters if re.search(rf"(?<![a-z_]){name}(?![a-z_])", words)]
    param = _error_of(body).get("param")
    return param if param in parameters else named[-1] if named else None


def _error_of(body: object) -> Mapping[str, Any]:
    """Return the error object of a body, which servers write with or without an `error` around it."""
    inner = body.get("error", body) if isinstance(body, dict) else {}
    return inner if isinstance(inner, dict) else {}


def _words_of(body: object) -> str:
    return json.dumps(body, default=str).replace("\\", "")
