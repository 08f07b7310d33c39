#!/usr/bin/env python3
"""Instructions that lb executes per request in user space, compared with the figures in instructions.json: a ratchet.

    cargo build --release
    lb/benches/measure/instructions.py               compare with instructions.json
    lb/benches/measure/instructions.py --update      rewrite instructions.json

It needs Python 3.11, valgrind and about 40 s. valgrind's tool callgrind counts the instructions of every function of lb. 64 keep-alive
connections of `loadgen run` send GET requests; a mock-server sends responses with 100-byte bodies. The figure is the difference of two
runs with different numbers of requests, divided by the difference of requests. So the cost of start, connections and stop cancels.

There are two configurations. `shipped` is config/lb.toml; `logged` is the same with request ids and the JSON access log in a file. Both
differ from config/lb.toml in these points: free ports; one worker, so that the figure does not depend on the number of cores; one backend
that lb does not launch; no health checks and no watching of files, because their cost is per second and not per request.

The figures depend on lb, the compiler, the C library and valgrind. They do not depend on the load or the speed of the machine: callgrind
counts instructions, and it shows every program the same processor (AVX2 at most). Under valgrind, lb is always slower than load and
backend, so all its connections are ready. It waits in epoll a few times per hundred requests, also on a busy machine. Six runs of one
binary differed by 0.3 %; in one of them all processes ran on one CPU, and during another, two endless loops ran. If runs of one binary
differ by more, lb's work depends on its history. (Once they differed by 7 %: a pool returned buffers without memory, which had to grow.)

If a total is more than 3 % above its record, the check fails and prints the functions whose own cost grew most. If a total is more than
3 % below, record it with --update, so that later runs are compared with it.

Exit code 0: no total is above its limit. 1: one is. 2: it could not be measured.
"""

import argparse
import ctypes
import http.client
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FIGURES = Path(__file__).with_suffix(".json")
# Above and below the recorded total, in percent.
TOLERANCE = 3
REQUESTS = (10_000, 50_000)
CONNECTIONS = 64
BODY_BYTES = 100
# Functions that are recorded per configuration, and functions in a table of those that grew.
RECORDED, SHOWN = 60, 15
# Deadlines in seconds. Under valgrind lb starts in 1.5 s on a quiet machine and serves 6,000 requests a second.
START, LOAD = 180, 900
PR_SET_PDEATHSIG = 1

COMMON = ('proxy.listen="127.0.0.1:0"', 'admin.listen="127.0.0.1:0"', "proxy.workers=1", 'launcher.kind="none"',
          "health.enabled=false", "reload.watch=false")
LOG = "access.log"
CONFIGURATIONS = {
    "shipped": (),
    "logged": ("proxy.request_id=true", "access_log.enabled=true"),
}


class CannotMeasure(Exception):
    """The message says why, and what to do."""


class Stand:
    """Processes in one temporary folder. They end with the `with` block; if this script is killed, the death signal ends them."""

    def __init__(self, bin_dir):
        self.programs = {name: Path(bin_dir).resolve() / name for name in ("lb", "mock-server", "loadgen")}
        self.children = []

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="lb-instructions-"))
        return self

    def __exit__(self, *_):
        for child in self.children:
            child.terminate()
        for child in self.children:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.folder)

    def spawn(self, name, command):
        """Starts a process and waits for its ready file. Returns the process and the file's text."""
        ready = self.folder / f"{name}.ready"
        log = self.folder / f"{name}.log"
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("LB_", "MOCK_SERVER_"))}
        with open(log, "wb") as output:
            child = subprocess.Popen([*map(str, command), "--ready-file", str(ready)], stdin=subprocess.DEVNULL, stdout=output,
                                     stderr=output, cwd=self.folder, env=environment, preexec_fn=end_with_parent)
        self.children.append(child)
        until = time.monotonic() + START
        while not (ready.exists() and ready.read_text()):
            if child.poll() is not None or time.monotonic() > until:
                end = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
                raise CannotMeasure(f"{name} did not become ready (status {child.poll()}):\n{end}")
            time.sleep(0.05)
        return child, ready.read_text().strip()

    def stop(self, child):
        child.terminate()
        try:
            status = child.wait(START)
        except subprocess.TimeoutExpired:
            raise CannotMeasure(f"lb did not end within {START} s of SIGTERM") from None
        if status != 0:
            raise CannotMeasure(f"lb ended with status {status}")
        self.children.remove(child)


