#!/usr/bin/env python3
"""A backend for slow bodies: it sends as fast as it can, and reads as slowly as the request's header says.

    slow_backend.py PORT

GET /bytes/N sends N bytes. A POST reads its body at x-read-rate bytes per second; without the header, as fast as it can.
Any other request gets a short response. HTTP/1.1, keep-alive, Content-Length only; for memory.py, which starts it.
"""

import asyncio
import re
import resource
import socket
import sys

PIECE = bytes(64 * 1024)
TURNS_PER_SECOND = 2


async def connection(reader, writer):
    # Bounds the bytes that the kernel holds for each of 1,000 connections.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await read_body(reader, header(head, b"content-length"), header(head, b"x-read-rate"))
            wanted = re.match(rb"get /bytes/(\d+) ", head)
            size = int(wanted[1]) if wanted else 10
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            while size:
                piece = PIECE[:size]
                writer.write(piece)
                await writer.drain()
                size -= len(piece)
    except (asyncio.IncompleteReadError, OSError):
        pass  # The proxy closed the connection.
    finally:
        writer.transport.abort()


def header(head, name):
    found = re.search(rb"\r\n" + name + rb": (\d+)", head)
    return int(found[1]) if found else 0


async def read_body(reader, size, rate):
    while size:
        data = await reader.read(rate // TURNS_PER_SECOND if rate else len(PIECE))
        if not data:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(data)
        if rate:
            await asyncio.sleep(1 / TURNS_PER_SECOND)


async def main():
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit(__doc__)
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    server = await asyncio.start_server(connection, "127.0.0.1", int(sys.argv[1]), backlog=4096, limit=16 * 1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
