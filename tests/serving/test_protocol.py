"""A response leaves in one piece, and nothing waits that need not; a request that came whole is answered at once."""

import socket
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn

from serving.protocol import OPTIONS, Joined


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
        return (
            None
            if scope["path"] == "/waits"
            else (200, [(b"content-length", b"%d" % (5 + len(body)))], b"once " + body)
        )

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        size = str(5 + len(body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", size)]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else b"task " + body})


@contextmanager
def served():
    """A connection to the application on a free port."""
    server = uvicorn.Server(uvicorn.Config(App(), **{**OPTIONS, "lifespan": "off"}))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        with socket.create_connection(listening.getsockname(), timeout=30) as connection:
            yield connection
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