def end_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def tell(*lines):
    print(*lines, sep="\n", file=sys.stderr, flush=True)


# === measuring ===

def backend(stand):
    """Starts a mock-server whose responses have BODY_BYTES. Returns its address."""
    around = len('{"message":"Hello from Server: ","status":"successful"}')
    _, address = stand.spawn("mock-server", [stand.programs["mock-server"], "--port", 0, "--id", "b1", "--seed", 7,
                                             "--home-id", "x" * (BODY_BYTES - around)])
    connection = http.client.HTTPConnection(address, timeout=START)
    connection.request("GET", "/home")
    size = len(connection.getresponse().read())
    connection.close()
    if size != BODY_BYTES:
        raise CannotMeasure(f"mock-server's /home has {size} bytes, not {BODY_BYTES}: adapt backend() to it")
    return address


def per_request(stand, name, address, keep):
    """Own cost of each function per request, in instructions."""
    # Both paths are absolute, because lb resolves relative ones in the folder of its configuration.
    settings = [*COMMON, f"state.dir={json.dumps(str(stand.folder / 'state'))}", f"access_log.path={json.dumps(str(stand.folder / LOG))}",
                f'backends=[{{id="b1",address="{address}"}}]', *CONFIGURATIONS[name]]
    command = [stand.programs["lb"], "--config", ROOT / "config/lb.toml", *(word for one in settings for word in ("--set", one))]
    # The child that tries a new plugin cannot run under valgrind. Its verdict is kept in the state folder.
    child, _ = stand.spawn(f"{name}-natively", command)
    stand.stop(child)
    few, many = (run(stand, name, command, requests, keep) for requests in REQUESTS)
    return Counter({function: (many[function] - few[function]) / (REQUESTS[1] - REQUESTS[0]) for function in many.keys() | few.keys()})


def run(stand, name, command, requests, keep):
    """Runs lb under callgrind for this number of requests. Returns the own cost of each function."""
    began = time.monotonic()
    out = stand.folder / f"{name}-{requests}.callgrind"
    log = stand.folder / LOG
    log.unlink(missing_ok=True)
    valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--vgdb=no"]
    child, told = stand.spawn(f"{name}-{requests}", [*valgrind, *command])
    load(stand, json.loads(told)["proxy"][0], requests)
    stand.stop(child)
    lines = log.read_bytes().count(b"\n") if log.exists() else 0
    if lines != (requests if name == "logged" else 0):
        raise CannotMeasure(f"{name}: {lines:,} lines in the access log after {requests:,} requests; is the machine too busy?")
    if keep:
        shutil.copy(out, keep)
    tell(f"{name}: {requests:,} requests under callgrind in {time.monotonic() - began:.0f} s")
    return own_costs(out)


def load(stand, proxy, requests):
    command = [stand.programs["loadgen"], "run", "--json", "--quiet", "-n", requests, "-c", CONNECTIONS, f"http://{proxy}/home"]
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=LOAD, check=False,
                              preexec_fn=end_with_parent)
        ok = json.loads(done.stdout)["ok"]
    except subprocess.TimeoutExpired:
        raise CannotMeasure(f"{requests:,} requests took longer than {LOAD} s") from None
    except ValueError:
        raise CannotMeasure(f"loadgen ended with status {done.returncode}: {done.stderr.strip()}") from None
    if ok != requests:
        raise CannotMeasure(f"of {requests:,} requests {ok:,} succeeded: {done.stdout}")


# === callgrind's output ===

