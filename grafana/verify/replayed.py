"""A small experiment of loadgen, shown by grafana/replay: the queries of the dashboard return the counts of loadgen."""

import json
import re
import socket
import subprocess
import tempfile
from datetime import datetime
from pathlib import Path

from dashboard import Dashboard, Prometheus
from world import GRAFANA

# loadgen records a scrape each second.
STEP = 1
ARMS = ("round_robin", "least_connections")
PLAN = """
[load]
loop = "open"
arrivals = "poisson"
rate_rps = 400
warm_up = "500ms"
duration = "2500ms"
""" + "".join(f'[[arms]]\nstrategy = "{arm}"\n' for arm in ARMS)
# Queries that may be empty, because there were no errors or too few events in a few seconds, or because loadgen switches
# the queue and sessions off.
MAY_BE_EMPTY = re.compile(r"ALERTS|lb_retries|lb_sessions|queue_wait|queue_adaptive|errors|reload_duration|take_up|connect_seconds|pick_seconds|lb_shadow")


class Replay:
    """The program grafana/replay while it shows a run."""

    def __init__(self, loadgen, run):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        command = [GRAFANA / "replay", "--loadgen", loadgen, "--listen", self.address, run]
        self.process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        told = ""
        while "Ctrl-C" not in told:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"grafana/replay ended: {told}")
            told += line
        times = re.search(r"^from, to +(\S+), (\S+)$", told, re.M)
        self.start, self.end = (datetime.fromisoformat(time).timestamp() for time in times.groups())
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.ended = self.process.wait(30)


def judge(loadgen, dashboard_path, found):
    with tempfile.TemporaryDirectory(prefix="lb-verify-") as folder:
        run = Path(folder) / "run"
        plan = Path(folder) / "plan.toml"
        plan.write_text(PLAN)
        command = [loadgen, "experiment", "--plan", plan, "--seed", "7", "--quiet", "--out", run]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, check=False)
        # On a busy machine, loadgen may report a late generator. Its counts are right all the same.
        is_late = done.returncode == 1 and "not to be believed (generator)" in done.stderr
        if done.returncode != 0 and not is_late:
            raise RuntimeError(f"loadgen: {done.stdout}{done.stderr}")
        counted = sum(stretch["client"] for stretch in json.loads((run / "results.json").read_text())["accounting"])
        size = (run / "scrapes/recording.txt.gz").stat().st_size
        with Replay(loadgen, run) as replay:
            _queries(Dashboard(dashboard_path, STEP), Prometheus(replay.address), replay, counted, found)
        found.check(replay.ended == 0, f"replay: grafana/replay ended with {replay.ended}")
        found.check(not list(Path(folder).glob("*/*.part")), "replay: a partial recording is left")
        print(f"       replay: {counted} requests at the client, {replay.end - replay.start:.1f} s of scrapes in {size} bytes")


def _queries(dashboard, prometheus, replay, counted, found):
    start, end = replay.start, replay.end
    # Slightly later, because the times are rounded.
    first, last = (prometheus.instant("sum(lb_requests_total)", at + 0.05)[0][1][0][1] for at in (start, end))
    found.check(last - first == counted, f"replay: {first} requests at first, {last} at last, {counted} at the client")

    # At the times of the scrapes, because evenly spaced steps would miss the last one.
    scrapes = prometheus.get("query", query=f"up[{end - start + 1:.0f}s]", time=end)["result"][0]["values"]
    shares = next(panel for panel in dashboard.panels() if panel["title"] == "Share of requests")["targets"][0]["expr"]
    sums = [sum(value for _, [(_, value)] in prometheus.instant(dashboard.fill(shares, {}, start, end, STEP), at)) for at, _ in scrapes[1:]]
    found.check(sums and all(abs(one - 1) < 1e-9 for one in sums), f"replay: shares sum to {sums}")

    swap = next(one for one in dashboard.annotations() if one["name"] == "Strategy swap")
    # Grafana queries at the times of its steps, so the range is one step longer.
    answer = prometheus.range(dashboard.fill(swap["expr"], {}, start, end + STEP, STEP), start, end + STEP, STEP)
    marks = {value / 1000 for _, series in answer for _, value in series}
    found.check(len(marks) == 1, f"replay: marks of swaps at {marks}, expected 1")
    found.check(all(start < mark < end for mark in marks), f"replay: the swap's mark {marks} is not in {start} to {end}")

    charge = {labels["strategy"] for labels, _ in prometheus.range("lb_strategy_info", start, end + STEP, STEP)}
    found.check(charge == set(ARMS), f"replay: active strategies were {charge}")
    last = prometheus.instant("lb_strategy_info", end + STEP + 0.5)
    found.check([labels["strategy"] for labels, _ in last] == [ARMS[1]], f"replay: at the end {last}: a series that ended is still there")

    for panel in dashboard.panels():
        for target in panel["targets"]:
            # Without a filter that hides zeros, because in these seconds all values may be zero.
            query = dashboard.fill(target["expr"].removesuffix(" > 0"), {}, start, end, STEP)
            answer = prometheus.instant(query, end) if target["instant"] else prometheus.range(query, start, end + STEP, STEP)
            found.check(answer or MAY_BE_EMPTY.search(query), f"replay: {panel['title']}/{target['refId']}: no data: {query}")
