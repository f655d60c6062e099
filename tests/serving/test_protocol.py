"""A response leaves in one piece, and nothing that stands alone waits for a second one."""

from serving.protocol import Joined


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
