"""A response leaves in one piece, and nothing waits that need not; a request that came whole is answered at once."""

import json
import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest
import uvicorn

from serving.draining import Server
from serving.protocol import HEAD_BYTES, OPTIONS, Joined


class Wire:
    """What was written, piece by piece."""

    def __init__(self):
        self.pieces, self.closed = [], False

    def write(self, data):
        self.pieces.append(data)

    def close(self):
        self.closed = True


HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


def test_head_and_body_leave_together():
    wire = Wire()
    joined = Joined(wire)
    joined.write(HEAD)
    assert wire.pieces == []
    joined.write(b"{}")
    assert wire.pieces == [HEAD + b"{}"]


def test_an_empty_body_sends_the_head_and_what_follows_is_not_kept():
    wire = Wire()
    joined = Joined(wire)
    for piece in (HEAD, b"", b"more", b"and more"):
        joined.write(piece)
    joined.close()
    assert wire.pieces == [HEAD, b"more", b"and more"]
    assert wire.closed


def test_an_invitation_to_send_the_body_does_not_wait():
    wire = Wire()
    joined = Joined(wire)
    joined.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert len(wire.pieces) == 1
    joined.write(HEAD)
    joined.write(b"{}")
    assert wire.pieces[1:] == [HEAD + b"{}"]


class App:
    """Says by which way it was asked."""

    def at_once(self, scope, body):
        return None if scope["path"] != "/" else (200, [(b"content-length", b"%d" % (5 + len(body)))], b"once " + body)

    async def __call__(self, scope, receive, send):
        if scope["path"] == "/unread":
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        size = str(5 + len(body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", size)]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else b"task " + body})


@contextmanager
def served(**options):
    """A connection to the application on a free port."""
    with listened(**options) as (_, listening), socket.create_connection(listening.getsockname(), timeout=30) as one:
        yield one


@contextmanager
def listened(**options):
    """A server of the application: (server, the socket it listens at)."""
    server = Server(uvicorn.Config(App(), **{**OPTIONS, "lifespan": "off", **options}))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield server, listening
    finally:
        server.should_exit = True
        thread.join()


def post(body, path="/", headers=b""):
    return b"POST %b HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n" % (path.encode(), headers, len(body)) + body


def told(connection, n=1):
    """The bodies of the next n responses."""
    got, bodies = b"", []
    while len(bodies) < n:
        part = connection.recv(65_536)
        assert part, got
        got += part
        while b"\r\n\r\n" in got:
            head, _, rest = got.partition(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            if len(rest) < size:
                break
            bodies.append(rest[:size])
            got = rest[size:]
    return bodies


@pytest.mark.parametrize("headers", [b"connection: close\r\n", b"expect: 100-continue\r\n"])
def test_what_is_not_plain_goes_the_way_of_asgi(headers):
    with served() as connection:
        connection.sendall(post(b"x", headers=headers))
        got = b""
        while not got.endswith(b"task x"):
            part = connection.recv(65_536)
            assert part, got
            got += part


def test_a_request_that_came_whole_is_answered_at_once_and_others_as_they_come():
    with served() as connection:
        connection.sendall(post(b"a"))
        assert told(connection) == [b"once a"]
        connection.sendall(post(b"bc")[:-1])
        time.sleep(0.2)
        connection.sendall(b"c")
        assert told(connection) == [b"task bc"]
        whole = post(b"d")
        connection.sendall(whole[:20])
        time.sleep(0.2)
        connection.sendall(whole[20:])
        assert told(connection) == [b"once d"]


def test_requests_sent_in_one_go_are_answered_in_their_order():
    with served() as connection:
        connection.sendall(post(b"a") + post(b"b", "/waits") + post(b"c") + post(b"d", "/waits") + post(b"e"))
        assert told(connection, 5) == [b"once a", b"task b", b"once c", b"task d", b"once e"]


def test_a_head_is_answered_without_a_body():
    with served() as connection:
        connection.sendall(b"HEAD /waits HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(65_536).endswith(b"\r\n\r\n")


def ended(connection):
    """All that is said until the connection is closed."""
    got = b""
    while part := connection.recv(65_536):
        got += part
    return got


def test_who_is_connected_when_the_server_ends_is_answered_and_who_only_listens_is_let_go():
    with listened() as (server, listening), listening.dup():  # as BentoML's first process holds it
        address = listening.getsockname()
        silent, begun, idle = (socket.create_connection(address, timeout=30) for _ in range(3))
        with silent, begun, idle:
            begun.sendall(post(b"b")[:20])
            idle.sendall(post(b"i"))
            assert told(idle) == [b"once i"]
            server.should_exit = True
            assert ended(idle) == b""  # it is closed once the server has begun to end
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
            silent.sendall(post(b"s"))
            begun.sendall(post(b"b")[20:])
            assert (told(silent), told(begun)) == ([b"once s"], [b"once b"])


def test_who_the_kernel_has_let_in_when_the_server_ends_is_answered():
    """They connect after the loop has looked for the last time."""
    ending, connected = threading.Event(), threading.Event()
    with listened() as (server, listening):
        tick = server.on_tick

        async def ticking(counter):
            if leave := await tick(counter):
                ending.set()
                connected.wait(30)
            return leave

        with socket.create_connection(listening.getsockname(), timeout=30) as early:
            early.sendall(post(b"e"))
            assert told(early) == [b"once e"]
        server.on_tick = ticking
        server.should_exit = True
        assert ending.wait(30)
        with socket.create_connection(listening.getsockname(), timeout=30) as late:
            late.sendall(post(b"l"))
            connected.set()
            assert told(late) == [b"once l"]


def test_headers_without_an_end_are_refused():
    with served() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nx-a: ")
        sent = 0
        with suppress(ConnectionError):
            while sent < 100 * HEAD_BYTES:
                connection.sendall(b"a" * 10_000)
                sent += 10_000
                time.sleep(0.005)
        assert HEAD_BYTES <= sent < 50 * HEAD_BYTES


def test_headers_that_are_too_large_are_told_so():
    with served() as connection:
        for piece in (b"GET / HTTP/1.1\r\n", b"x-a: " + b"a" * HEAD_BYTES):
            connection.sendall(piece)
            time.sleep(0.1)
        got = ended(connection)
        assert got.startswith(b"HTTP/1.1 431 ")
        assert b"\r\nx-request-id: " in got
        assert b"application/problem+json" in got


def test_a_large_body_behind_which_another_request_begins_is_no_large_header():
    with served() as connection:
        body = b"x" * (3 * HEAD_BYTES)
        connection.sendall(post(body, "/waits") + post(b"y", "/waits")[:30])
        assert told(connection) == [b"task " + body]
        connection.sendall(post(b"y", "/waits")[30:])
        assert told(connection) == [b"task y"]


def test_what_is_no_http_is_told_so_as_a_problem():
    with served() as connection:
        connection.sendall(b"what is this\r\n\r\n")
        head, _, body = ended(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"x-content-type-options: nosniff" in head
        assert b"\r\nx-request-id: " in head
        assert json.loads(body)["status"] == 400


def test_a_body_that_nobody_reads_keeps_no_connection_open():
    with served(timeout_keep_alive=1) as connection:
        whole = post(b"abc", "/unread")
        connection.sendall(whole[:-2])
        assert told(connection) == [b""]
        connection.sendall(whole[-2:])
        assert ended(connection) == b""
