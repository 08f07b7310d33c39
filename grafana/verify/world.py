"""The programs behind the dashboard: an lb with three mock servers under load, and a Prometheus that scrapes it.

Every program listens on a free port, keeps its files in one temporary folder, and ends with the `with` block.
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path

GRAFANA = Path(__file__).resolve().parent.parent
BACKENDS = ("blue", "green", "b.3 old")
DEADLINE = 30


class World:
    """`service` has the options of the mock servers. `strategy` is the table of that name in lb's configuration, and
    `sections` are further ones, as TOML. `data` is a folder for the data of Prometheus that stays after the end."""

    def __init__(self, lb, *, backends=BACKENDS, service=("--service-time", "exponential:2ms"), strategy="", sections="",
                 scrape_seconds=1, data=None):
        self.lb = Path(lb).resolve()
        self.backends, self.service = backends, service
        self.strategy, self.sections, self.scrape_seconds = strategy, sections, scrape_seconds
        self.folder = Path(tempfile.mkdtemp(prefix="lb-verify-"))
        self.data = data or self.folder / "data"
        self.children = {}

    def __enter__(self):
        try:
            return self._start()
        except BaseException as failure:
            self.__exit__(failure)
            raise

    def __exit__(self, failure=None, *_):
        for child in reversed(self.children.values()):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.children.values():
            try:
                child.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if failure:
            for log in sorted(self.folder.glob("*.log")):
                print(f"--- the end of {log.name}", *log.read_text().splitlines()[-8:], sep="\n", file=sys.stderr)
        shutil.rmtree(self.folder)

    def _start(self):
        ports = {name: self._mock(name) for name in self.backends}
        self.config = self.folder / "lb.toml"
        self.write_config({name: 1 for name in ports}, ports)
        self.ports = ports
        ready = self.folder / "ready.json"
        self.spawn("lb", [self.lb, "--config", self.config, "--ready-file", ready])
        told = json.loads(wait_for(lambda: ready.exists() and ready.read_text(), "lb to be ready"))
        self.proxy, self.admin = told["proxy"][0], told["admin"]
        wait_for(lambda: self.metrics().count("\nlb_backend_up{") == len(self.backends), "the first scrape")
        wait_for(lambda: len(re.findall(r"^lb_backend_up.* 1$", self.metrics(), re.M)) == len(self.backends), "healthy backends")
        self.prometheus = self._prometheus()
        return self

    def write_config(self, weights, ports):
        lines = [
            '[proxy]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n[launcher]\nkind = "none"',
            # Faster than the default, so that a killed server is down within a second.
            "[health]\ninterval_ms = 250\n[reload]\nwatch = false",
            f"[state]\ndir = {json.dumps(str(self.folder / 'state'))}",
            f"[strategy]\n{self.strategy}",
            self.sections,
        ]
        for name, port in ports.items():
            lines.append(f'[[backends]]\nid = {json.dumps(name)}\naddress = "127.0.0.1:{port}"\nweight = {weights[name]}')
        beside = self.config.with_suffix(".new")
        beside.write_text("\n".join(lines) + "\n")
        beside.rename(self.config)

    def reload(self, *arguments):
        """Returns the time of the response, and the report of the reload."""
        command = [self.lb, "reload", "--config", self.config, "--admin-listen", self.admin, "--json", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
        answered = time.time()
        if done.returncode != 0:
            raise RuntimeError(f"lb reload: {done.stdout}{done.stderr}")
        return answered, json.loads(done.stdout)

    def kill(self, name):
        self.children[name].kill()
        self.children[name].wait()

    def revive(self, name):
        self._mock(name, self.ports[name])

    def spawn(self, name, command, **options):
        """Starts a process, which ends with the `with` block at the latest."""
        log = open(self.folder / f"{name}.log", "ab")
        environment = {**os.environ, "XDG_STATE_HOME": str(self.folder)}
        self.children[name] = subprocess.Popen([str(part) for part in command], stderr=log, env=environment,
                                               **{"stdout": log, **options})
        return self.children[name]

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=DEADLINE) as response:
            return response.read().decode()

    def _mock(self, name, port=0):
        mock = self.spawn(name, [self.lb.parent / "mock-server", "--port", port, "--id", name,
                                 *self.service, "--seed", "7"], stdout=subprocess.PIPE, text=True)
        return int(re.search(r"listening on \S+:(\d+)", mock.stdout.readline())[1])

    def _rules(self):
        """A copy of the rules in which alerts fire at once, without their waiting time."""
        rules = self.folder / "rules"
        rules.mkdir()
        for source in (GRAFANA / "prometheus/rules").glob("*.yml"):
            (rules / source.name).write_text(re.sub(r"(?m)^( +for:) .*$", r"\1 0s", source.read_text()))
        return str(rules / "*.yml")

    def _prometheus(self):
        scrape = {
            "global": {"scrape_interval": f"{self.scrape_seconds}s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [self._rules()],
            "scrape_configs": [{"job_name": "lb", "static_configs": [{"targets": [self.admin]}]}],
        }
        config = self.folder / "prometheus.yml"
        config.write_text(json.dumps(scrape))  # JSON is YAML
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.spawn("prometheus", ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.data}",
                                  f"--web.listen-address={address}"])

        def scraped():
            try:
                with urllib.request.urlopen(f"http://{address}/api/v1/query?query=lb_build_info") as response:
                    return json.load(response)["data"]["result"]
            except OSError:
                return None

        wait_for(scraped, "the first scrape of Prometheus")
        return address


class Load:
    """Clients that send requests in a closed loop and count the responses. `pause` is in seconds."""

    def __init__(self, address, clients=4, pause=0.005):
        self.address, self.pause, self.answers, self.lost = address, pause, Counter(), 0
        self.stopping, self.lock = threading.Event(), threading.Lock()
        self.threads = [threading.Thread(target=self._client, args=(n,)) for n in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def _client(self, number):
        mine, lost, sent, connection = Counter(), 0, number, None
        while not self.stopping.wait(self.pause):
            # A new connection from time to time, so that connections open and close.
            if connection is None or sent % 50 == 0:
                connection = http.client.HTTPConnection(self.address, timeout=DEADLINE)
            method, path, body = "GET", "/home", None
            if sent % 10 == 3:
                method, path, body = "POST", "/upload", b"x" * 100
            elif sent % 97 == 5:
                path = "/status/503"
            elif sent % 31 == 5:
                path = "/status/404"
            sent += 1
            try:
                connection.request(method, path, body)
                response = connection.getresponse()
                response.read()
                mine[str(response.status)] += 1
            except (OSError, http.client.HTTPException):
                lost, connection = lost + 1, None
        with self.lock:
            self.answers += mine
            self.lost += lost


def wait_for(happened, what):
    until = time.monotonic() + DEADLINE
    while not (result := happened()):
        if time.monotonic() > until:
            raise TimeoutError(f"waited {DEADLINE} s for {what}")
        time.sleep(0.05)
    return result