def own_costs(path):
    """Own cost of each function by name. The format: https://valgrind.org/docs/manual/cl-format.html"""
    costs, names, files = Counter(), {}, {}
    function = file = total = None
    is_inclusive = False
    for line in path.read_text(errors="replace").splitlines():
        if line[:1] in "+-*0123456789" and line:
            # The line after calls= has the cost of the called function, which is counted there.
            if not is_inclusive:
                costs[function] += int(line.split()[1])
            is_inclusive = False
        elif line.startswith("calls="):
            is_inclusive = True
        elif found := re.match(r"(c?ob|c?fn)=\((\d+)\)(?: (.*))?", line):
            kind, number, text = found.groups()
            known = names if kind.endswith("fn") else files
            if text:
                known[number] = text
            if kind == "ob":
                file = Path(known[number]).name
            elif kind == "fn":
                function = plain_name(names[number], file)
        elif line.startswith("totals:"):
            total = int(line.split()[1])
    if total != sum(costs.values()):
        raise CannotMeasure(f"all functions cost {sum(costs.values()):,}, but callgrind's total is {total}: is its format new?")
    if not any(name.startswith("lb::") for name in costs):
        raise CannotMeasure("lb has no function names: build it with the profile release of Cargo.toml, which keeps them")
    return costs


def plain_name(name, file):
    """The name without hashes, symbol versions, generic arguments and copies, which differ between builds. Without a name: the file."""
    name = re.sub(r"'\d+$", "", name)
    if re.match(r"0x[0-9a-f]+$|\?\?\?$|\(below main\)", name):
        return f"({file})"
    name = re.sub(r"(::h[0-9a-f]{16}|@@?[A-Za-z_]+[0-9.]+|\.(constprop|isra|part|cold|llvm)(\.\d+)*)+$", "", name)
    name = re.sub(r"\[[0-9a-f]{8,16}\]", "", name)
    # For drop_in_place, the dropped type stays, without its own arguments.
    if found := re.fullmatch(r"(core::ptr::drop_in_place)(?:::)?<(.*)>", name):
        return f"{found[1]}<{plain_name(found[2], file)}>"
    name = without_arguments(name)
    # A method of a type is written in two ways; this makes them equal.
    return re.sub(r"^<([^<>]*)>(?=::)", lambda type_: type_[0] if " as " in type_[1] else type_[1], name)


def without_arguments(name):
    """Keeps `<X as Trait>` and `<impl …>`; removes the brackets of `Type<…>` and `function::<…>`."""
    kept, at = [], 0
    while at < len(name):
        if name[at] != "<":
            kept.append(name[at])
            at += 1
            continue
        end, inner = closing(name, at), name[at + 1:closing(name, at)]
        is_path = not kept or not (kept[-1].isalnum() or kept[-1] in "_:>")
        if is_path or inner.startswith("impl ") or " as " in without_arguments(inner):
            kept.append(f"<{without_arguments(inner)}>")
        at = end + 1
    return re.sub(r"(::)+(?=::|$|>)", "", "".join(kept))


def closing(name, at):
    depth = 0
    for place in range(at, len(name)):
        depth += (name[place] == "<") - (name[place] == ">" and name[place - 1] != "-")
        if depth == 0:
            return place
    return len(name)


# === judging ===

def toolchain(lb):
    """The tools on which the figures depend, besides lb's source."""
    compilers = {one.decode() for one in re.findall(rb"rustc version ([0-9][\w.-]*(?: \([\w -]+\))?)", lb.read_bytes())}
    valgrind = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return {"rustc": ", ".join(sorted(compilers)) or "unknown", "valgrind": valgrind.removeprefix("valgrind-"),
            "libc": " ".join(platform.libc_ver()), "machine": platform.machine()}


def entry(costs):
    """The record of a configuration."""
    return {"total": round(costs.total()), "functions": {name: round(cost, 1) for name, cost in costs.most_common(RECORDED)}}


def judge(costs, recorded):
    """Compares a configuration with its record: the verdict, and the functions that grew, greatest growth first."""
    total, before = costs.total(), recorded["total"]
    percent = 100 * (total / before - 1)
    known = recorded["functions"]
    # A function without a record cost at most this much.
    most = min(known.values())
    grown = [{"function": name, "now": round(cost, 1), "recorded": known.get(name), "growth": round(cost - known.get(name, most), 1)}
             for name, cost in costs.items()]
    grown = sorted((one for one in grown if one["growth"] >= 1), key=lambda one: -one["growth"])[:SHOWN]
    verdict = "worse" if percent > TOLERANCE else "better" if percent < -TOLERANCE else "same"
    return {**entry(costs), "recorded_total": before, "percent": round(percent, 2), "verdict": verdict, "grown": grown,
            "recorded_at_most_if_missing": most}


