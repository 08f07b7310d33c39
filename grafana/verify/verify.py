#!/usr/bin/env python3
"""Sends every query of the dashboard to a real Prometheus, while a real lb is under load, and checks the results.

    cargo build && grafana/verify/verify.py --lb target/debug/lb

Needs Python 3.11, Debian's package prometheus, and about a minute. In that minute, an lb with three mock servers is
under load. It has a queue, slow start and sticky sessions. Its strategy is swapped, its configuration reloaded, and one server killed with SIGKILL and started again.
Then promtool checks the files, and grafana/replay shows a small experiment of loadgen.

Exit codes: 0 every panel, variable, annotation and rule is right; 1 there are findings, one line each; 2 a needed
program is missing.
"""

import argparse
import math
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import replayed
from dashboard import Dashboard, Prometheus, limits
from world import BACKENDS, GRAFANA, Load, World, wait_for

SCRAPE = 1
# Maximum time until everything has started, in seconds.
START_UP = 60
VICTIM = BACKENDS[1]
RULES = sorted((GRAFANA / "prometheus/rules").glob("*.yml"))

# Everything that is off by default. Four clients wait for three places. They send no cookies, so all sessions are new.
SECTIONS = """
[limits]
requests_in_flight_per_backend = 1
[queue]
adaptive = true
[slow_start]
enabled = true
[sticky]
cookie = "server"
secret_file = "secret"
[[strategy.shadow]]
name = "round_robin"
"""

# Panels (with the target) that may be empty or not a number at some moments, because the measured events are rare.
RARE = {
    ("Time to connect", "A"), ("Time to connect", "B"), ("Reloads", "B"), ("Time to take up a generation", "A"),
    ("Failed attempts per backend", "A"), ("Pick time", "A"), ("Pick time", "B"), ("p95 per backend", "A"), ("Backends", "E"),
    ("Mean wait", "A"), ("Pick time of shadows", "A"), ("Agreement of shadows", "A"), ("Would-be imbalance", "A"),
}

class Findings:
    def __init__(self):
        self.wrong, self.right = [], 0

    def check(self, holds, what):
        if holds:
            self.right += 1
        else:
            self.wrong.append(what)
            print(f"WRONG  {what}")


def drive(world, seconds):
    """Runs the events under load. Returns their times and the counts of the clients."""
    story = {"start": time.time()}
    prometheus = Prometheus(world.prometheus)
    with Load(world.proxy) as load:
        time.sleep(seconds * 0.25)
        _, answer = world.reload()
        assert answer["result"] == "no_change", answer
        story["swap"], answer = world.reload("--strategy", "least_connections")
        assert answer["pools"][0]["change"] == "strategy", answer
        time.sleep(seconds * 0.2)
        world.kill(VICTIM)
        story["killed"] = time.time()
        down = f'min(lb_backend_up{{backend="{VICTIM}"}}) == 0'
        wait_for(lambda: prometheus.instant(down, time.time()), "the killed server to be down")
        time.sleep(seconds * 0.15)
        world.revive(VICTIM)
        time.sleep(seconds * 0.15)
        world.write_config({name: 1 + (name == BACKENDS[0]) for name in BACKENDS}, world.ports)
        story["config"], _ = world.reload("--strategy", "least_connections")
        time.sleep(seconds * 0.25)
        story["end"] = time.time()
    story.update(answers=load.answers, lost=load.lost)
    wait_for(lambda: prometheus.instant("sum(lb_requests_in_flight) == 0", time.time()), "the last response")
    # Waits for a scrape that began after the last response, so that it has every request.
    asked = time.time()
    wait_for(lambda: prometheus.instant(f"min(timestamp(lb_build_info)) > {asked + SCRAPE}", time.time()), "a last scrape")
    story["after"] = time.time()
    return story


def panels(dashboard, prometheus, story, found):
    """Every query returns finite values in the range of its axis, with All, with one value and with two."""
    start, end = story["start"] + 6 * SCRAPE, story["end"] - SCRAPE
    for chosen in ({}, {"job": ["lb"], "pool": ["default"], "backend": [BACKENDS[0], BACKENDS[2]]}, {"backend": [BACKENDS[2]]}):
        for panel in dashboard.panels():
            for target in panel["targets"]:
                name = f"{panel['title']}/{target['refId']}" + (f" with {chosen}" if chosen else "")
                # Without a filter that hides zeros, there are always values to check.
                query = dashboard.fill(target["expr"].removesuffix(" > 0"), chosen, start, end, SCRAPE)
                rare = (panel["title"], target["refId"]) in RARE
                if target["instant"]:
                    answer, points = prometheus.instant(query, end), 1
                else:
                    answer, points = prometheus.range(query, start, end, SCRAPE), int((end - start) / SCRAPE) + 1
                values = [value for _, series in answer for _, value in series if not (rare and math.isnan(value))]
                if not values and rare and chosen:
                    continue  # the killed server is not selected
                found.check(values, f"{name}: no data: {query}")
                found.check(all(map(math.isfinite, values)), f"{name}: not finite: {query}")
                least, greatest = limits(panel, target)
                outside = [value for value in values if not least <= value <= greatest + 1e-9]
                found.check(not outside, f"{name}: {outside[:3]} outside {least} to {greatest}")
                if not rare:
                    times = {at for _, series in answer for at, _ in series}
                    found.check(len(times) == points, f"{name}: {len(times)} of {points} points")


