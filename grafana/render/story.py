#!/usr/bin/env python3
"""Runs a real lb through five minutes of events, and stores the data of Prometheus, so that draw.ts can draw them.

    cargo build --release && grafana/render/story.py --lb target/release/lb --data /tmp/lb-story

Needs Python 3.11 and Debian's package prometheus. Clients send about 200 requests a second to three mock servers with
limited concurrency. One server becomes slow, so another strategy is activated. One server is killed and started again,
weights change, and a reload is refused. All data are measured, so two runs differ. Exit code 2: a needed program is
missing, or the data folder exists.
"""

import argparse
import json
import shutil
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "verify"))

from world import GRAFANA, Load, World

WEB = ("web-1", "web-2", "web-3")
SERVICE = ("--service-time", "exponential:20ms", "--concurrency", "6", "--queue", "16")
# Clients that send no x-key header have no key.
STRATEGY = 'hash_on = ["header:x-key"]'
SCRAPE_SECONDS = 2
# The paths of clients, in turn: mostly small pages, some larger ones, and rarely a failure.
PATHS = ["/home"] * 40 + ["/stream?bytes=20000&chunk=5000&interval_ms=1"] * 6 + ["/status/304", "/status/404", "/home", "/status/404"]
RARE_PATHS = ["/home"] * 12 + ["/status/503"] + ["/home"] * 12 + ["/stream?bytes=20000&chunk=5000&abort_after=8000"]
# Total duration in seconds.
LENGTH = 280


def slow(world, name, factor):
    body = json.dumps({"slow": factor}).encode()
    url = f"http://127.0.0.1:{world.ports[name]}/control"
    urllib.request.urlopen(urllib.request.Request(url, data=body, method="POST"), timeout=10).read()


def weigh(world, strategy, **weights):
    world.write_config({name: weights.get(name.replace("-", "_"), 1) for name in world.backends}, world.ports)
    world.reload("--strategy", strategy)


def refused(world):
    try:
        world.reload("--strategy", "no_such_strategy")
    except RuntimeError:
        return
    raise AssertionError("an unknown strategy was accepted")


def chapters(world):
    """The events: time in seconds since the start, title, and action."""
    return [
        (45, "web-2 becomes four times as slow", lambda: slow(world, "web-2", 4)),
        (90, "least_connections becomes active", lambda: world.reload("--strategy", "least_connections")),
        (130, "web-2 has its normal speed again", lambda: slow(world, "web-2", 1)),
        (150, "web-3 is killed", lambda: world.kill("web-3")),
        (185, "web-3 is started again", lambda: world.revive("web-3")),
        (215, "the weight of web-1 becomes 2", lambda: weigh(world, "least_connections", web_1=2)),
        (235, "a reload is refused", lambda: refused(world)),
        (250, "consistent_hash becomes active", lambda: world.reload("--strategy", "consistent_hash")),
    ]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--lb", default=GRAFANA.parent / "target/release/lb", type=Path,
                           help="the program lb; mock-server, loadgen and plugins must be in the same folder (default: target/release/lb)")
    arguments.add_argument("--data", required=True, type=Path, help="a new folder for Prometheus' data and story.json")
    given = arguments.parse_args()
    for program, how in (("prometheus", "apt-get install prometheus"), (given.lb, "cargo build --release, or name it with --lb")):
        if not shutil.which(program):
            print(f"story.py: {program} is missing: {how}", file=sys.stderr)
            return 2
    if given.data.exists():
        print(f"story.py: {given.data} exists already: name a new folder with --data", file=sys.stderr)
        return 2
    given.data.mkdir(parents=True)
    with World(given.lb, backends=WEB, service=SERVICE, strategy=STRATEGY, scrape_seconds=SCRAPE_SECONDS,
               data=given.data / "prometheus") as world:
        start = time.time()
        upload = world.folder / "upload"
        upload.write_bytes(bytes(20_000))
        loads = [
            clients(world, "pages", 190, PATHS, "--keys", "zipf:10000,0.8"),
            clients(world, "rare", 2, RARE_PATHS),
            clients(world, "uploads", 5, ["/upload"], "--method", "POST", "--body-file", upload),
        ]
        with Load(world.proxy, clients=1, pause=0.05):
            for at, title, happen in chapters(world):
                time.sleep(max(0, start + at - time.time()))
                print(f"{at:4} s  {title}", flush=True)
                happen()
            time.sleep(max(0, start + LENGTH - time.time()))
            end = time.time()
        for load in loads:
            load.wait()
    (given.data / "story.json").write_text(json.dumps({"from": start - 10, "to": end, "scrape_seconds": SCRAPE_SECONDS}) + "\n")
    return 0


def clients(world, name, rate, paths, *more):
    """Starts an open loop of loadgen, with random gaps as from many users."""
    file = world.folder / f"{name}.txt"
    file.write_text("\n".join(paths) + "\n")
    command = [world.lb.parent / "loadgen", "run", "--rate", rate, "--poisson", "--duration", f"{LENGTH + 5}s", "--connections", 64,
               "--paths", file, "--seed", 7, *more, f"http://{world.proxy}/"]
    return world.spawn(name, command)


if __name__ == "__main__":
    sys.exit(main())