def show(name, result):
    remark = {"worse": f"above the limit of +{TOLERANCE} %", "same": "as recorded",
              "better": "better; record it with --update"}[result["verdict"]]
    print(f"{name}: {result['total']:,} instructions per request, recorded {result['recorded_total']:,} "
          f"({result['percent']:+.1f} %): {remark}")
    if result["verdict"] != "worse":
        return
    print(f"  functions by growth of their own cost, in instructions per request:\n  {'growth':>9} {'now':>9} {'recorded':>9}")
    for one in result["grown"]:
        before = f"{one['recorded']:,.1f}" if one["recorded"] is not None else f"≤ {result['recorded_at_most_if_missing']:,.1f}"
        print(f"  {one['growth']:>+9,.1f} {one['now']:>9,.1f} {before:>9}  {one['function']}")


def differences(tools, recorded):
    return [f"recorded with {name} {recorded[name]}, this is {tools[name]}: this may explain a difference"
            for name in tools if tools[name] != recorded.get(name)]


# === the command ===

def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin-dir", default=ROOT / "target/release", type=Path, metavar="DIR",
                        help="the folder of lb, mock-server, loadgen and the plugins (default: target/release)")
    parser.add_argument("--update", action="store_true", help="measure, and write the figures instead of comparing with them")
    parser.add_argument("--figures", default=FIGURES, type=Path, metavar="FILE", help="(default: instructions.json beside this script)")
    parser.add_argument("--only", choices=CONFIGURATIONS, help="measure this configuration alone")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="copy callgrind's files to DIR, for callgrind_annotate or KCachegrind")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def main():
    parser = options()
    given = parser.parse_args()
    if given.update and given.only:
        parser.error("--update writes all configurations; leave out --only")
    # so that SIGTERM ends the processes, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    try:
        return measure(given)
    except (CannotMeasure, OSError, http.client.HTTPException, subprocess.SubprocessError) as failure:
        tell(f"instructions.py: {failure}")
    except KeyboardInterrupt:
        tell("instructions.py: interrupted")
    return 2


def measure(given):
    if not shutil.which("valgrind"):
        raise CannotMeasure("valgrind is missing: apt-get install valgrind")
    record = {"configurations": {}} if given.update else read(given.figures)
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    with Stand(given.bin_dir) as stand:
        for program in stand.programs.values():
            if not shutil.which(program):
                raise CannotMeasure(f"{program} is missing: run cargo build --release, or give its folder with --bin-dir")
        tools = toolchain(stand.programs["lb"])
        if record.get("recorded_with", tools)["machine"] != tools["machine"]:
            raise CannotMeasure(f"the figures are of {record['recorded_with']['machine']}, this is {tools['machine']}")
        address = backend(stand)
        costs = {name: per_request(stand, name, address, given.keep) for name in CONFIGURATIONS if given.only in (None, name)}
    if given.update:
        record = {"recorded_with": tools, "configurations": {name: entry(one) for name, one in costs.items()}}
        given.figures.write_text(json.dumps(record, indent=2) + "\n")
        print(*(f"{name}: {one['total']:,} instructions per request" for name, one in record["configurations"].items()),
              f"written to {given.figures}", sep="\n")
        return 0
    return compare(costs, record, tools, given.json)


def read(figures):
    try:
        record = json.loads(figures.read_text())
        missing = CONFIGURATIONS.keys() - record["configurations"].keys() or {"recorded_with"} - record.keys()
    except (OSError, ValueError, KeyError) as failure:
        raise CannotMeasure(f"{figures} cannot be read ({failure}): write it with --update") from None
    if missing:
        raise CannotMeasure(f"{figures} lacks {', '.join(sorted(missing))}: write it with --update")
    return record


def compare(costs, record, tools, as_json):
    results = {name: judge(one, record["configurations"][name]) for name, one in costs.items()}
    notes = differences(tools, record["recorded_with"])
    if as_json:
        print(json.dumps({"configurations": results, "tools": tools, "recorded_with": record["recorded_with"]}, indent=2))
    else:
        for name, result in results.items():
            show(name, result)
        print(*notes, sep="\n", end="\n" if notes else "")
    if not any(result["verdict"] == "worse" for result in results.values()):
        return 0
    if not as_json:
        print("If the cost is justified: run lb/benches/measure/instructions.py --update, and give the reason in the commit.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
