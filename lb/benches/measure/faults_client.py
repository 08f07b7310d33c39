#!/usr/bin/env python3
"""An open-loop client over keep-alive connections, and what faults.py counts in its records.

    faults_client.py PORT RATE SEED SECONDS:PATH...

It sends RATE requests a second by a schedule, whatever the server does: each phase has a duration and a path. Latency is measured from the
scheduled send time. The client never sends a request twice. After 3 s it gives up and closes the connection. The first line of stdout is
the time of the schedule's start (CLOCK_MONOTONIC, the same in all processes). The second is a JSON array of [due, latency, status, lag]:
due in seconds after the start, latency in seconds, and lag the time between the schedule and the send.

Each request has one of 10,000 keys in the header x-key, so that a hashing strategy has something to hash.
"""

import asyncio
import gc
import json
import random
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from typing import NamedTuple

from processes import CannotMeasure

LIMIT_SECONDS = 3
KEYS = 10_000
# Statuses of requests without a response.
BROKEN, LATE = 0, -1
KINDS = {BROKEN: "connection error", LATE: f"later than {LIMIT_SECONDS} s"}
# A client that is late itself measures the machine and not the proxy.
LAG_LIMIT_SECONDS, LAG_SHARE = 0.1, 0.01
IN_FLIGHT_SECONDS = 0.5
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)


class Record(NamedTuple):
    due: float
    latency: float
    status: int
    lag: float

    def is_bad(self):
        return self.status in KINDS or self.status >= 400 or self.latency > LIMIT_SECONDS


class Load:
    """A running client: its schedule began at `start`."""

    def __init__(self, stand, port, rate, seed, *phases):
        self.seconds = sum(seconds for seconds, _ in phases)
        command = [sys.executable, __file__, port, rate, seed, *(f"{seconds}:{path}" for seconds, path in phases)]
        self.child = stand.spawn("client", command, stand.cpus[1], stdout=subprocess.PIPE)
        line = self.child.stdout.readline()
        if not line:
            raise CannotMeasure(f"the client ended with exit code {self.child.wait()}")
        self.start = float(line)

    def sleep_until(self, offset):
        time.sleep(max(0, self.start + offset - time.monotonic()))

    def now(self):
        return time.monotonic() - self.start

    def records(self):
        """Waits for the end of the schedule and of the last request."""
        try:
            text, _ = self.child.communicate(timeout=max(0, self.seconds - self.now()) + 30)
        except subprocess.TimeoutExpired:
            raise CannotMeasure("the client did not end") from None
        if self.child.returncode:
            raise CannotMeasure(f"the client ended with exit code {self.child.returncode}")
        return [Record(*one) for one in json.loads(text)]


def window(records, begin, end):
    """The counts of requests that were due in this time."""
    own = [one for one in records if begin <= one.due < end]
    if not own:
        raise CannotMeasure(f"no request was due from {begin:.1f} to {end:.1f} s")
    bad = [one for one in own if one.is_bad()]
    latencies = sorted(min(one.latency, LIMIT_SECONDS) for one in own)
    return {"requests": len(own), "bad": len(bad), "share": len(bad) / len(own),
            "kinds": dict(Counter(KINDS.get(one.status, str(one.status)) for one in bad)),
            "p50_ms": 1000 * quantile(latencies, 0.5), "p99_ms": 1000 * quantile(latencies, 0.99)}


def quantile(ordered, share):
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def doubts(records, before):
    """Why the figures may be those of a busy machine. `before` is the time of the first fault, which also hits requests in flight."""
    lags = sum(one.lag > LAG_LIMIT_SECONDS for one in records)
    bad = sum(one.is_bad() for one in records if one.due < before - IN_FLIGHT_SECONDS)
    found = []
    if lags > LAG_SHARE * len(records):
        found.append(f"{lags / len(records):.1%} of the requests were sent over {LAG_LIMIT_SECONDS} s late by the client")
    if bad:
        found.append(f"{bad} bad responses before the fault")
    return found


class Connection(asyncio.Protocol):
    """One connection, with at most one request at a time."""

    def __init__(self):
        self.waiting, self.data, self.is_closed = None, b"", False

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, error):
        self.is_closed = True
        if self.waiting and not self.waiting.done():
            self.waiting.set_exception(error or ConnectionError("closed before the end of the response"))

    def data_received(self, data):
        self.data += data
        head = self.data.find(b"\r\n\r\n")
        if head < 0 or not self.waiting or self.waiting.done():
            return
        length = LENGTH.search(self.data, 0, head + 2)
        if length and len(self.data) < head + 4 + int(length[1]):
            return
        keeps = length and not CLOSES.search(self.data, 0, head + 2)
        self.waiting.set_result((int(self.data[9:12]), bool(keeps)))

    def exchange(self, request):
        """A future of the status and whether the connection can be used again."""
        self.waiting, self.data = asyncio.get_running_loop().create_future(), b""
        self.transport.write(request)
        return self.waiting


class Client:
    def __init__(self, port, seed):
        self.port, self.idle, self.records = port, [], []
        self.dice = random.Random(seed)

    async def run(self, rate, phases):
        loop, tasks = asyncio.get_running_loop(), set()
        self.start = loop.time() + 0.05
        print(self.start, flush=True)
        begin = 0
        for seconds, path in phases:
            for number in range(round(rate * seconds)):
                due = begin + number / rate
                if (wait := self.start + due - loop.time()) > 0:
                    await asyncio.sleep(wait)
                task = loop.create_task(self.request(due, path))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            begin += seconds
        while tasks:
            await asyncio.wait(tasks)

    async def request(self, due, path):
        loop = asyncio.get_running_loop()
        at = self.start + due
        lag, status, connection = loop.time() - at, BROKEN, None
        text = f"GET {path} HTTP/1.1\r\nhost: measure\r\nx-key: {self.dice.randrange(KEYS)}\r\n\r\n".encode()
        try:
            async with asyncio.timeout_at(at + LIMIT_SECONDS):
                connection = await self.connection()
                status, keeps = await connection.exchange(text)
            if keeps:
                self.idle.append(connection)
                connection = None
        except TimeoutError:
            status = LATE
        except (OSError, ValueError):
            pass  # BROKEN
        finally:
            if connection:
                connection.transport.abort()
            self.records.append((round(due, 4), round(loop.time() - at, 5), status, round(lag, 5)))

    async def connection(self):
        while self.idle:
            if not (connection := self.idle.pop()).is_closed:
                return connection
        _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self.port)
        return connection


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    port, rate, seed = map(int, sys.argv[1:4])
    phases = [(float(seconds), path) for seconds, path in (one.split(":", 1) for one in sys.argv[4:])]
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    gc.disable()  # a collection would delay requests
    client = Client(port, seed)
    asyncio.run(client.run(rate, phases))
    json.dump(client.records, sys.stdout)


if __name__ == "__main__":
    main()
