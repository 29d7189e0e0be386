"""S3 servers on loopback, and a proxy before them that misbehaves on command.

    store ──> Proxy ──> moto | ministack | nanio        each server a process of its own
                └── counts requests; an `Act` says what goes wrong with the next ones

moto and ministack honour conditional puts; nanio ignores them and must be refused. Each context
manager stops what it started, and nothing else. Credentials are passed as options of the store,
never by this process's environment.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import botocore.config
import botocore.session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = "AKIAWORKBENCHTEST000"
SECRET = "not-a-secret-of-anything-in-the-world-00"  # noqa: S105  # of servers that we start
REGION = "us-east-1"
DEADLINE_S = 30.0
STARTS_MAX = 3


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        name: `moto`, `ministack` or `nanio`.
        endpoint: As AWS_ENDPOINT_URL.
    """

    name: str
    endpoint: str

    def options(self, **more: Any) -> dict[str, Any]:
        """Return options for S3Store."""
        return options_for(self.endpoint, **more)

    def environment(self) -> dict[str, str]:
        """Return variables for a process that is to reach this server."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def make_bucket(self, name: str) -> str:
        """Create a bucket, and return its name."""
        with client_of(self.endpoint) as client:
            client.create_bucket(Bucket=name)
        return name


def options_for(endpoint: str, **more: Any) -> dict[str, Any]:
    """Return options for an S3Store at `endpoint`."""
    return {
        "key": KEY,
        "secret": SECRET,
        "endpoint_url": endpoint,
        "client_kwargs": {"region_name": REGION},
        **more,
    }


@contextlib.contextmanager
def client_of(endpoint: str) -> Iterator[Any]:
    """A plain botocore client, for what stores cannot do."""
    client = botocore.session.Session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=botocore.config.Config(s3={"addressing_style": "path"}),
    )
    try:
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def moto() -> Iterator[Server]:
    """moto's server; every credential is accepted until `enforce_credentials`."""

    def command(port: int) -> list[str]:
        return ["-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]

    with _started("moto", command, {}) as server:
        yield server


@contextlib.contextmanager
def enforce_credentials(server: Server) -> Iterator[None]:
    """Let a moto server refuse unknown keys meanwhile."""
    _post(f"{server.endpoint}/moto-api/reset-auth", b"0")
    try:
        yield
    finally:
        _post(f"{server.endpoint}/moto-api/reset-auth", b"inf")


@contextlib.contextmanager
def ministack() -> Iterator[Server]:
    """ministack's server."""

    def command(port: int) -> list[str]:
        return ["-m", "hypercorn", "ministack.app:app", "--bind", f"127.0.0.1:{port}"]

    with _started("ministack", command, {"SERVICES": "s3", "LOG_LEVEL": "ERROR"}) as server:
        yield server


@contextlib.contextmanager
def nanio(folder: Path) -> Iterator[Server]:
    """nanio's server, which ignores If-None-Match; its files go below `folder`."""

    def command(port: int) -> list[str]:
        where = ["--host", "127.0.0.1", "--port", str(port), "--data-dir", str(folder)]
        return ["-m", "nanio", "serve", *where, "--no-access-log", "--log-level", "error"]

    keys = {"NANIO_ACCESS_KEY": KEY, "NANIO_SECRET_KEY": SECRET}
    with _started("nanio", command, keys) as server:
        yield server


def closed_port() -> int:
    """Return a port of loopback on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for `condition`, up to a deadline."""
    end = time.monotonic() + DEADLINE_S  # noqa: TID251 - bounds the polling
    while not condition():
        left = end - time.monotonic()  # noqa: TID251 - likewise
        assert left > 0, f"not in {DEADLINE_S} s: {what}"
        time.sleep(0.01)


@contextlib.contextmanager
def _started(
    name: str, command: Callable[[int], list[str]], variables: dict[str, str]
) -> Iterator[Server]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    for attempt in range(STARTS_MAX):
        port = closed_port()  # another process may take it before the server does
        process = subprocess.Popen(
            [sys.executable, *command(port)],
            env=kept | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            if _answers(process, port):
                yield Server(name, f"http://127.0.0.1:{port}")
                return
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert attempt + 1 < STARTS_MAX, f"{name} does not start"


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    end = time.monotonic() + DEADLINE_S  # noqa: TID251 - bounds the polling
    while process.poll() is None and time.monotonic() < end:  # noqa: TID251 - likewise
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
        else:
            return True
        finally:
            connection.close()
    return False


def _post(url: str, data: bytes) -> None:
    request = urllib.request.Request(url, data, {"Content-Type": "text/plain"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  # loopback
        answer.read()


# --- the proxy


@dataclass(frozen=True, slots=True)
class Request:
    """What arrived at the proxy."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Act:
    """What the proxy does with a request.

    Attributes:
        status: Answer so, with an S3 error of `code`, and forward nothing unless it `landed`.
        code: Of that answer; empty for a body that is none of S3.
        body: Of that answer, in their place.
        landed: Forward, and answer with `status` nevertheless.
        forward: Whether the request reaches the server.
        drop: Close the connection instead of answering.
        cut: Send only so many bytes of the body, and close.
        lie: Send only so many bytes of the body, and say that they are all.
        hold: Answer only when the proxy is released or stopped.
        ignore_range: Forward without the Range.
        flip: Change one bit of the answer's body.
    """

    status: int = 0
    code: str = ""
    body: bytes | None = None
    landed: bool = False
    forward: bool = True
    drop: bool = False
    cut: int | None = None
    lie: int | None = None
    hold: bool = False
    ignore_range: bool = False
    flip: bool = False


FORWARD = Act()


@dataclass(slots=True)
class Proxy:
    """A proxy before one server.

    Attributes:
        endpoint: Where it listens.
        requests: What arrived, in order.
        acts: For the next requests, first come first; when it is empty all are forwarded.
        choose: Decides instead, where given.
    """

    target: str
    endpoint: str = ""
    requests: list[Request] = field(default_factory=list)
    acts: deque[Act] = field(default_factory=deque)
    choose: Callable[[Request], Act] | None = None
    released: threading.Event = field(default_factory=threading.Event)
    in_flight: int = 0
    in_flight_max: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def act(self, request: Request) -> Act:
        """Record a request, and return what to do with it."""
        with self.lock:
            self.requests.append(request)
            if self.choose is not None:
                return self.choose(request)
            return self.acts.popleft() if self.acts else FORWARD

    def reset(self) -> None:
        """Forget requests and acts."""
        self.requests.clear()
        self.acts.clear()
        self.choose = None
        self.in_flight_max = 0

    def options(self, **more: Any) -> dict[str, Any]:
        """Return options for an S3Store through this proxy."""
        return options_for(self.endpoint, **more)


@contextlib.contextmanager
def proxy(server: Server) -> Iterator[Proxy]:
    """A proxy before `server`."""
    one = Proxy(server.endpoint)

    class Handler(_Handler):
        state = one

    listener = _Listener(("127.0.0.1", 0), Handler)
    one.endpoint = f"http://127.0.0.1:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield one
    finally:
        one.released.set()
        listener.shutdown()
        thread.join()
        listener.server_close()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # kept connections end with their clients
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients of these tests go away in the middle."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: Proxy

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = parse_qs(parts.query, keep_blank_values=True)
        request = Request(self.command, parts.path, query, headers, body)
        act = self.state.act(request)
        with self.state.lock:
            self.state.in_flight += 1
            self.state.in_flight_max = max(self.state.in_flight_max, self.state.in_flight)
        try:
            self._answer(request, act)
        finally:
            with self.state.lock:
                self.state.in_flight -= 1

    def _answer(self, request: Request, act: Act) -> None:
        if act.status:
            if act.landed:
                self._forward(request, act)
            status, headers, body = _planted(act)
        elif act.forward:
            status, headers, body = self._forward(request, act)
        else:
            status, headers, body = 0, {}, b""
        if act.hold:
            self.state.released.wait(DEADLINE_S)
        if act.drop:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if act.flip:
            body = bytes([body[0] ^ 1]) + body[1:]
        self._send(request, status, headers, body[: act.lie], act.cut)

    def _send(
        self,
        request: Request,
        status: int,
        headers: dict[str, str],
        body: bytes,
        cut: int | None,
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name not in {"content-length", "connection", "transfer-encoding"}:
                self.send_header(name, value)
        is_head = request.method == "HEAD"
        if status != 204:
            length = headers.get("content-length", "0") if is_head else str(len(body))
            self.send_header("Content-Length", length)
        self.end_headers()
        if not is_head:
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True

    def _forward(self, request: Request, act: Act) -> tuple[int, dict[str, str], bytes]:
        target = urlsplit(self.state.target)
        connection = http.client.HTTPConnection(target.netloc, timeout=DEADLINE_S)
        left_out = {"connection", "expect"} | ({"range"} if act.ignore_range else set())
        headers = {name: value for name, value in request.headers.items() if name not in left_out}
        try:
            connection.request(request.method, self.path, request.body, headers)
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, {n.lower(): v for n, v in answer.getheaders()}, body
        finally:
            connection.close()

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve  # noqa: N815  # the base's names


def _planted(act: Act) -> tuple[int, dict[str, str], bytes]:
    if act.body is not None:
        return act.status, {"content-type": "application/xml"}, act.body
    if not act.code:
        return act.status, {"content-type": "text/html"}, b"<html>gateway</html>"
    xml = f"<Error><Code>{act.code}</Code><Message>planted</Message></Error>"
    return act.status, {"content-type": "application/xml"}, xml.encode()