def variables(dashboard, prometheus, story, found):
    expected = {"job": ["lb"], "pool": ["default"], "backend": sorted(BACKENDS)}
    for variable in dashboard.variables():
        values = dashboard.values_of(variable, prometheus, {}, story["start"], story["end"])
        wanted = expected.get(variable["name"])
        found.check(values == wanted if wanted else len(values) == 1, f"variable {variable['name']}: {values}")


def annotations(dashboard, prometheus, story, found):
    """The marks that Grafana would draw: with useValueForTime, each different value is a mark at that time in milliseconds."""
    start, end = story["start"] - START_UP, story["after"]
    marks = {}
    for annotation in dashboard.annotations():
        query = dashboard.fill(annotation["expr"], {}, start, end, SCRAPE)
        answer = prometheus.range(query, start, end, SCRAPE)
        if annotation.get("useValueForTime") == "on":
            marks[annotation["name"]] = sorted({value / 1000 for _, series in answer for _, value in series})
        else:
            marks[annotation["name"]] = sorted(labels["alertname"] for labels, _ in answer)
    for name, happened in (("Strategy swap", story["swap"]), ("Config reload", story["config"])):
        found.check(len(marks[name]) == 1, f"annotation {name}: {len(marks[name])} marks, expected 1")
        away = [abs(mark - happened) for mark in marks[name]]
        found.check(all(one < 1 for one in away), f"annotation {name}: {away} s from the response of lb reload")
        print(f"       annotation {name}: {', '.join(f'{1000 * one:.0f} ms' for one in away)} from the response of lb reload")
    fired = marks["Alert firing"]
    found.check("LBBackendsUnhealthy" in fired, f"annotation Alert firing: {fired}, although one of three backends was down")
    found.check(not {"LBDown", "LBNoHealthyBackend", "LBReloadFailed", "LBStrategyErrors"} & set(fired), f"fired: {fired}")
    found.check(len(marks["Restart"]) == 1, f"annotation Restart: {marks['Restart']}")
    recent = all(story["start"] - START_UP < mark < story["start"] for mark in marks["Restart"])
    found.check(recent, f"annotation Restart: {marks['Restart']}, the load began at {story['start']}")


def figures(dashboard, prometheus, story, found):
    """Values that must be right, independent of the layout of panels."""
    start, end = story["start"] + 6 * SCRAPE, story["end"] - SCRAPE
    by_title = {panel["title"]: panel for panel in dashboard.panels()}

    def ask(title, ref="A"):
        expr = next(one["expr"] for one in by_title[title]["targets"] if one["refId"] == ref)
        return prometheus.range(dashboard.fill(expr, {}, start, end, SCRAPE), start, end, SCRAPE)

    # The last sample of the counters minus the first equals the count of the clients, for each code.
    found.check(story["lost"] == 0, f"{story['lost']} requests got no response")
    counted = {}
    for labels, series in prometheus.range("sum by (code) (lb_requests_total)", story["start"] - 1, story["after"], SCRAPE):
        # The series of a code that first occurs during the load begins at 0.
        first = series[0][1] if series[0][0] <= story["start"] else 0
        counted[labels["code"]] = series[-1][1] - first
    counted = {code: count for code, count in counted.items() if count}
    found.check(counted == dict(story["answers"]), f"requests: counters have {counted}, clients {dict(story['answers'])}")
    print(f"       requests: {sum(story['answers'].values())} at clients, {sum(counted.values()):g} by the counter; {dict(story['answers'])}")

    sums = {}
    for _, series in ask("Share of requests"):
        for at, value in series:
            sums[at] = sums.get(at, 0) + value
    found.check(sums and all(abs(total - 1) < 1e-9 for total in sums.values()), f"shares sum to {sorted(sums.values())[:2]}")

    buckets = {}
    for labels, series in ask("Latency heatmap"):
        for at, value in series:
            buckets.setdefault(at, []).append((float(labels["le"]), value))
    grows = all(a[1] <= b[1] + 1e-6 for row in buckets.values() for a, b in zip(sorted(row), sorted(row)[1:]))
    found.check(buckets and grows, "heatmap: buckets do not grow with le")
    total = prometheus.instant('sum(lb_request_duration_seconds_bucket{le="+Inf"})', story["after"])[0][1][0][1]
    count = prometheus.instant("sum(lb_requests_total)", story["after"])[0][1][0][1]
    found.check(total == count, f"heatmap: {total} in the last bucket, {count} requests")

    health = {labels["backend"]: {value for _, value in series} for labels, series in ask("Health")}
    for backend in BACKENDS:
        wanted = {0, 1} if backend == VICTIM else {1}
        found.check(health.get(backend) == wanted, f"health of {backend}: {health.get(backend)}, not {wanted}")

    charge = {labels["strategy"]: series for labels, series in ask("Strategy in charge")}
    found.check(set(charge) == {"round_robin", "least_connections"}, f"strategies in charge: {sorted(charge)}")
    if len(charge) == 2:
        handed = charge["round_robin"][-1][0] < charge["least_connections"][0][0]
        found.check(handed, "two strategies in charge of one pool at once")
    for backend in BACKENDS:
        shares = [value for labels, series in ask("Share in slow start") if labels["backend"] == backend for _, value in series]
        least = min(shares, default=0)
        wanted = 0.1 <= least < 1 if backend == VICTIM else least == 1
        found.check(wanted, f"slow start: the least share of {backend} is {least}")
    most = {title: max((value for _, series in ask(title) for _, value in series), default=0)
            for title in ("Waiting requests", "Waits and refusals", "Mean wait", "Sticky sessions", "Adaptive limit")}
    # A wait of 2 ms may fall between all scrapes.
    missing = [title for title, value in most.items() if value == 0 and title != "Waiting requests"]
    found.check(not missing, f"these panels show only zeros: {missing}")
    print(f"       greatest values: {', '.join(f'{title} {value:.4g}' for title, value in most.items())}")
    in_flight = max(value for _, series in ask("Adaptive limit", "B") for _, value in series)
    found.check(in_flight <= len(BACKENDS), f"{in_flight} attempts are in flight on {len(BACKENDS)} backends with one place each")

    before = [value for _, series in ask("Fairness") for at, value in series if at < story["swap"]]
    found.check(before and min(before) > 0.99, f"round robin is not fair: {before[:3]}")


