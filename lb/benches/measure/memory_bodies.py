"""Slow bodies: the memory of a proxy during many uploads or downloads at a few KiB/s.

Uploads are slow for one of two reasons: the client sends slowly ("client"), or the backend reads slowly while the client sends as fast as
it can ("backend"). In downloads, the backend sends as fast as it can and the client reads slowly. No body needs to end. If a proxy closes a
connection, the measurement is void, because that frees its memory.
"""

import asyncio
import socket
import struct
import sys
import time
from pathlib import Path

from figures import mib
from memory_rest import Rest, warm_up
from processes import CannotMeasure, end, free_ports, responds, tell, wait_for

# well above the slowest rate that lb accepts (limits.body_min_bytes_per_s, 100)
CLIENT_BYTES_PER_S = 4096
DOWNLOAD_BYTES_PER_S = 64 * 1024
TURNS_PER_SECOND = 4
SOCKET_BYTES = 64 * 1024
RESET = struct.pack("ii", 1, 0)
PIECE = bytes(64 * 1024)


def measure(stand, given, kind):
    """`kind`: "uploads-client", "uploads-backend" or "downloads"."""
    count, size = (given.downloads, given.download_bytes) if kind == "downloads" else (given.uploads, given.upload_bytes)
    client = {"uploads-client": slow_upload, "uploads-backend": fast_upload, "downloads": download}[kind]
    result = {}
    for name in ["lb", *(peer for peer in given.peers if peer == "haproxy")]:
        port, = free_ports(1)
        backend = stand.spawn("slow-backend", [sys.executable, Path(__file__).parent / "slow_backend.py", port], stand.cpus[1])
        wait_for(lambda: responds(port), "the slow backend", backend)
        proxy = stand.proxy(name, [port])
        start = warm_up(proxy, "/")
        settled, peak, moved = asyncio.run(hold(proxy, kind, client, count, size, given.hold))
        # otherwise it would read on for minutes
        end(backend)
        rest = Rest(proxy, start, given.rest)
        result[name] = {"connections": count, "start": start, "settled_above": settled - start, "peak_above": peak - start,
                        "moved": moved, **rest.plain()}
        stand.end_all()
    return result


async def hold(proxy, kind, client, count, size, seconds):
    """Runs the clients for `seconds`. Returns the resident bytes at the end, their peak, and the bytes that clients moved."""
    progress = [0] * count
    tasks = [asyncio.ensure_future(client(proxy.port, size, progress, n)) for n in range(count)]
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        await asyncio.sleep(min(5, seconds))
        tell(f"{kind}: {proxy.name}: {mib(proxy.rss())} MiB, {sum(done > 0 for done in progress):,} of {count:,} bodies under way")
    settled, peak = proxy.rss(), proxy.peak()
    ended = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if ended or not all(progress):
        reasons = {repr(task.exception() or "the body was complete") for task in ended}
        raise CannotMeasure(f"{kind}: {proxy.name}: {len(ended):,} of {count:,} bodies ended early, {progress.count(0):,} never began: "
                            f"{', '.join(sorted(reasons)[:3])}")
    return settled, peak, sum(progress)


async def connect(port, receive_bytes):
    client = socket.socket()
    client.setblocking(False)
    # small, so that the kernel buffers little and the proxy sees the slow rate
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
    # Close with a reset; otherwise the kernel would send the rest first.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=client, limit=receive_bytes)


async def slow_upload(port, size, progress, number):
    await upload(port, size, progress, number, b"", CLIENT_BYTES_PER_S)


async def fast_upload(port, size, progress, number):
    await upload(port, size, progress, number, b"x-read-rate: %d\r\n" % CLIENT_BYTES_PER_S, None)


async def upload(port, size, progress, number, field, rate):
    reader, writer = await connect(port, SOCKET_BYTES)
    try:
        writer.write(b"POST /upload HTTP/1.1\r\nhost: measure\r\ncontent-length: %d\r\n%s\r\n" % (size, field))
        early = asyncio.ensure_future(reader.read(100))
        while progress[number] < size:
            piece = PIECE[:rate // TURNS_PER_SECOND] if rate else PIECE
            writer.write(piece)
            await writer.drain()
            progress[number] += len(piece)
            if rate:
                await asyncio.sleep(1 / TURNS_PER_SECOND)
            if early.done():
                raise ConnectionError(f"an early response {early.result()!r}")
    finally:
        writer.transport.abort()


async def download(port, size, progress, number):
    reader, writer = await connect(port, SOCKET_BYTES)
    try:
        writer.write(b"GET /bytes/%d HTTP/1.1\r\nhost: measure\r\n\r\n" % size)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(f"a response {head[:60]!r}")
        while progress[number] < size:
            data = await reader.read(DOWNLOAD_BYTES_PER_S // TURNS_PER_SECOND)
            if not data:
                raise ConnectionError("closed within the body")
            progress[number] += len(data)
            await asyncio.sleep(1 / TURNS_PER_SECOND)
    finally:
        writer.transport.abort()
