#!/usr/bin/env python3
"""Backends that break their connections at every stage of a request, and count which requests arrived.

    hostile_backend.py SEED FILE COUNT

It listens on COUNT free ports, one per backend, and prints them as one JSON line. At SIGTERM it writes FILE: for each request, by its
header x-try, the backends that it arrived at and the stages. A request has arrived when its head is in the backend's socket, also if the
backend resets the connection without reading it. Stages:

  refuse        for 50 ms after each 100 connections its port refuses further ones
  accept        reset after accept, before anything is read
  unread        reset when the head is there, without reading it
  head          reset after the head was read
  continue      100 Continue, then reset
  body          reset in the middle of the body
  whole         reset after the whole body, without a response
  end           the same, but a clean end (FIN)
  early         a whole response after the head, then reset: the body is not read
  partial-head  reset in the middle of the response's head
  partial-body  reset in the middle of the response's body
  nonsense      bytes that are no HTTP, then reset
  unavailable   a whole response with status 503
  silent        no response
  idle          a whole response, then reset the idle connection 0 to 3 ms later, so that it meets the next request
  good          a whole response

Health checks (GET) get a good response, unless their connection is refused or reset after accept.
"""

import asyncio
import itertools
import json
import random
import re
import signal
import socket
import struct
import sys
from collections import defaultdict

ALWAYS = ("refuse", "accept", "good")
STAGES = ("unread", "head", "continue", "body", "whole", "end", "early", "partial-head", "partial-body", "nonsense", "unavailable",
          "silent", "idle")
