#!/usr/bin/env python3
"""The resident memory of lb, compared with HAProxy and nginx: the figures of docs/performance.md.

    cargo build --release --workspace
    lb/benches/measure/memory.py --haproxy PATH --nginx PATH

Cases (all by default; --only selects):

  idle             19,000 keep-alive connections that had one request each: resident bytes per connection
  uploads-client   1,000 uploads of 100 MB from clients that send 4 KiB/s: resident bytes above the start
  uploads-backend  1,000 uploads of 100 MB to a backend that reads 4 KiB/s
  downloads        200 downloads of 1 GB that are read at 64 KiB/s
  chaos            60 s of broken connections, slow clients, large bodies, pipelines, killed backends and a reload
                   every second; meanwhile every response to well-behaved clients is checked. A steady load (--rate) is
                   counted by loadgen and by lb; afterwards nothing may be in use
  soak             120 s (--soak-seconds) of a steady load on a pool whose strategy is swapped every 3 s, with ticks, metrics, probes
                   and all other hooks; afterwards nothing may be in use, and no old instance may be left. Only lb; needs cc

Each case begins with a new proxy that has served 500 requests (the start). It ends with 60 s of rest; the resident memory after the
rest is shown as a multiple of the start. A proxy has one worker thread. nginx writes bodies to files, so only its idle case is measured.

All cases together take about 22 minutes. A busy machine does not change resident memory, as long as every client can run.
Exit code 0: measured, and no limit exceeded. 1: a limit is exceeded, a well-behaved client got a wrong response, or a count is wrong.
2: it could not be measured.
"""

import argparse

import memory_bodies
import memory_chaos
import memory_idle
import memory_soak
from figures import Limits, mib, run, table
from stand import Stand, add_options, check_options

CASES = {
    "idle": memory_idle.measure,
    "uploads-client": lambda stand, given: memory_bodies.measure(stand, given, "uploads-client"),
    "uploads-backend": lambda stand, given: memory_bodies.measure(stand, given, "uploads-backend"),
    "downloads": lambda stand, given: memory_bodies.measure(stand, given, "downloads"),
    "chaos": memory_chaos.measure,
    "soak": memory_soak.measure,
}

# Cases with a counted load, and what else must be 0.
COUNTED = {"chaos": "wrong responses to well-behaved clients", "soak": "refused swaps"}


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=CASES, help="measure this case; may be repeated")
    parser.add_argument("--rest", type=float, default=60, metavar="S", help="seconds of rest after a case (default: 60)")
    parser.add_argument("--connections", type=int, default=19000, metavar="N", help="connections of idle (default: 19000)")
    parser.add_argument("--uploads", type=int, default=1000, metavar="N", help="uploads at once (default: 1000)")
    parser.add_argument("--upload-bytes", type=int, default=100_000_000, metavar="N", help="bytes of each upload (default: 100 MB)")
    parser.add_argument("--downloads", type=int, default=200, metavar="N", help="downloads at once (default: 200)")
    parser.add_argument("--download-bytes", type=int, default=1_000_000_000, metavar="N", help="bytes of each download (default: 1 GB)")
    parser.add_argument("--hold", type=float, default=30, metavar="S", help="seconds of slow bodies (default: 30)")
    parser.add_argument("--chaos-seconds", type=float, default=60, metavar="S", help="seconds of chaos (default: 60)")
    parser.add_argument("--rate", type=int, default=2_000, metavar="N",
                        help="counted requests a second in chaos and soak (default: 2000)")
    parser.add_argument("--soak-seconds", type=float, default=120, metavar="S", help="seconds of the soak (default: 120)")
    parser.add_argument("--swap-seconds", type=float, default=3, metavar="S", help="seconds between two swaps of the soak (default: 3)")
    parser.add_argument("--clients", type=int, default=200, metavar="N", help="rough clients of chaos at once (default: 200)")
    parser.add_argument("--seed", type=int, help="seed of chaos (default: a new one, printed)")
    limits = parser.add_argument_group("limits on lb: exit code 1 if one is exceeded")
    limits.add_argument("--max-idle-bytes", type=float, metavar="N", help="resident bytes per idle connection (aim: 3072)")
    limits.add_argument("--max-above-mib", type=float, metavar="N", help="peak above the start in slow bodies, MiB (aim: 64)")
    limits.add_argument("--max-rest-factor", type=float, metavar="X", help="after the rest, as a multiple of the start (aim: 2)")
    add_options(parser, ["haproxy", "nginx"], takes_backend=False)
    return parser


def measure(given):
    check_options(given)
    result, limits = {}, Limits()
    for case in given.only or CASES:
        with Stand(given) as stand:
            result[case] = CASES[case](stand, given)
        show(case, result[case])
        judge(case, result[case]["lb"], given, limits)
    return result, limits


def show(case, rows):
    print(f"\n{case}")
    if case == "idle":
        table(["proxy", "start MiB", "full MiB", "bytes per connection", "after the rest MiB", "× the start"],
              [[name, mib(row["start"]), mib(row["full"]), f"{row['bytes_per_connection']:,.0f}", mib(row["after"]), f"{row['factor']:.2f}"]
               for name, row in rows.items()])
    else:
        table(["proxy", "start MiB", "settled above MiB", "most above MiB", "after the rest MiB", "× the start"],
              [[name, *(mib(row[key]) for key in ("start", "settled_above", "peak_above", "after")), f"{row['factor']:.2f}"]
               for name, row in rows.items()])
    if case == "soak":
        memory_soak.show(rows["lb"])


def judge(case, row, given, limits):
    if case == "idle":
        limits.check("idle: bytes per connection", row["bytes_per_connection"], given.max_idle_bytes)
    elif case not in COUNTED:
        limits.check(f"{case}: most above the start", row["peak_above"] / 2**20, given.max_above_mib, " MiB")
    else:
        limits.check(f"{case}: {COUNTED[case]}", row["wrong"], 0)
        accounts = row["accounts"]
        for line in accounts["differences"]:
            print(f"WRONG     {line}")
        print(f"          counted: {accounts['counted']} by status; descriptors: {accounts['descriptors'][0]} at the start, "
              f"{accounts['descriptors'][1]} after the rest")
        limits.check(f"{case}: wrong accounts", len(accounts["differences"]), 0)
    limits.check(f"{case}: after the rest, × the start", row["factor"], given.max_rest_factor)
    print(f"          {case}: {'within' if row['factor'] <= 2 else 'not within'} 2 × the start after {row['rest_seconds']:.0f} s")


if __name__ == "__main__":
    run(measure, options().parse_args())
