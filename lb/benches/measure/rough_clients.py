"""Rough clients: each opens one connection, does one thing that is hard for proxies, and returns how it ended.

Each client takes all random numbers from its own generator, so a seed gives each client the same sequence.
"""

import asyncio
import contextlib
import socket
import struct

RESET = struct.pack("ii", 1, 0)
MIB = 2**20
NONSENSE = (b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"x" * 100_000 + b"\r\n\r\n")


@contextlib.asynccontextmanager
async def connection(port, receive_bytes=64 * 1024):
    """A connection that is aborted at the end of the block; `reset` turns this end into a reset."""
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    try:
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    except BaseException:
        client.close()
        raise
    reader, writer = await asyncio.open_connection(sock=client, limit=receive_bytes)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def reset(writer):
    """Makes the end of this connection a reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def response(reader):
    """Reads a whole response with Content-Length; returns its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            rest = int(line.split(b":")[1])
            while rest:
                data = await reader.read(min(rest, 65536))
                if not data:
                    raise asyncio.IncompleteReadError(b"", rest)
                rest -= len(data)
    return head[9:12].decode()


def get(path, *fields):
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: rough", *fields, "", ""]).encode()


def post(size, *fields):
    return "\r\n".join(["POST /upload HTTP/1.1", "host: rough", f"content-length: {size}", *fields, "", ""]).encode()


async def short(port, dice):
    async with connection(port) as (reader, writer):
        writer.write(get("/home"))
        return await response(reader)


async def torn_head(port, dice):
    async with connection(port) as (_, writer):
        head = get("/home", "x-long: " + "y" * dice.randrange(20_000))
        writer.write(head[:dice.randrange(1, len(head))])
        await asyncio.sleep(dice.uniform(0, 0.2))
        if dice.random() < 0.5:
            reset(writer)
        return "torn"


async def torn_body(port, dice):
    async with connection(port) as (_, writer):
        writer.write(post(4 * MIB) + bytes(dice.randrange(MIB)))
        async with asyncio.timeout(10):
            await writer.drain()
        await asyncio.sleep(dice.uniform(0, 0.2))
        if dice.random() < 0.5:
            reset(writer)
        return "torn"


async def torn_response(port, dice):
    async with connection(port) as (reader, writer):
        writer.write(get("/stream?bytes=10000000&length=1"))
        await reader.readexactly(dice.randrange(1, MIB))
        if dice.random() < 0.5:
            reset(writer)
        return "torn"


async def slow_sender(port, dice):
    async with connection(port) as (reader, writer):
        for byte in post(200) + bytes(200):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(dice.uniform(0, 0.004))
        return await response(reader)


async def slow_reader(port, dice):
    async with connection(port, 16 * 1024) as (reader, writer):
        writer.write(get(f"/stream?bytes={4 * MIB}&length={dice.randrange(2)}"))
        for _ in range(20):
            await reader.read(16 * 1024)
            await asyncio.sleep(dice.uniform(0, 0.4))
        reset(writer)
        return "torn"


async def large_upload(port, dice):
    async with connection(port) as (reader, writer):
        size = dice.randrange(8 * MIB)
        writer.write(post(size))
        sent = 0
        while sent < size:
            piece = bytes(min(65536, size - sent))
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
        return await response(reader)


async def large_download(port, dice):
    async with connection(port) as (reader, writer):
        writer.write(get(f"/stream?bytes={dice.randrange(16 * MIB)}&length=1"))
        return await response(reader)


async def cut_by_backend(port, dice):
    async with connection(port) as (reader, writer):
        writer.write(get(f"/stream?bytes={MIB}&length=1&abort_after={dice.randrange(MIB)}"))
        return await response(reader)


async def pipeline(port, dice):
    async with connection(port) as (reader, writer):
        count = dice.randrange(1, 40)
        writer.write(get("/home") * count)
        if dice.random() < 0.2:
            return "torn"
        for _ in range(count):
            status = await response(reader)
        return status


async def nonsense(port, dice):
    async with connection(port) as (reader, writer):
        writer.write(dice.choice(NONSENSE))
        async with asyncio.timeout(12):
            head = await reader.read(1000)
        return head[9:12].decode() or "closed"


async def idle(port, dice):
    async with connection(port) as (reader, writer):
        for _ in range(dice.randrange(1, 4)):
            writer.write(get("/home"))
            await response(reader)
            await asyncio.sleep(dice.uniform(0, 5))
        return "idle"


KINDS = (short, torn_head, torn_body, torn_response, slow_sender, slow_reader, large_upload, large_download, cut_by_backend, pipeline,
         nonsense, idle)
