#!/usr/bin/env python3
"""What clients see when backends fail: lb with three strategies, HAProxy and nginx in the same run.

    cargo build --release --workspace
    lb/benches/measure/faults.py                                  everything, 70 minutes
    lb/benches/measure/faults.py --only kill --only stop          two rows, 3 minutes
    lb/benches/measure/faults.py --only together --seconds 20     a short look

Events. One of three backends (20 ms per request) fails at 400 requests a second:

  kill      kill -9: its port refuses connections
  stop      SIGSTOP: it accepts connections and is silent
  500       it responds with 500 at once, and its health check stays good

  The table has the share of bad responses in the first 5 s, and from 5 to 15 s.

Scenarios. At 70 % of the capacity of six backends, for two minutes (--seconds), with HAProxy balancing as lb does. The backends without
faults can do the whole load:

  flapping  one backend is killed and restarted: 1 s up, 1 s down
  errors    one backend responds to 20 % of requests with 500
  slow      one backend takes ten times as long
  together  15 backends, one of each kind

  The table has the share of bad responses, p50 and p99.

Others:

  storm     all backends respond with 503 for 60 s (--seconds), their health checks stay good. The retries are those that arrived at the
            backends, and those of lb's metrics. They must be at most 0.2 x requests, and a bucket that holds 10 s of that share
  post      10,000 POSTs (--tries) to backends that reset at every stage: none may arrive at two backends, or twice at one

A response is bad if its status is 400 or above, if the connection fails, or if it comes later than 3 s after the scheduled send time.
The client sends by a schedule (open loop), never sends a request twice, and gives up after 3 s; then 3 s count as the latency.

Every proxy has one thread, a time-out of 2 s for a response and one retry on another backend, for connect failures, resets, time-outs, 502,
503 and 504. nginx retries 500 too, because it would not count it otherwise. The row `post` has a time-out of 0.3 s, and HAProxy and nginx
take no backend out there. The folder --out gets all configurations, and the figures after each proxy.
--set gives lb further settings.

A figure with * is disturbed: the client was late, or responses were bad before the fault. Then other programs had the processor; repeat
the row. Exit code 0: measured, and all limits hold. 1: a limit is exceeded. 2: it could not be measured.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Callable, NamedTuple

import faults_post
import faults_rows
from faults_proxies import STRATEGIES, Contestant
from faults_rows import EVENTS, SCENARIOS
from figures import Limits, run, table
from processes import tell
from stand import Stand, add_options, check_options

WINDOWS = {"first": f"first {faults_rows.FIRST_SECONDS} s", "later": f"{faults_rows.FIRST_SECONDS} to {faults_rows.AFTER_SECONDS} s"}


class Kind(NamedTuple):
    """Rows that are measured and judged alike."""
    rows: tuple
    measure: Callable
    show: Callable
    judge: Callable
    peers: Callable


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rows = [row for kind in KINDS for row in kind.rows]
    parser.add_argument("--only", action="append", choices=rows, metavar="ROW", help=f"measure this row; may be repeated: {', '.join(rows)}")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of the scenarios (default: 120) and of storm (default: 60)")
    parser.add_argument("--tries", type=int, default=10_000, metavar="N", help="requests of post (default: 10000)")
    parser.add_argument("--strategies", default=STRATEGIES, type=strategies_of, metavar="NAMES",
                        help=f"strategies of lb, with commas (default: {','.join(STRATEGIES)})")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting for lb, as for lb --set; may be repeated")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="worker threads of lb (default: 1)")
    parser.add_argument("--seed", type=int, default=7, metavar="N", help="seed of the keys, and of the faults of post (default: 7)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for configurations and figures (default: a new one, printed)")
    limits = parser.add_argument_group("limits on lb: exit code 1 if one is exceeded")
    limits.add_argument("--limit-bad", type=float, default=1, metavar="PERCENT",
                        help="bad responses in each window of each event (default: 1). In a scenario, HAProxy's percentage if that is more")
    limits.add_argument("--limit-p99", type=float, default=1.25, metavar="X", help="p99 of a scenario / HAProxy's (default: 1.25)")
    every = os.sched_getaffinity(0)
    add_options(parser, ["haproxy", "nginx"], takes_backend=False, cpus=(every, every))
    return parser


def strategies_of(text):
    names = tuple(name for name in text.split(",") if name)
    if not names or set(names) - set(STRATEGIES):
        raise ValueError(text)
    return names


def measure(given):
    check_options(given)
    given.out = (given.out or Path(tempfile.mkdtemp(prefix="lb-faults-"))).resolve()
    result, limits = {}, Limits()
    for kind in KINDS:
        found = {row: contest(kind, row, given, result) for row in kind.rows if row in (given.only or kind.rows)}
        if found:
            print()
            kind.show(found)
            kind.judge(found, given, limits)
    print(f"\nconfigurations and figures: {given.out}")
    return result, limits


def contest(kind, row, given, result):
    """Measures a row with all its contestants. What is known is in a file after each, because all rows take an hour."""
    found = result[row] = {}
    for one in [Contestant("lb", name) for name in given.strategies] + kind.peers(given):
        with Stand(given) as stand:
            found[str(one)] = kind.measure(stand, row, one, given)
        tell(f"{row}: {one}: {brief(found[str(one)])}")
        (given.out / "figures.json").write_text(json.dumps(result, indent=1) + "\n")
    return found


def peers_once(given):
    """Each peer with one strategy, for rows in which the strategy makes no difference to it."""
    return [Contestant(name, "round_robin") for name in given.peers]


def haproxy_alike(given):
    return [Contestant("haproxy", name) for name in given.strategies if "haproxy" in given.peers]


# Events.

def show_events(rows):
    table(["bad, %: " + " / ".join(WINDOWS.values()), *next(iter(rows.values()))],
          [[EVENTS[row].text, *(" / ".join(percent(one[key]) for key in WINDOWS) + star(one) for one in found.values())]
           for row, found in rows.items()])


def judge_events(rows, given, limits):
    for row, found in rows.items():
        for name, one in ours(found):
            for key, text in WINDOWS.items():
                limits.check(f"{row}: {name}: bad, {text}{star(one)}", 100 * one[key]["share"], given.limit_bad, " %")


# Scenarios.

def show_scenarios(rows):
    table(["scenario", "proxy", "bad, %", "p50 ms", "p99 ms"],
          [[SCENARIOS[row].text, name, percent(one["whole"]) + star(one), f"{one['whole']['p50_ms']:.0f}", f"{one['whole']['p99_ms']:.0f}"]
           for row, found in rows.items() for name, one in found.items()])


def judge_scenarios(rows, given, limits):
    for row, found in rows.items():
        for name, one in ours(found):
            whole, peer = one["whole"], found.get(name.replace("lb", "haproxy", 1))
            limits.check(f"{row}: {name}: bad{star(one)}", 100 * whole["share"],
                         max(given.limit_bad, 100 * peer["whole"]["share"] if peer else 0), " %")
            if peer:
                limits.check(f"{row}: {name}: p99 / HAProxy's{star(one) or star(peer)}", whole["p99_ms"] / peer["whole"]["p99_ms"], given.limit_p99)


# The storm.

def show_storm(rows):
    table(["all backends respond with 503", "requests", "retries at the backends", "of lb's metrics", "limit", "bad afterwards, %"],
          [[name, f"{one['requests']:,}", f"{one['retries']:,}", "" if one["metric"] is None else f"{one['metric']:,.0f}",
            f"{one['limit']:,.0f}", percent(one["after"]) + star(one)] for name, one in rows["storm"].items()])


def judge_storm(rows, _, limits):
    for name, one in ours(rows["storm"]):
        limits.check(f"storm: {name}: retries", max(one["retries"], one["metric"]), one["limit"])


# POST.

def show_post(rows):
    table(["POST", "tries", "arrived", "arrived twice", "outcomes"],
          [[name, f"{one['tries']:,}", f"{one['arrived']:,}", one["repeated"], listed(one["outcomes"])] for name, one in rows["post"].items()])


def judge_post(rows, _, limits):
    for name, one in ours(rows["post"]):
        limits.check(f"post: {name}: arrived twice", one["repeated"], 0)


KINDS = (
    Kind(tuple(EVENTS), faults_rows.event, show_events, judge_events, peers_once),
    Kind(tuple(SCENARIOS), faults_rows.scenario, show_scenarios, judge_scenarios, haproxy_alike),
    Kind(("storm",), faults_rows.storm, show_storm, judge_storm, peers_once),
    Kind(("post",), faults_post.measure, show_post, judge_post, peers_once),
)


def ours(found):
    return [(name, one) for name, one in found.items() if name.startswith("lb ")]


def percent(counts):
    return f"{100 * counts['share']:.1f}"


def star(one):
    return " *" if one["doubts"] else ""


def listed(counts):
    return ", ".join(f"{kind}: {count:,}" for kind, count in sorted(counts.items(), key=lambda one: -one[1]))


def brief(one):
    """A measurement for the progress on stderr."""
    plain = [f"{key} {value}" for key, value in one.items() if isinstance(value, int)]
    windows = [f"{key}: {counts['bad']} of {counts['requests']} bad" + f" ({listed(counts['kinds'])})" * (counts["bad"] > 0)
               for key, counts in one.items() if isinstance(counts, dict) and "kinds" in counts]
    return "; ".join([*plain, *windows, *one["doubts"]])


if __name__ == "__main__":
    run(measure, options().parse_args())
