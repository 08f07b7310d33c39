"""Idle connections: the memory of one after its first request, and the memory that stays when all are closed."""

import errno
import socket
import time

from memory_rest import Rest, exchange, warm_up
from processes import CannotMeasure, tell

REQUEST = b"GET /home HTTP/1.1\r\nhost: measure\r\n\r\n"
SETTLE_SECONDS = 3
# other descriptors of lb and of this script: standard streams, listeners, connections to backends and so on
DESCRIPTORS_APART = 500


def measure(stand, given):
    count = given.connections
    if count > stand.descriptors - DESCRIPTORS_APART:
        raise CannotMeasure(f"{count:,} connections need {count + DESCRIPTORS_APART:,} descriptors, the hard limit is "
                            f"{stand.descriptors:,}: raise it (ulimit -Hn), or give --connections")
    result = {}
    for name in ["lb", *given.peers]:
        ports = [stand.mock(f"{name}-b{n}")[1] for n in range(3)]
        proxy = stand.proxy(name, ports)
        start = warm_up(proxy, "/home")
        clients = []
        for n in range(count):
            clients.append(one_request(proxy.port, n))
            if (n + 1) % 5000 == 0:
                tell(f"idle: {name}: {n + 1:,} connections, {proxy.rss() / 2**20:.1f} MiB")
        time.sleep(SETTLE_SECONDS)
        closed = sum(map(is_closed, clients))
        if closed:
            raise CannotMeasure(f"{name} has closed {closed:,} of {count:,} idle connections")
        full = proxy.rss()
        for client in clients:
            client.close()
        rest = Rest(proxy, start, given.rest)
        result[name] = {"connections": count, "start": start, "full": full, "bytes_per_connection": (full - start) / count,
                        **rest.plain()}
        stand.end_all()
    return result


def one_request(port, number):
    """Opens a connection and makes one request on it."""
    client = socket.socket()
    # Several client addresses, because a few runs would use up the ports of one.
    client.bind((f"127.0.0.{2 + number % 8}", 0))
    client.settimeout(30)
    try:
        client.connect(("127.0.0.1", port))
        exchange(client, REQUEST)
    except (OSError, CannotMeasure) as error:
        raise CannotMeasure(f"connection {number + 1:,}: {error}; if the proxy has reached its limit of connections, give "
                            "--connections") from error
    client.setblocking(False)
    return client


def is_closed(client):
    try:
        return client.recv(1) == b""
    except OSError as error:
        return error.errno != errno.EAGAIN
