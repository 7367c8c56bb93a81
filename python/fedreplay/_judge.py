"""Judges of one's own: a function behind an endpoint on this machine's loopback interface, which the program asks as any other."""

from __future__ import annotations

import contextlib
import functools
import json
import platform
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fedreplay._source import digest, modules_of, text_of_function

Ask = Callable[[list[dict[str, str]]], str]
"""A judge: gets the messages of a chat, each ``{"role": ..., "content": ...}``, and returns its answer."""


@dataclass(frozen=True)
class Judge:
    """A function that judges answers, with the name under which its judgments are stored."""

    ask: Ask
    name: str


def judge(function: Ask, *, name: str | None = None) -> Judge:
    """Makes a function a judge for :func:`evaluate`.

    Args:
        function: Gets the messages of a chat and returns the judgment in the form that the benchmark's prompt asks for.
        name: Name under which judgments are stored and found again; with it the function may use whatever it likes. ``None`` takes the hash of the
            function's text and the versions of the modules that it reads, and anything else that it reads is refused.

    Raises:
        TypeError: without a name, if the function reads names from outside that are no modules.
    """
    if name is None:
        text = text_of_function(function, "judge")
        versions = [f"{module} {version}" for module, version in modules_of(function).items()]
        known = [text, platform.python_version(), *versions]
        name = f"{function.__name__}-{digest(chr(10).join(known).encode())}"
    return Judge(function, name)


@contextlib.contextmanager
def served(judge: Judge) -> Iterator[list[str]]:
    """Answers requests for judgments, and yields the program's options that lead to them. An error of the function is raised at the end."""
    errors: list[Exception] = []
    # Other processes of this machine may reach the port, and do not know the path.
    secret = secrets.token_urlsafe()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Answers, judge, errors, secret))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/{secret}"
    options = ["--judge-url", url, "--judge-model", judge.name, "--judge-identity", f"python:{judge.name}"]
    try:
        yield [*options, "--judge-attempts", "1", "--judge-concurrency", "1"]
    finally:
        server.shutdown()
        server.server_close()
    # The program leaves such answers without a score.
    if errors:
        raise errors[0]


class _Answers(BaseHTTPRequestHandler):
    """One request: a chat in the form of OpenAI's API."""

    def __init__(self, judge: Judge, errors: list[Exception], secret: str, *connection: Any) -> None:
        self._judge, self._errors, self._secret = judge, errors, secret
        super().__init__(*connection)

    def do_POST(self) -> None:
        if not self.path.startswith(f"/{self._secret}/"):
            return self._reply(404, {"error": {"message": "nothing is here"}})
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        try:
            text = self._judge.ask(request["messages"])
            if not isinstance(text, str):
                raise TypeError(f"the judge `{self._judge.name}` returns {text!r:.100}, which is no text")
        except Exception as error:
            self._errors.append(error)
            return self._reply(400, {"error": {"message": f"{type(error).__name__}: {error}"}})
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return self._reply(200, {"choices": [choice], "usage": {"prompt_tokens": 0, "completion_tokens": 0}})

    def _reply(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *parts: Any) -> None:
        """Writes nothing: the program says what it asks."""
