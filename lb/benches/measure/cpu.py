#!/usr/bin/env python3
"""CPU time per request of lb, compared with HAProxy or nginx, or of two builds of lb: the figures of docs/performance.md.

    cargo build --release --workspace
    lb/benches/measure/cpu.py --haproxy PATH --backend CMD
    lb/benches/measure/cpu.py --lb OLD/lb --lb target/release/lb --peers '' --case 100x64 --rounds 11

Every proxy has CPU 0 for itself; load and backends share CPU 1. The load is a closed loop over keep-alive connections. The load's CPU may
be the limit, so the proxy's requests per second mean nothing. In each round the proxies take turns, each newly started and warmed up for
1 s; every second round has the reverse order. A figure is compared with that of the reference in the same round, so drift of a shared
machine cancels. The results are medians over the rounds, and the interval of the median of ratios (by order statistics, 95 % or more from
6 rounds on).

User and system time are sampled at ticks of the clock, so their split needs long rounds (--seconds 20); the sum is exact.
With --workers 2, a further row is lb with two workers on the same CPU. It shows the cost of dividing the work.

Exit code 0: measured, and no limit exceeded. 1: a limit is exceeded. 2: it could not be measured.
"""

import argparse
import statistics

from figures import Limits, Median, named_limit, run, table
from load import loadgen, wrk
from processes import CannotMeasure, tell
from stand import Stand, add_options, check_options

CASES = ("100x64", "65536x64", "100x512")
WARM_UP_SECONDS = 1


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", metavar="BYTESxN",
                        help=f"bytes of a response's body x connections; may be repeated (default: {', '.join(CASES)})")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="default: 7")
    parser.add_argument("--seconds", type=int, default=4, metavar="S", help="seconds of each turn (default: 4)")
    parser.add_argument("--workers", type=int, metavar="N", help="also measure the first lb with N workers")
    parser.add_argument("--wrk", action="store_true", help="load by wrk instead of loadgen")
    limits = parser.add_argument_group("limits on the median ratio: exit code 1 if one is exceeded")
    limits.add_argument("--limit", action="append", default=[], type=named_limit, metavar="CASE=X",
                        help="ratio of the last lb to the reference, such as 100x64=0.90; may be repeated")
    limits.add_argument("--limit-workers", type=float, metavar="X",
                        help="ratio of lb with --workers to lb with one, in every case (aim: 1.05)")
    add_options(parser, ["haproxy"])
    return parser


def measure(given):
    check_options(given)
    cases = {case: tuple(map(int, case.split("x"))) for case in given.case or CASES}
    wanted = dict(given.limit)
    if set(wanted) - set(cases):
        raise CannotMeasure(f"--limit names {', '.join(set(wanted) - set(cases))}, which is not a measured case")
    result, limits = {}, Limits()
    for case, (size, connections) in cases.items():
        with Stand(given) as stand:
            rows = alternate(stand, contestants(given), given, size, connections)
        result[case] = summary(rows)
        show(case, result[case])
        names = list(rows)
        last = [name for name in names if name.startswith("lb") and name != with_workers(given)][-1]
        limits.check(f"{case}: {last} / {names[0]}", result[case][last]["ratio"].middle, wanted.get(case))
        if given.workers:
            ratio = Median([ours["us"] / one["us"] for ours, one in zip(rows[with_workers(given)], rows["lb"])])
            result[case]["workers"] = {"ratio": ratio}
            print(f"{case}: {given.workers} workers / 1 worker: {ratio}")
            limits.check(f"{case}: {given.workers} workers / 1 worker", ratio.middle, given.limit_workers)
    return result, limits


def contestants(given):
    """The programs to measure, the reference first: name → path of an lb (None for a peer) and workers."""
    found = {peer: (None, 1) for peer in given.peers}
    for number, path in enumerate(given.lb):
        name = f"lb{number + 1}" if number else "lb"
        found[name] = (path, 1)
        tell(f"{name}: {path}")
    if given.workers:
        found[with_workers(given)] = (given.lb[0], given.workers)
    return found


def with_workers(given):
    return f"lb, {given.workers} workers"


def alternate(stand, proxies, given, size, connections):
    ports, path = stand.backends(size)
    kept = list(stand.children)
    rows = {name: [] for name in proxies}
    for number in range(given.rounds):
        for name in list(proxies)[::1 if number % 2 == 0 else -1]:
            lb, workers = proxies[name]
            proxy = stand.proxy(name, ports, lb=lb, workers=workers)
            rows[name].append(turn(stand, proxy, path, connections, given))
            stand.end_all(kept)
        tell(f"{size} bytes, {connections} connections, round {number + 1} of {given.rounds}: "
             + ", ".join(f"{name} {row[-1]['us']:.2f}" for name, row in rows.items()))
    return rows


def turn(stand, proxy, path, connections, given):
    """Microseconds per request: user, system, both."""
    load = wrk if given.wrk else loadgen
    load(stand, proxy.port, path, connections, WARM_UP_SECONDS)
    before = proxy.cpu()
    requests = load(stand, proxy.port, path, connections, given.seconds)["requests"]
    user, system = ((after - then) / requests * 1e6 for after, then in zip(proxy.cpu(), before))
    return {"user": user, "system": system, "us": user + system, "requests": requests}


def summary(rows):
    reference = next(iter(rows.values()))
    return {name: {**{key: statistics.median(one[key] for one in row) for key in ("us", "user", "system", "requests")},
                   "ratio": Median([ours["us"] / theirs["us"] for ours, theirs in zip(row, reference)]), "rounds": row}
            for name, row in rows.items()}


def show(case, rows):
    print(f"\n{case.replace('x', ' bytes, ')} connections")
    reference = next(iter(rows))
    table(["proxy", "µs per request", "user", "system", f"/ {reference} [interval]"],
          [[name, f"{row['us']:.2f}", f"{row['user']:.2f}", f"{row['system']:.2f}", row["ratio"]] for name, row in rows.items()])
    print(f"confidence of the intervals: {rows[reference]['ratio'].confidence:.1%}")


if __name__ == "__main__":
    run(measure, options().parse_args())
