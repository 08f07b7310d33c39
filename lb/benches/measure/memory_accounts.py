"""The accounts of lb after chaos or a soak: each request of a steady load counted once, and nothing that is still in use.

`loadgen run` sends an open loop to a pool of its own. Afterwards lb's counter of that pool must be equal to loadgen's, by status. After the
rest no request, attempt, connection in use or waiting request may be left, and the descriptors must be those of the start.
"""

import json
import re
import time
import urllib.request
from collections import Counter
from pathlib import Path

from processes import CannotMeasure
from stand import beside

HOST, POOL = "counted.test", "counted"
# In use means: now. All of them must be 0 when nothing is sent.
IN_USE = ("lb_requests_in_flight", "lb_backend_requests_in_flight", "lb_queue_requests", "lb_client_connections",
          'lb_backend_connections{state="active"}')
SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? ([-+.e\d]+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
SETTLE_SECONDS = 30


class Accounts:
    """The steady load of one lb, and what lb says of it. `spare` more descriptors than at the start are right."""

    def __init__(self, stand, proxy, rate, seconds, spare=0):
        self.proxy, self.rate, self.spare = proxy, rate, spare
        self.descriptors = open_descriptors(proxy)
        self.before = self.requests()
        command = [beside(stand.lb, "loadgen"), "run", "-q", rate, "-z", f"{seconds}s", "-H", f"host: {HOST}", "--json", "--quiet",
                   "--resend-closed", f"http://127.0.0.1:{proxy.port}/home"]
        self.out = stand.folder / "counted.json"
        with open(self.out, "wb") as out:
            self.load = stand.spawn("counted", command, stand.cpus[1], stdout=out)

    def close(self):
        """To be called after the rest. Returns the accounts; `differences` are those that are wrong."""
        status = self.load.wait(timeout=120)
        # 1: it was late, so its latencies are not to be believed. Its counts are.
        if status not in (0, 1):
            raise CannotMeasure(f"the load of {self.rate} requests a second ended with exit code {status}")
        told = json.loads(self.out.read_text())
        sent = Counter({status: count for status, count in told["statuses"].items() if count})
        counted = self.requests() - self.before
        differences = [f"status {status}: loadgen {sent[status]:,}, lb {counted[status]:,}"
                       for status in sorted(sent.keys() | counted.keys()) if sent[status] != counted[status]]
        differences += [f"{count:,} requests without a response: {error}" for error, count in told["errors"].items() if count]
        until = time.monotonic() + SETTLE_SECONDS
        while (left := self.left()) and time.monotonic() < until:
            time.sleep(1)
        return {"counted": dict(sent), "descriptors": (self.descriptors, open_descriptors(self.proxy)), "differences": differences + left}

    def requests(self):
        """The requests of the pool so far, by status."""
        counts = Counter()
        for name, labels, value in self.metrics():
            if name == "lb_requests_total" and labels["pool"] == POOL:
                counts[labels["code"]] += int(value)
        return counts

    def left(self):
        """What is still in use."""
        left = [f"{name} {labels} is {value:g}" for name, labels, value in self.metrics() if value and is_in_use(name, labels)]
        # Idle connections to backends are kept for the next request.
        idle = sum(int(value) for name, labels, value in self.metrics()
                   if name == "lb_backend_connections" and labels["state"] == "idle")
        now = open_descriptors(self.proxy)
        if now - idle > self.descriptors + self.spare:
            left.append(f"{now} descriptors are open, {idle} of them idle connections to backends; {self.descriptors} at the start")
        return left

    def metrics(self):
        return read_metrics(self.proxy)


def read_metrics(proxy):
    """The samples of all metrics: name, labels, value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.admin}/metrics", timeout=30) as response:
        text = response.read().decode()
    return [(name, dict(LABEL.findall(labels)), float(value)) for name, labels, value in SAMPLE.findall(text)]


def is_in_use(name, labels):
    return name in IN_USE or f'{name}{{state="{labels.get("state")}"}}' in IN_USE


def open_descriptors(proxy):
    return len(list(Path(f"/proc/{proxy.child.pid}/fd").iterdir()))