def rules(prometheus, found):
    groups = prometheus.get("rules")["groups"]
    each = [rule for group in groups for rule in group["rules"]]
    written = sum(len(re.findall(r"- (?:alert|record):", file.read_text())) for file in RULES)
    found.check(len(each) == written, f"{len(each)} rules are loaded, {written} are written")
    for rule in each:
        found.check(rule["health"] == "ok", f"rule {rule['name']}: {rule['health']} {rule.get('lastError', '')}")


def promtool(world, found):
    """Checks the files and a scrape with promtool."""
    tests = sorted((GRAFANA / "prometheus/tests").glob("*.yml"))
    for arguments, scrape in (
        (["check", "config", "--lint=all", "--lint-fatal", GRAFANA / "prometheus/prometheus.yml"], None),
        (["check", "rules", "--lint=all", "--lint-fatal", *RULES], None),
        (["test", "rules", *tests], None),
        (["check", "metrics"], world.metrics()),
    ):
        command = ["promtool", *map(str, arguments)]
        done = subprocess.run(command, input=scrape, capture_output=True, text=True, check=False)
        found.check(done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}")
        print(f"       promtool {arguments[0]} {arguments[1]}: exit code {done.returncode}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--lb", default=GRAFANA.parent / "target/debug/lb", help="the program lb; mock-server, loadgen and plugins must be in the same folder")
    arguments.add_argument("--dashboard", default=GRAFANA / "dashboards/lb.json", type=Path)
    arguments.add_argument("--seconds", default=40, type=float, help="duration of the load (default: 40)")
    given = arguments.parse_args()
    for program, how in (("prometheus", "apt-get install prometheus"), ("promtool", "apt-get install prometheus"),
                         (given.lb, "cargo build, or name it with --lb")):
        if not shutil.which(program):
            print(f"verify.py: {program} is missing: {how}", file=sys.stderr)
            return 2
    loadgen = Path(given.lb).resolve().parent / "loadgen"
    if not loadgen.exists():
        print(f"verify.py: {loadgen} is missing: cargo build", file=sys.stderr)
        return 2
    found = Findings()
    dashboard = Dashboard(given.dashboard, SCRAPE)
    world = World(given.lb, sections=SECTIONS)
    secret = world.folder / "secret"
    secret.touch(0o600)
    secret.write_text(subprocess.run([given.lb, "token"], capture_output=True, text=True, check=True).stdout)
    with world:
        story = drive(world, given.seconds)
        prometheus = Prometheus(world.prometheus)
        for judge in (panels, variables, annotations, figures):
            judge(dashboard, prometheus, story, found)
        rules(prometheus, found)
        promtool(world, found)
    replayed.judge(loadgen, given.dashboard, found)
    queries = sum(len(panel["targets"]) for panel in dashboard.panels())
    print(f"{len(list(dashboard.panels()))} panels with {queries} queries, {len(dashboard.variables())} variables, "
          f"{len(dashboard.annotations())} annotations: {found.right} checks right, {len(found.wrong)} wrong")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
