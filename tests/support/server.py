"""Serve an engine over HTTP on loopback in the OpenAI protocol, and misbehave on demand."""

from __future__ import annotations

import itertools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO, Literal

from pretext.errors import EngineError
from pretext.models.engines import Engine, Sampling
from pretext.prompts import Prompt

Misbehavior = Literal[
    "none", "500", "429", "401", "404", "silence", "rubbish", "no choices", "empty", "huge", "every second",
    "trickle", "breaks off", "stalls",
]  # fmt: skip
SILENCE = 60.0  # seconds, unless the server stops before


class ModelServer:
    """Serves `engine` on a free port inside the `with` block; `requests` and `keys` record what arrives."""

    def __init__(self, engine: Engine) -> None:
        self.misbehavior: Misbehavior = "none"
        self.pause = ""  # the header Retry-After of errors
        self.location = ""  # where a redirect leads
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        self._engine = engine
        self._one_at_a_time = threading.Lock()
        self._numbers = itertools.count()
        self._leaving = threading.Event()
        self._http = _Listener(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> ModelServer:
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def reply(self, path: str, body: dict) -> tuple[int, bytes]:
        """Answer one request: return status and body."""
        number = next(self._numbers)
        match self.misbehavior:
            case "500" | "429" | "401" | "404":
                return int(self.misbehavior), _error(f"the prompt was {body} and the key {self.keys[-1]}")
            case "silence":
                self._leaving.wait(SILENCE)
                return 500, b""
            case "rubbish":
                return 200, b"<html>It works!</html>"
            case "no choices":
                return 200, b'{"choices": null}'
            case "empty" | "huge":
                text = "" if self.misbehavior == "empty" else "long " * 2_000_000
                return 200, _answer(path, text)
            case "every second" if number % 2:
                return 400, _error("refused")
        return self._complete(path, body, number)

    def _complete(self, path: str, body: dict, number: int) -> tuple[int, bytes]:
        chat = path.endswith("/chat/completions")
        prompt = Prompt(body["messages"][0]["content"] if chat else body["prompt"], chat)
        stop = tuple(body.get("stop", ()))
        sampling = Sampling(body["max_tokens"], body["temperature"], body["top_p"], stop, seed=number)
        try:
            with self._one_at_a_time:
                before = self._engine.usage
                (text,) = self._engine.complete([prompt], sampling)
                used = self._engine.usage - before
        except EngineError as error:
            return 400, _error(str(error))
        return 200, _answer(path, text, prompt_tokens=used.read, completion_tokens=used.written)

    def write(self, body: bytes, output: BinaryIO) -> None:
        """Write the body as the misbehavior demands."""
        match self.misbehavior:
            case "breaks off":
                output.write(body[: len(body) // 2])
            case "stalls":
                output.write(body[:1])
                self._leaving.wait(SILENCE)
            case "trickle":
                for byte in body:
                    output.write(bytes([byte]))
                    if self._leaving.wait(0.05):
                        return
            case _:
                output.write(body)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.keys.append(self.headers.get("Authorization"))
                server.requests.append(body)
                status, answer = server.reply(self.path, body)
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(answer)))
                    if server.location:
                        self.send_header("Location", server.location)
                    if status >= 400 and server.pause:
                        self.send_header("Retry-After", server.pause)
                    self.end_headers()
                    server.write(answer, self.wfile)
                except (BrokenPipeError, ConnectionResetError):
                    time.sleep(0)  # the client has given up waiting

            def log_message(self, *_: object) -> None:
                return

        return Handler


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def _answer(path: str, text: str | None, **usage: int) -> bytes:
    chat = path.endswith("/chat/completions")
    choice = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    return json.dumps({"choices": [choice | {"index": 0, "finish_reason": "stop"}], "usage": usage}).encode()


def _error(message: str) -> bytes:
    return json.dumps({"error": {"message": message}}).encode()
