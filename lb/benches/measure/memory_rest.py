"""The start and the end of each case of memory.py: some hundred requests before it, and some seconds without requests after it."""

import socket
import time

from figures import mib
from processes import CannotMeasure, tell

WARM_UP_REQUESTS = 500
WARM_UP_CONNECTIONS = 10


class Rest:
    """The resident memory after some seconds without a request, also as a multiple of that at the start."""

    def __init__(self, proxy, start, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(min(10, max(0, until - time.monotonic())))
            if proxy.has_ended():
                raise CannotMeasure(f"{proxy.name} has ended with exit code {proxy.child.returncode}")
            tell(f"      {proxy.name} at rest: {mib(proxy.rss())} MiB")
        self.seconds, self.after, self.factor = seconds, proxy.rss(), proxy.rss() / start

    def plain(self):
        return {"rest_seconds": self.seconds, "after": self.after, "factor": self.factor}


def warm_up(proxy, path):
    """Makes some hundred requests. Returns the resident bytes after them: the start."""
    request = f"GET {path} HTTP/1.1\r\nhost: measure\r\n\r\n".encode()
    for _ in range(WARM_UP_CONNECTIONS):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as client:
            for _ in range(WARM_UP_REQUESTS // WARM_UP_CONNECTIONS):
                exchange(client, request)
    time.sleep(1)
    start = proxy.rss()
    proxy.forget_peak()
    tell(f"      {proxy.name} at the start: {mib(start)} MiB")
    return start


def exchange(client, request):
    """Sends a request on a blocking socket and reads its response, which must be a 200 with Content-Length."""
    client.sendall(request)
    response = client.recv(65536)
    while b"\r\n\r\n" not in response or len(response) < whole(response):
        more = client.recv(65536)
        if not more:
            raise CannotMeasure(f"the connection ended within the response {response[:60]!r}")
        response += more
    if not response.startswith(b"HTTP/1.1 200 "):
        raise CannotMeasure(f"expected a 200, got {response[:60]!r}")
    return response


def whole(response):
    """The full size of the response that begins with these bytes."""
    head, _, _ = response.partition(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return len(head) + 4 + int(length.split(b":")[1])
