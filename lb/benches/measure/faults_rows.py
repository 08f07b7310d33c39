"""The rows of faults.py except `post`: the backends, their faults, and the counts of the client.

Every measurement has new backends and a new proxy. The load begins 3 s before the first fault.
"""

import http.client
import itertools
import json
import re
import signal
from typing import Callable, NamedTuple

import faults_proxies
from faults_client import LIMIT_SECONDS, Load, doubts, window
from faults_proxies import Task
from processes import CannotMeasure

SERVICE = ("--service-time", "constant:20ms")
WARM_UP_SECONDS = 3
GET = "/home"

# Events: 3 backends that serve any number of requests at once.
EVENT_RATE, EVENT_BACKENDS = 400, 3
FIRST_SECONDS, AFTER_SECONDS = 5, 15
# Scenarios: the load is 70 % of what all backends can do. Also without the backends that have faults, the others can do it, so taking them
# out is right: 5 of 6 with one fault, 12 of 15 with three. Outlier detection compares success rates only from 5 backends on.
SERVED_PER_SECOND, LOAD_SHARE = 50, 0.7
FLAP_SECONDS = 1

# The storm: retries may be this share of requests, plus a bucket that holds 10 s of it.
STORM_RATE, STORM_AFTER_SECONDS = 400, 8
BUDGET_SHARE, BUCKET_SECONDS = 0.2, 10
FAILING = "/status/503"


class Event(NamedTuple):
    text: str
    happens: Callable
    victim: int = 1


class Scenario(NamedTuple):
    text: str
    # name of the fault → its backend
    victims: dict
    backends: int = 6
    # of each backend: requests at once
    concurrency: int = 2

    def rate(self):
        return round(LOAD_SHARE * self.backends * self.concurrency * SERVED_PER_SECOND)


EVENTS = {
    "kill": Event("kill -9", lambda backends, victim: backends.kill(victim)),
    "stop": Event("SIGSTOP", lambda backends, victim: backends.children[victim].send_signal(signal.SIGSTOP)),
    "500": Event("500 to all but the health check", lambda backends, victim: backends.control(victim, failure_rate=1, fail_at_once=True)),
}
SCENARIOS = {
    "flapping": Scenario("one flaps (1 s up, 1 s down)", {"flaps": 0}),
    "errors": Scenario("one has 20 % errors", {"errors": 1}),
    "slow": Scenario("one is slow (× 10)", {"slow": 2}),
    "together": Scenario("one of each kind", {"flaps": 0, "errors": 1, "slow": 2}, backends=15, concurrency=1),
}


class Backends:
    """Mock servers in one stand."""

    def __init__(self, stand, count, *options):
        self.stand, self.options = stand, (*SERVICE, *options)
        self.children, self.ports = map(list, zip(*(stand.mock(f"b{n}", 0, self.seeded(n)) for n in range(count))))

    def seeded(self, n):
        return ("--seed", n + 1, *self.options)

    def kill(self, n):
        self.children[n].kill()
        self.children[n].wait()

    def restart(self, n):
        self.children[n], _ = self.stand.mock(f"b{n}", self.ports[n], self.seeded(n))

    def control(self, n, **change):
        fetch(self.ports[n], "POST", "/control", json.dumps(change))

    def arrived(self):
        """Requests that arrived at the backends, without health checks."""
        return sum(json.loads(fetch(port, "GET", "/stats"))["requests"] for port in self.ports)


def event(stand, row, contestant, given):
    task = Task(row)
    backends = Backends(stand, EVENT_BACKENDS)
    proxy = faults_proxies.start(stand, contestant, backends.ports, task, given)
    load = Load(stand, proxy.port, EVENT_RATE, given.seed, (WARM_UP_SECONDS + AFTER_SECONDS + 0.5, GET))
    load.sleep_until(WARM_UP_SECONDS)
    at = load.now()
    EVENTS[row].happens(backends, EVENTS[row].victim)
    records = ended(load, proxy)
    return {"first": window(records, at, at + FIRST_SECONDS), "later": window(records, at + FIRST_SECONDS, at + AFTER_SECONDS),
            "doubts": doubts(records, at)}


def scenario(stand, row, contestant, given):
    kind, seconds = SCENARIOS[row], given.seconds or 120
    victims, backends = kind.victims, Backends(stand, kind.backends, "--concurrency", kind.concurrency)
    proxy = faults_proxies.start(stand, contestant, backends.ports, Task(row), given)
    load = Load(stand, proxy.port, kind.rate(), given.seed, (WARM_UP_SECONDS + seconds, GET))
    load.sleep_until(WARM_UP_SECONDS)
    at = load.now()
    if "errors" in victims:
        backends.control(victims["errors"], failure_rate=0.2)
    if "slow" in victims:
        backends.control(victims["slow"], slow=10)
    if "flaps" in victims:
        for turn in itertools.count():
            if at + turn * FLAP_SECONDS >= WARM_UP_SECONDS + seconds:
                break
            load.sleep_until(at + turn * FLAP_SECONDS)
            (backends.restart if turn % 2 else backends.kill)(victims["flaps"])
    records = ended(load, proxy)
    return {"whole": window(records, at, WARM_UP_SECONDS + seconds), "doubts": doubts(records, at)}


def storm(stand, _, contestant, given):
    """All backends respond with 503, which may be retried; health checks stay good."""
    seconds = given.seconds or 60
    backends = Backends(stand, EVENT_BACKENDS)
    proxy = faults_proxies.start(stand, contestant, backends.ports, Task("storm"), given)
    load = Load(stand, proxy.port, STORM_RATE, given.seed,
                (WARM_UP_SECONDS, GET), (seconds, FAILING), (STORM_AFTER_SECONDS, GET))
    load.sleep_until(WARM_UP_SECONDS)
    before, metric_before = backends.arrived(), retries_in_metrics(proxy)
    begin, end = WARM_UP_SECONDS, WARM_UP_SECONDS + seconds
    load.sleep_until(end)
    after, metric_after = backends.arrived(), retries_in_metrics(proxy)
    records = ended(load, proxy)
    during = window(records, begin, end)
    return {"requests": during["requests"], "attempts": after - before, "retries": max(0, after - before - during["requests"]),
            "metric": None if metric_after is None else metric_after - metric_before,
            "limit": BUDGET_SHARE * (during["requests"] + BUCKET_SECONDS * STORM_RATE),
            "during": during, "after": window(records, end, end + STORM_AFTER_SECONDS - LIMIT_SECONDS), "doubts": doubts(records, begin)}


def ended(load, proxy):
    records = load.records()
    if proxy.has_ended():
        raise CannotMeasure(f"{proxy.name} ended with exit code {proxy.child.returncode}")
    return records


def retries_in_metrics(proxy):
    """The retries that lb counts itself; None for a peer."""
    if not proxy.admin:
        return None
    return sum(float(value) for value in re.findall(r"(?m)^lb_retries_total\{.*\} (\S+)$", fetch(proxy.admin, "GET", "/metrics")))


def fetch(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    if response.status != 200:
        raise CannotMeasure(f"{method} {path} on port {port}: {response.status} {text[:200]}")
    return text
