"""HTTP/2 as far as a load client needs it: plaintext, unary gRPC calls whose requests fit a frame.

It keeps the server's limits of streams and of bytes in flight (RFC 9113, 5.1.2 and 6.9) and answers
its pings; headers are written out, in both directions, so that no table has to be kept.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from cluster.load.outcomes import CODES

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_TABLE_SIZE, _MAX_STREAMS, _STREAM_WINDOW = 1, 3, 4  # settings
_CANCEL = (8).to_bytes(4, "big")
_DEFAULT_WINDOW = 65_535  # bytes in flight, until the server says otherwise
_ANSWERS_WINDOW = 2**30
_FRAME = struct.Struct(">BHBBI")  # length in two parts, kind, flags, stream
_SETTING = struct.Struct(">HI")
_STATUS = b"\x0bgrpc-status"  # written out, since the server is given no table to compress with
_RESETS = {7: CODES.index("UNAVAILABLE"), 8: CODES.index("CANCELLED")}  # as gRPC maps them
_INTERNAL = CODES.index("INTERNAL")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    size = len(payload)
    return _FRAME.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def _header(name: bytes, value: bytes) -> bytes:
    """Returns a header field that uses no table (RFC 7541, 6.2.2)."""
    return b"\x00%c%b%c%b" % (len(name), name, len(value), value)


@dataclass(slots=True)
class Connection:
    """Bytes out, bytes in, and which call waits on which stream. Its owner waits for `peer`."""

    peer: socket.socket
    head: bytes  # the headers of every request
    out: bytearray = field(default_factory=bytearray)
    rest: bytes = b""  # the beginning of a frame
    next_stream: int = 1
    calls: dict[int, int] = field(default_factory=dict)  # by stream
    window: int = _DEFAULT_WINDOW
    max_streams: int = 0  # until the server has named its limit
    unconfirmed: int = 0  # bytes of answers

    @classmethod
    def open(cls, address: str, method: str) -> "Connection":
        host, _, port = address.rpartition(":")
        peer = socket.create_connection((host, int(port)))
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        named = {":method": "POST", ":scheme": "http", ":path": method, ":authority": address}
        named |= {"te": "trailers", "content-type": "application/grpc"}
        head = b"".join(_header(name.encode(), value.encode()) for name, value in named.items())
        settings = _SETTING.pack(_TABLE_SIZE, 0) + _SETTING.pack(_STREAM_WINDOW, _ANSWERS_WINDOW)
        window = _frame(_WINDOW_UPDATE, 0, 0, _ANSWERS_WINDOW.to_bytes(4, "big"))
        return cls(peer, head, bytearray(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + window))

    def fileno(self) -> int:
        return self.peer.fileno()

    def has_room(self, size: int) -> bool:
        """Tells whether the server takes another call now."""
        return len(self.calls) < self.max_streams and size <= self.window

    def send(self, call: int, message: bytes, timeout_s: float) -> int:
        """Begins a call; returns its stream."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        timeout = _header(b"grpc-timeout", b"%dm" % max(1, round(timeout_s * 1e3)))
        self.out += _frame(_HEADERS, _END_HEADERS, stream, self.head + timeout)
        self.out += _frame(_DATA, _END_STREAM, stream, message)
        self.window -= len(message)
        self.calls[stream] = call
        return stream

    def cancel(self, stream: int) -> None:
        if self.calls.pop(stream, None) is not None:
            self.out += _frame(_RST_STREAM, 0, stream, _CANCEL)

    def cancel_all(self) -> None:
        for stream in list(self.calls):
            self.cancel(stream)

    def flush(self) -> None:
        """Gives the kernel what it takes."""
        if self.out:
            with suppress(BlockingIOError):
                del self.out[: self.peer.send(self.out, socket.MSG_DONTWAIT)]

    def receive(self) -> Iterator[tuple[int, int]]:
        """Reads what has come; yields the calls that have ended and how (an index in `CODES`)."""
        received = self.peer.recv(2**18)
        if not received:
            raise ConnectionError("the server closed the connection")
        data, at = self.rest + received, 0
        while len(data) - at >= _FRAME.size:
            high, low, kind, flags, stream = _FRAME.unpack_from(data, at)
            end = at + _FRAME.size + (high << 16 | low)
            if end > len(data):
                break
            payload, at = data[at + _FRAME.size : end], end
            if kind == _DATA:
                self._confirm(len(payload))
            elif (kind == _HEADERS and flags & _END_STREAM) or kind == _RST_STREAM:
                call = self.calls.pop(stream, None)
                if call is not None:
                    yield call, (_status_in if kind == _HEADERS else _reason_in)(payload)
            elif kind not in (_HEADERS, _RST_STREAM):
                self._heed(kind, flags, stream, payload)
        self.rest = data[at:]

    def _confirm(self, size: int) -> None:
        self.unconfirmed += size
        if self.unconfirmed > 2**20:
            self.out += _frame(_WINDOW_UPDATE, 0, 0, self.unconfirmed.to_bytes(4, "big"))
            self.unconfirmed = 0

    def _heed(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _WINDOW_UPDATE and not stream:
            self.window += int.from_bytes(payload, "big")
        elif kind == _SETTINGS and not flags & _ACK:
            settings = dict(_SETTING.iter_unpack(payload))
            self.max_streams = settings.get(_MAX_STREAMS, 2**31)
            self.out += _frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            self.out += _frame(_PING, _ACK, 0, payload)
        elif kind == _GOAWAY:
            raise ConnectionError(f"the server goes away: {payload[8:]!r}")


def _reason_in(reset: bytes) -> int:
    return _RESETS.get(int.from_bytes(reset, "big"), _INTERNAL)


def _status_in(block: bytes) -> int:
    at = block.index(_STATUS) + len(_STATUS)
    return int(block[at + 1 : at + 1 + block[at]])