# Good responses keep connections in use, so that most faults happen on reused ones.
GOOD_SHARE, ACCEPT_SHARE = 0.35, 0.08
REFUSES_AFTER, REFUSES_SECONDS = 100, 0.05
PEEKS = 20
RESET = struct.pack("ii", 1, 0)
TRY = re.compile(rb"\r\nx-try: *(\d+)\r\n", re.IGNORECASE)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
EXPECTS = re.compile(rb"\r\nexpect: *100-continue\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
# So that some resets arrive together with the bytes before them, and some after.
PAUSES_SECONDS = (0, 0, 0.002, 0.01)


class Gone(Exception):
    """The proxy closed the connection."""


class Backend:
    def __init__(self, name, seed, seen):
        self.name, self.seen, self.dice = name, seen, random.Random(f"{seed} {name}")
        self.listen(0)

    def listen(self, port):
        self.socket = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]

    async def serve(self):
        loop, tasks = asyncio.get_running_loop(), set()
        for number in itertools.count(1):
            connection, _ = await loop.sock_accept(self.socket)
            task = loop.create_task(self.connection(Connection(connection)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            if number % REFUSES_AFTER == 0:
                self.seen["stages"]["refuse"] += 1
                self.socket.close()
                await asyncio.sleep(REFUSES_SECONDS)
                self.listen(self.port)

    async def connection(self, connection):
        try:
            if self.dice.random() < ACCEPT_SHARE:
                self.seen["stages"]["accept"] += 1
                self.arrived(connection.peeked(), "accept")
                connection.reset()
            while not connection.is_over:
                await self.request(connection)
        except (OSError, Gone):
            connection.reset()

    async def request(self, connection):
        await connection.readable()
        if not connection.peeked():
            raise Gone
        if connection.peeked().startswith(b"GET "):
            return await self.at_good(connection, await connection.head())
        stage = "good" if self.dice.random() < GOOD_SHARE else self.dice.choice(STAGES)
        self.seen["stages"][stage] += 1
        if stage == "unread":
            self.arrived(await connection.peeked_head(), stage)
            return connection.reset()
        head = await connection.head()
        self.arrived(head, stage)
        await getattr(self, "at_" + stage.replace("-", "_"))(connection, head)

    def arrived(self, head, stage):
        if found := TRY.search(head):
            self.seen["tries"][found[1].decode()].append([self.name, stage])

    # One method for each stage.

    async def at_head(self, connection, _):
        connection.reset()

    async def at_continue(self, connection, _):
        await self.part(connection, b"HTTP/1.1 100 Continue\r\n\r\n")

    async def at_body(self, connection, head):
        await connection.body(head, share=self.dice.random())
        connection.reset()

    async def at_whole(self, connection, head):
        await connection.body(head)
        connection.reset()

    async def at_end(self, connection, head):
        await connection.body(head)
        connection.end()

    async def at_early(self, connection, _):
        await self.part(connection, response(b"200 OK"))

    async def at_partial_head(self, connection, head):
        await connection.body(head)
        await self.part(connection, b"HTTP/1.1 200 OK\r\ncontent-le")

    async def at_partial_body(self, connection, head):
        await connection.body(head)
        await self.part(connection, response(b"200 OK")[:-4])

    async def at_nonsense(self, connection, head):
        await connection.body(head)
        await self.part(connection, b"220 mail.example ESMTP\r\n")

    async def at_unavailable(self, connection, head):
        await connection.body(head)
        await connection.send(response(b"503 Service Unavailable"))

    async def at_silent(self, connection, head):
        await connection.body(head)
        await connection.readable()
        raise Gone

    async def at_idle(self, connection, head):
        await self.at_good(connection, head)
        await asyncio.sleep(self.dice.uniform(0, 0.003))
        self.arrived(connection.peeked(), "idle")
        connection.reset()

    async def at_good(self, connection, head):
        await connection.body(head)
        await connection.send(response(b"200 OK"))

    async def part(self, connection, data):
        await connection.send(data)
        await asyncio.sleep(self.dice.choice(PAUSES_SECONDS))
        connection.reset()


class Connection:
    def __init__(self, connection):
        self.socket, self.data, self.is_over = connection, b"", False
        connection.setblocking(False)

    def peeked(self):
        """The bytes that have arrived, without reading them."""
        try:
            return self.data + self.socket.recv(65536, socket.MSG_PEEK)
        except (BlockingIOError, ConnectionError):
            return self.data

    async def peeked_head(self):
        """The same, with a short wait for the rest of a head."""
        for _ in range(PEEKS):
            if b"\r\n\r\n" in self.peeked():
                break
            await asyncio.sleep(0.001)
        return self.peeked()

    async def readable(self):
        if self.data:
            return
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.socket, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self.socket)

    async def read(self):
        data = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
        if not data:
            raise Gone
        self.data += data

    async def head(self):
        while (end := self.data.find(b"\r\n\r\n")) < 0:
            await self.read()
        return self.take(end + 4)

    async def body(self, head, share=1.0):
        """Reads this share of the request's body; of a chunked one, the first chunk at most."""
        if EXPECTS.search(head):
            await self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = LENGTH.search(head)
        if length:
            await self.exactly(int(int(length[1]) * share))
        elif CHUNKED.search(head):
            size = 1
            while size:
                size = int(await self.line(), 16)
                await self.exactly(size + 2)
                if share < 1:
                    return

    async def exactly(self, count):
        while len(self.data) < count:
            await self.read()
        self.take(count)

    async def line(self):
        while (end := self.data.find(b"\r\n")) < 0:
            await self.read()
        return self.take(end + 2)

    def take(self, count):
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    async def send(self, data):
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    def reset(self):
        if not self.is_over:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.end()

    def end(self):
        self.is_over = True
        self.socket.close()


def response(status):
    return b"HTTP/1.1 " + status + b"\r\ncontent-length: 8\r\n\r\nreceived"


async def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    seed, file, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    seen = {"tries": defaultdict(list), "stages": defaultdict(int)}
    backends = [Backend(f"b{n}", seed, seen) for n in range(count)]
    print(json.dumps([one.port for one in backends]), flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    tasks = [asyncio.ensure_future(one.serve()) for one in backends]
    await asyncio.wait([*tasks, asyncio.ensure_future(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            task.result()
    with open(file, "w", encoding="ascii") as output:
        json.dump(seen, output)


if __name__ == "__main__":
    asyncio.run(main())
