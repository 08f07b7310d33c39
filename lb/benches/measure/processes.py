"""Helpers of the measuring scripts: free ports, waiting, and figures of processes from /proc."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

DEADLINE = 30
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class CannotMeasure(Exception):
    """A condition of the measurement does not hold: exit code 2."""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def port_of(address):
    return int(address.rsplit(":", 1)[1])


def responds(port):
    """Whether a request to this port gets a 200 or 404. The connection is closed afterwards."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"GET /heartbeat HTTP/1.1\r\nhost: measure\r\nconnection: close\r\n\r\n")
            return connection.recv(12) in (b"HTTP/1.1 200", b"HTTP/1.1 404")
    except OSError:
        return False


def wait_for(happened, what, child=None):
    until = time.monotonic() + DEADLINE
    while not (result := happened()):
        if child and child.poll() is not None:
            raise CannotMeasure(f"waited for {what}: it ended with exit code {child.returncode}")
        if time.monotonic() > until:
            raise CannotMeasure(f"waited {DEADLINE} s for {what}")
        time.sleep(0.02)
    return result


def end(child):
    """Ends a process and its descendants."""
    if child.poll() is not None:
        return
    for pid in reversed(tree(child.pid)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    child.wait()


def tree(pid):
    """The process and its descendants."""
    children = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = int(Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue  # The process has ended.
        children.setdefault(parent, []).append(int(entry))
    found, rest = [], [pid]
    while rest:
        found.append(rest.pop())
        rest += children.get(found[-1], [])
    return found


def status(pid, key):
    """A size in /proc/PID/status, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise CannotMeasure(f"process {pid} has ended: no {key} in its status")


def cpu_seconds(pids):
    """User and system seconds of all threads so far. Their sum is exact to a tick, the split is sampled at ticks."""
    user = system = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        user, system = user + int(fields[11]), system + int(fields[12])
    return user / TICKS_PER_SECOND, system / TICKS_PER_SECOND


def tell(*lines):
    """Prints progress to stderr."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)
