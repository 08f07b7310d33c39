#!/usr/bin/env python3
"""Latency from the scheduled send time, of lb compared with HAProxy: the figures of docs/performance.md.

    cargo build --release --workspace
    lb/benches/measure/latency.py --haproxy PATH --backend CMD --limit 15000=1.05 --limit 40000=1.0

The proxy has CPU 0 for itself; `loadgen run` and the backend share CPU 1. The load is an open loop over at most 64 connections. The send
times of requests do not depend on earlier responses, and latency is measured from the scheduled time. In each round lb and the peer take
turns, each newly started and warmed up; every second round has the reverse order. The results are medians over the rounds. For p50 and p99
they include the median of the ratios within a round, with its interval (by order statistics, 95 % or more from 6 rounds on).

If loadgen was late or could not send all requests, a turn counts as doubted. The remedies are a quiet machine, a cheap backend
(--backend) and a lower rate. --json has loadgen's reasons.

Exit code 0: measured, and no limit exceeded. 1: a limit is exceeded. 2: it could not be measured.
"""

import argparse
import statistics

from figures import Limits, Median, named_limit, run, table
from load import loadgen
from processes import CannotMeasure, tell
from stand import Stand, add_options, check_options

RATES = (15_000, 40_000)
WARM_UP_SECONDS = 1


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", action="append", type=int, metavar="N",
                        help="requests per second; may be repeated (default: 15000 and 40000)")
    parser.add_argument("--connections", type=int, default=64, metavar="N", help="connections at most (default: 64)")
    parser.add_argument("--bytes", type=int, default=100, metavar="N", help="bytes of a response's body (default: 100)")
    parser.add_argument("--rounds", type=int, default=11, metavar="N", help="default: 11")
    parser.add_argument("--seconds", type=int, default=5, metavar="S", help="seconds of each turn (default: 5)")
    limits = parser.add_argument_group("limits on the median ratio: exit code 1 if one is exceeded")
    limits.add_argument("--limit", action="append", default=[], type=named_limit, metavar="RATE=X",
                        help="ratio of lb's p99 to the peer's, such as 15000=1.05; may be repeated")
    add_options(parser, ["haproxy"])
    return parser


def measure(given):
    check_options(given)
    rates = given.rate or list(RATES)
    wanted = {int(rate): limit for rate, limit in given.limit}
    if len(given.peers) != 1 or set(wanted) - set(rates):
        raise CannotMeasure("give one peer, and limits only for measured rates: see --help")
    result, limits = {}, Limits()
    with Stand(given) as stand:
        ports, path = stand.backends(given.bytes)
        for rate in rates:
            rows = alternate(stand, ports, path, rate, given)
            result[rate] = summary(rows, given.peers[0])
            show(rate, result[rate], given.peers[0])
            limits.check(f"{rate} requests/s: p99 of lb / {given.peers[0]}", result[rate]["lb"]["p99_ratio"].middle, wanted.get(rate))
    return result, limits


def alternate(stand, ports, path, rate, given):
    kept = list(stand.children)
    rows = {name: [] for name in (*given.peers, "lb")}
    for number in range(given.rounds):
        for name in list(rows)[::1 if number % 2 == 0 else -1]:
            proxy = stand.proxy(name, ports)
            rows[name].append(loadgen(stand, proxy.port, path, given.connections, given.seconds, rate, WARM_UP_SECONDS))
            stand.end_all(kept)
        tell(f"{rate} requests/s, round {number + 1} of {given.rounds}: "
             + ", ".join(f"{name} p99 {row[-1]['p99']:.3f} ms" for name, row in rows.items()))
    return rows


def summary(rows, peer):
    return {name: {**{key: statistics.median(one[key] for one in row) for key in ("p50", "p99")},
                   **{f"{key}_ratio": Median([ours[key] / theirs[key] for ours, theirs in zip(row, rows[peer])]) for key in ("p50", "p99")},
                   "doubted": sum(bool(one["doubts"]) for one in row), "rounds": row}
            for name, row in rows.items()}


def show(rate, rows, peer):
    print(f"\n{rate} requests/s")
    table(["proxy", "p50 ms", f"/ {peer} [interval]", "p99 ms", f"/ {peer} [interval]", "doubted turns"],
          [[name, f"{row['p50']:.3f}", row["p50_ratio"], f"{row['p99']:.3f}", row["p99_ratio"], row["doubted"]]
           for name, row in rows.items()])
    print(f"confidence of the intervals: {rows['lb']['p99_ratio'].confidence:.1%}")


if __name__ == "__main__":
    run(measure, options().parse_args())
