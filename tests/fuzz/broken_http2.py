"""Connections that are no proper HTTP/2: written byte by byte to a server's port.

Each function opens its own connection, behaves badly, and returns; what the server says to it does
not matter. That it still answers others afterwards does.
"""

import asyncio
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
_FLOOD = 2_000
_PATIENCE_S = 5.0  # for a server that neither answers nor closes

Behaviour = Callable[[str, int, random.Random], Awaitable[None]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame: 24 bits of length, kind, flags, 31 bits of stream, payload."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header field that is written out, without an index (RFC 7541, 6.2.2)."""
    return b"\0" + _length(len(name)) + name + _length(len(value)) + value


def _length(count: int) -> bytes:
    """An integer with a prefix of 7 bits (RFC 7541, 5.1)."""
    if count < 127:
        return bytes([count])
    count, parts = count - 127, [127]
    while count >= 128:
        parts.append(count % 128 + 128)
        count //= 128
    return bytes([*parts, count])


def call_headers(path: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """The header block of a gRPC call."""
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"fuzz"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *extra,
    )
    return b"".join(literal(name, value) for name, value in fields)


async def say(host: str, port: int, content: bytes, *, reads: bool = True) -> None:
    """Sends bytes, reads what comes until the server closes or a moment has passed, and leaves."""
    reader, writer = await asyncio.open_connection(host, port)
    with suppress(OSError, TimeoutError):
        writer.write(content)
        await asyncio.wait_for(writer.drain(), _PATIENCE_S)
        if reads:
            await asyncio.wait_for(reader.read(1 << 16), _PATIENCE_S)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def noise(host: str, port: int, chance: random.Random) -> None:
    await say(host, port, chance.randbytes(chance.choice((1, 24, 5_000))), reads=False)


async def another_protocol(host: str, port: int, chance: random.Random) -> None:
    await say(host, port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


async def half_a_preface(host: str, port: int, chance: random.Random) -> None:
    await say(host, port, PREFACE[: chance.randrange(1, len(PREFACE))], reads=False)


async def random_frames(host: str, port: int, chance: random.Random) -> None:
    frames = [
        frame(
            chance.randrange(12),
            chance.randrange(256),
            chance.choice((0, 1, 2, 3, 2**31 - 1)),
            chance.randbytes(chance.choice((0, 1, 4, 8, 200))),
        )
        for _ in range(chance.choice((1, 5, 50)))
    ]
    await say(host, port, PREFACE + frame(SETTINGS, 0, 0) + b"".join(frames), reads=False)


async def a_frame_too_large(host: str, port: int, chance: random.Random) -> None:
    head = b"\xff\xff\xff" + struct.pack(">BBI", DATA, 0, 1)
    await say(host, port, PREFACE + frame(SETTINGS, 0, 0) + head + bytes(20_000))


async def headers_too_large(host: str, port: int, chance: random.Random) -> None:
    block = call_headers(_PATH, *((b"x-%d" % at, b"v" * 4_000) for at in range(40)))
    parts = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
    frames = [frame(HEADERS, 0, 1, parts[0])]
    frames += [frame(CONTINUATION, 0, 1, part) for part in parts[1:-1]]
    frames.append(frame(CONTINUATION, END_HEADERS, 1, parts[-1]))
    await say(host, port, PREFACE + frame(SETTINGS, 0, 0) + b"".join(frames))


async def headers_without_an_end(host: str, port: int, chance: random.Random) -> None:
    frames = [frame(HEADERS, 0, 1, call_headers(_PATH))]
    frames += [frame(CONTINUATION, 0, 1, literal(b"a", b"b")) for _ in range(_FLOOD)]
    await say(host, port, PREFACE + frame(SETTINGS, 0, 0) + b"".join(frames), reads=False)


async def rapid_resets(host: str, port: int, chance: random.Random) -> None:
    """Opens streams and resets them at once (CVE-2023-44487)."""
    block, pairs = call_headers(_PATH), []
    for stream in range(1, 2 * _FLOOD, 2):
        pairs.append(frame(HEADERS, END_HEADERS, stream, block))
        pairs.append(frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))
    await say(host, port, PREFACE + frame(SETTINGS, 0, 0) + b"".join(pairs))


async def a_flood_of_pings(host: str, port: int, chance: random.Random) -> None:
    pings = frame(PING, 0, 0, b"12345678") * _FLOOD
    await say(host, port, PREFACE + frame(SETTINGS, 0, 0) + pings)


async def a_flood_of_settings(host: str, port: int, chance: random.Random) -> None:
    settings = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, chance.randrange(2**31))) * _FLOOD
    await say(host, port, PREFACE + settings)


async def an_empty_window(host: str, port: int, chance: random.Random) -> None:
    """Asks, but grants not one byte for the answer, and leaves by a reset of the connection."""
    settings = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
    asked = frame(HEADERS, END_HEADERS, 1, call_headers(_PATH))
    asked += frame(DATA, END_STREAM, 1, b"\0\0\0\0\0")
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(PREFACE + settings + asked)
    with suppress(OSError, TimeoutError):
        await asyncio.wait_for(reader.read(64), _PATIENCE_S)
    _reset(writer)


async def a_message_without_an_end(host: str, port: int, chance: random.Random) -> None:
    """Promises a megabyte, sends a few bytes, and resets the connection."""
    asked = frame(HEADERS, END_HEADERS, 1, call_headers(_PATH, (b"grpc-timeout", b"2S")))
    asked += frame(DATA, 0, 1, b"\0" + struct.pack(">I", 1 << 20) + b"abc")
    _, writer = await asyncio.open_connection(host, port)
    writer.write(PREFACE + frame(SETTINGS, 0, 0) + asked)
    with suppress(OSError):
        await writer.drain()
    _reset(writer)


async def silence(host: str, port: int, chance: random.Random) -> None:
    """Opens connections, says nothing, and closes them."""
    opened = [await asyncio.open_connection(host, port) for _ in range(20)]
    for _, writer in opened:
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes with a TCP reset instead of an end."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


_PATH = b"/grpc.health.v1.Health/Check"

BEHAVIOURS: tuple[Behaviour, ...] = (
    noise,
    another_protocol,
    half_a_preface,
    random_frames,
    a_frame_too_large,
    headers_too_large,
    headers_without_an_end,
    rapid_resets,
    a_flood_of_pings,
    a_flood_of_settings,
    an_empty_window,
    a_message_without_an_end,
    silence,
)
