"""The load for measurements of time: one run of `loadgen run` or wrk on the load's CPUs, and its counts."""

import json
import re
import subprocess
from os import sched_setaffinity

from processes import CannotMeasure
from stand import beside, program

# loadgen's exit code for a run that is not valid
DOUBTED = 1
WRK_ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")


def loadgen(stand, port, path, connections, seconds, rate=None, warm_up=0):
    """Runs a closed loop, or an open loop at `rate`. Returns requests with a good response, percentiles in ms, and doubts."""
    command = [beside(stand.lb, "loadgen"), "run", "--json", "--quiet", "--connections", str(connections), "--duration", f"{seconds}s"]
    command += ["--warm-up", f"{warm_up}s"] if warm_up else []
    command += ["--rate", str(rate)] if rate else []
    done = run(stand, [*command, f"http://127.0.0.1:{port}{path}"], seconds + warm_up)
    if done.returncode not in (0, DOUBTED):
        raise CannotMeasure(f"loadgen: {done.stderr.strip()}")
    told = json.loads(done.stdout)
    if told["answered"] != told["ok"] or told["errors"]:
        raise CannotMeasure(f"of {told['sent']:,} requests {told['ok']:,} succeeded, errors {told['errors']}")
    doubts = told["doubts"] + [f"{told['unsent']:,} of {told['due']:,} requests could not be sent"] * bool(told["unsent"])
    percentiles = told["latency_ms"]["percentiles"]
    return {"requests": told["ok"], "p50": percentiles["p50"], "p99": percentiles["p99"], "doubts": doubts}


def wrk(stand, port, path, connections, seconds):
    """The same with wrk, as a closed loop."""
    command = [program("wrk", "apt-get install wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", f"http://127.0.0.1:{port}{path}"]
    told = run(stand, command, seconds).stdout
    errors = WRK_ERRORS.search(told)
    if "Non-2xx" in told or errors:
        raise CannotMeasure(f"wrk: {told.strip()}")
    return {"requests": int(re.search(r"(\d+) requests in", told)[1]), "doubts": []}


def run(stand, command, seconds):
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60,
                          preexec_fn=lambda: sched_setaffinity(0, stand.cpus[1]))
