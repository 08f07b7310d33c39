"""Soak: swaps of strategies every few seconds under a constant load, with every hook of the contract, and what lb holds afterwards.

The strategy of the file is every_hook.c: ticks, metrics, probes with picks and periodic ones, begins, answers, held bodies, state. Each
second swap puts an example in charge, and the next one puts every_hook back. loadgen counts the requests, and lb must agree (see
memory_accounts.py). At the end round_robin is in charge: no probe, no tick and no old instance may be left. A peer has no strategies.
"""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import memory_accounts
from figures import mib
from memory_rest import Rest, warm_up
from processes import CannotMeasure, tell

# Examples with ticks and metrics, probes with picks, periodic probes, and answers.
OTHERS = ("fastest_half", "least_loaded_probed", "probed_latency", "by_cost")
BACKENDS = 3
SAMPLES = 20
PROBE_OPTIONS = ("--seed", "7", "--probe-path", "/probe")
HEADER = Path(__file__).resolve().parents[3] / "strategies/kit/api/include"

POOL = """
[pools.{pool}.strategy]
name = "every_hook"
path = "{plugin}"
[pools.{pool}.strategy.probe]
path = "/probe"
timeout_ms = 500
{backends}
[[routes]]
host = "{host}"
pool = "{pool}"
"""
BACKEND = """[[pools.{pool}.backends]]
id = "{id}"
address = "127.0.0.1:{port}"
"""

# Counters of lb and of the plugin, summed over the labels that are not named. The last ones must be 0.
COUNTERS = ("lb_strategy_picks_total", "lb_strategy_swaps_total", "lb_probes_total", "lb_probes_skipped_total")
FAULTS = ("lb_strategy_hook_panics_total", "lb_strategy_hook_failures_total", "lb_strategy_fallbacks_total", "lb_plugin_metrics_dropped_total",
          "lb_strategy_retired_instances")


def measure(stand, given):
    backends = [(f"s{n}", stand.mock(f"s{n}", options=PROBE_OPTIONS)[1]) for n in range(BACKENDS)]
    proxy = stand.proxy("lb", [port for _, port in backends], more=pool(stand, backends))
    soak = Soak(proxy, given)
    # Each library is loaded once before the start.
    for _ in range(2 * len(OTHERS)):
        soak.swap()
    start = warm_up(proxy, "/home")
    accounts = memory_accounts.Accounts(stand, proxy, given.rate, given.soak_seconds, spare=BACKENDS)
    samples = soak.run()
    if proxy.has_ended():
        raise CannotMeasure(f"lb has ended with exit code {proxy.child.returncode} in the soak")
    soak.reload("round_robin")
    settled, peak = proxy.rss(), proxy.peak()
    rest = Rest(proxy, start, given.rest)
    told = accounts.close()
    told["differences"] += soak.differences()
    stand.end_all()
    return {"lb": {"start": start, "settled_above": settled - start, "peak_above": peak - start, "samples": samples, "accounts": told,
                   "counters": soak.counters, "wrong": soak.refused, **rest.plain()}}


def pool(stand, backends):
    plugin = stand.folder / "every_hook.so"
    subprocess.run(["cc", "-std=c11", "-shared", "-fPIC", "-fvisibility=hidden", "-O2", "-I", HEADER, "-o", plugin,
                    Path(__file__).with_name("every_hook.c")], check=True)
    name = memory_accounts.POOL
    listed = "".join(BACKEND.format(pool=name, id=id, port=port) for id, port in backends)
    return POOL.format(pool=name, plugin=plugin, backends=listed, host=memory_accounts.HOST)


def show(row):
    samples = row["samples"]
    print("          resident MiB:", " ".join(mib(rss) for _, rss, _ in samples))
    print("          descriptors:", " ".join(str(descriptors) for _, _, descriptors in samples))
    for name, value in row["counters"].items():
        if value:
            print(f"          {name} {value:,.0f}")


class Soak:
    def __init__(self, proxy, given):
        self.proxy, self.given = proxy, given
        self.turn, self.refused, self.counters = 0, 0, {}

    def run(self):
        """Swaps until the time is over. Returns samples: seconds, resident bytes, descriptors."""
        began, samples = time.monotonic(), []
        while (passed := time.monotonic() - began) < self.given.soak_seconds and not self.proxy.has_ended():
            if passed >= len(samples) * self.given.soak_seconds / SAMPLES:
                samples.append((passed, self.proxy.rss(), memory_accounts.open_descriptors(self.proxy)))
                tell(f"soak: {passed:.0f} s: {mib(samples[-1][1])} MiB, {samples[-1][2]} descriptors, {self.turn} swaps")
            self.keep_counters()
            self.swap()
            time.sleep(self.given.swap_seconds)
        return samples

    def swap(self):
        """An example or, in each second turn, the strategy of the file."""
        name = None if self.turn % 2 else OTHERS[self.turn // 2 % len(OTHERS)]
        self.turn += 1
        self.reload(name)

    def reload(self, name):
        told = {"pool": memory_accounts.POOL, "strategy": {"name": name}}
        body = json.dumps(told).encode() if name else b""
        request = urllib.request.Request(f"http://127.0.0.1:{self.proxy.admin}/reload", body, {"content-type": "application/json"})
        try:
            urllib.request.urlopen(request, timeout=60).read()
        except urllib.error.HTTPError as error:
            tell(f"soak: a swap was refused: {error.read().decode(errors='replace')}")
            self.refused += 1

    def keep_counters(self):
        """Takes all counters. Those of a plugin are gone with it, so the largest values stay."""
        sums = Counter()
        for name, labels, value in self.metrics():
            if name in COUNTERS or name in FAULTS or name.startswith("lb_plugin_"):
                kept = {label: labels[label] for label in ("kind", "outcome", "reason", "hook") if label in labels}
                key = name + ("{%s}" % ",".join(f'{label}="{text}"' for label, text in kept.items()) if kept else "")
                sums[key] += value
        for key, value in sums.items():
            self.counters[key] = max(self.counters.get(key, 0), value)

    def differences(self):
        """What is wrong at the end."""
        self.keep_counters()
        left = {}
        for name, _, value in self.metrics():
            if name in FAULTS:
                left[name] = left.get(name, 0) + value
        wrong = [f"{name} is {value:g}" for name, value in left.items() if value]
        for kind in ("pick", "periodic"):
            if not self.counters.get(f'lb_probes_total{{kind="{kind}",outcome="ok"}}'):
                wrong.append(f"no probe of the kind {kind} has had a response")
        for name in ("ticks_total", "pick_probes_total", "periodic_probes_total", "headers_total"):
            if not self.counters.get(f"lb_plugin_{name}"):
                wrong.append(f"lb_plugin_{name} is 0 or absent")
        return wrong

    def metrics(self):
        return memory_accounts.read_metrics(self.proxy)
