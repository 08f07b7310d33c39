"""The test stand of the measuring scripts: it starts lb, its peers, backends and loads, reads /proc, and ends all of them.

Every proxy has the same task: HTTP/1.1 from one port of loopback to given backends, keep-alive on both sides, one thread. All listen
on free ports and write into one temporary folder. A process ends with the `with` block, and by its parent's death signal at the latest.
"""

import ctypes
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DEADLINE = 30
PEERS = ("haproxy", "nginx")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)

LB = """[proxy]
listen = "127.0.0.1:0"
workers = {workers}
[admin]
listen = "127.0.0.1:0"
[strategy]
name = "round_robin"
[timeouts]
client_keep_alive_ms = 600000
[reload]
watch = false
[state]
keep = false
dir = "state"
{backends}{more}"""

HAPROXY = """global
  nbthread 1
  maxconn {connections}
  no strict-limits
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout http-keep-alive 600s
  option http-keep-alive
  option forwardfor
  http-reuse always
frontend f
  bind 127.0.0.1:{port} backlog 4096
  default_backend b
backend b
  balance roundrobin
{backends}"""

NGINX = """{user}worker_processes 1;
worker_rlimit_nofile {descriptors};
error_log nginx.err crit;
pid nginx.pid;
daemon off;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  upstream b {{ {backends} keepalive 512; keepalive_requests 100000000; }}
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  server {{
    listen 127.0.0.1:{port} reuseport backlog=4096;
    location / {{
      proxy_pass http://b; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"""


class CannotMeasure(Exception):
    """The world is not as the measurement needs it: exit code 2."""


class Stand:
    """Programs and a folder. `given` has what `add_options` adds."""

    def __init__(self, given):
        self.lb = given.lb[0] if isinstance(given.lb, list) else given.lb
        self.programs = {name: program(getattr(given, name) or name, f"--{name} PATH") for name in given.peers}
        self.backend, self.cpus = given.backend, (given.proxy_cpus, given.load_cpus)
        self.children = []

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="lb-measure-"))
        # so that `with` blocks end when the script is told to end
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
        self.descriptors = descriptors
        return self

    def __exit__(self, *failure):
        self.end_all()
        if failure[0]:
            for log in sorted(self.folder.glob("*.log")):
                lines = log.read_text(errors="replace").splitlines()[-5:]
                tell(*(f"{log.name}: {line}" for line in lines))
        shutil.rmtree(self.folder)

    def end_all(self):
        for child in reversed(self.children):
            end(child)
        self.children.clear()

    def spawn(self, name, command, cpus, **options):
        """A process on these CPUs that ends with the stand. Call it from the main thread: the death signal is sent when that ends."""
        def prepare():
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            os.sched_setaffinity(0, cpus)
        log = open(self.folder / f"{name}.log", "ab")
        child = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stderr=log, preexec_fn=prepare,
                                 cwd=self.folder, **{"stdout": log, **options})
        log.close()
        self.children.append(child)
        return child

    def backends(self, body_bytes, count=3):
        """Backends whose responses have so many bytes: their ports, and the path to ask for."""
        if self.backend:
            ports = free_ports(count)
            self.spawn("backend", [*self.backend.split(), body_bytes, *ports], self.cpus[1])
            for port in ports:
                wait_for(lambda port=port: responds(port), f"{self.backend} on port {port}")
            return ports, "/"
        return [self.mock(f"b{n}")[1] for n in range(count)], f"/stream?bytes={body_bytes}&chunk={min(max(body_bytes, 1), 65536)}&length=1"

    def mock(self, name, port=0):
        """A mock-server: its process and its port."""
        command = [beside(self.lb, "mock-server"), "--port", port, "--id", name, "--seed", "7"]
        ready = self.folder / f"{name}.ready"
        ready.unlink(missing_ok=True)
        child = self.spawn(name, [*command, "--ready-file", ready], self.cpus[1])
        told = wait_for(lambda: ready.exists() and ready.read_text(), f"mock-server {name}")
        return child, int(told.rsplit(":", 1)[1])

    def proxy(self, name, ports, *, lb=None, workers=1, more=""):
        """A proxy of this name, "haproxy", "nginx", or another for an lb, in front of these backends; it has responded once."""
        if name == "haproxy":
            return self._haproxy(ports)
        if name == "nginx":
            return self._nginx(ports)
        return self._lb(name, ports, lb or self.lb, workers, more)

    def _lb(self, name, ports, path, workers, more):
        backends = "".join(f'[[backends]]\nid = "b{n}"\naddress = "127.0.0.1:{port}"\n' for n, port in enumerate(ports))
        config, ready = self.folder / f"{name}.toml", self.folder / f"{name}.json"
        config.write_text(LB.format(workers=workers, backends=backends, more=more))
        ready.unlink(missing_ok=True)
        child = self.spawn(name, [path, "--config", config, "--ready-file", ready], self.cpus[0])
        told = json.loads(wait_for(lambda: ready.exists() and ready.read_text(), f"{name} to be ready", child))
        # a reload judges plugins in a child process, which is not the proxy
        return self._responding(Proxy(name, child, port_of(told["proxy"][0]), with_children=False, admin=port_of(told["admin"])))

    def _haproxy(self, ports):
        port, = free_ports(1)
        backends = "".join(f"  server s{n} 127.0.0.1:{one} pool-max-conn 512\n" for n, one in enumerate(ports))
        config = self.folder / "haproxy.cfg"
        config.write_text(HAPROXY.format(connections=self.descriptors - 500, port=port, backends=backends))
        child = self.spawn("haproxy", [self.programs["haproxy"], "-q", "-db", "-f", config], self.cpus[0])
        return self._responding(Proxy("haproxy", child, port, with_children=False))

    def _nginx(self, ports):
        port, = free_ports(1)
        backends = " ".join(f"server 127.0.0.1:{one};" for one in ports)
        config = self.folder / "nginx.conf"
        user = "user root;\n" if os.geteuid() == 0 else ""
        config.write_text(NGINX.format(user=user, descriptors=self.descriptors, connections=self.descriptors, port=port, backends=backends))
        child = self.spawn("nginx", [self.programs["nginx"], "-p", self.folder, "-c", config], self.cpus[0])
        return self._responding(Proxy("nginx", child, port, with_children=True))

    def _responding(self, proxy):
        wait_for(lambda: responds(proxy.port), f"{proxy.name} on port {proxy.port}", proxy.child)
        return proxy


class Proxy:
    """A proxy that runs, and what /proc tells of it."""

    def __init__(self, name, child, port, *, with_children, admin=None):
        self.name, self.child, self.port, self.admin, self.with_children = name, child, port, admin, with_children

    def pids(self):
        return tree(self.child.pid) if self.with_children else [self.child.pid]

    def rss(self):
        """Resident bytes."""
        return sum(status(pid, "VmRSS") for pid in self.pids())

    def peak(self):
        """The most resident bytes since `forget_peak`."""
        return sum(status(pid, "VmHWM") for pid in self.pids())

    def forget_peak(self):
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def cpu(self):
        """User and system seconds of all threads so far. Their sum is exact to a tick, the split is sampled at ticks."""
        user = system = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            user, system = user + int(fields[11]), system + int(fields[12])
        return user / TICKS_PER_SECOND, system / TICKS_PER_SECOND

    def has_ended(self):
        return self.child.poll() is not None


def add_options(parser, peers):
    """The options that all scripts have."""
    target = Path(__file__).resolve().parents[3] / "target/release/lb"
    group = parser.add_argument_group("programs")
    group.add_argument("--lb", action="append", metavar="PATH",
                       help="the lb to measure; mock-server, loadgen and the plugins lie beside it (default: target/release/lb)")
    for name in PEERS:
        group.add_argument(f"--{name}", metavar="PATH", help=f"{name} (default: the one on PATH)")
    group.add_argument("--peers", default=peers, type=names_of, metavar="NAMES",
                       help=f"what to measure beside lb, of haproxy and nginx, with commas; '' for none (default: {','.join(peers)})")
    group.add_argument("--backend", metavar="CMD",
                       help="a backend, run as CMD BODY_BYTES PORT...; it sends a response of so many bytes to every request. "
                            "Default: mock-server. A faster one leaves the load more of its CPU, so the figures are clearer")
    group.add_argument("--proxy-cpus", default={0}, type=cpus_of, metavar="LIST", help="CPUs of the proxies (default: 0)")
    group.add_argument("--load-cpus", default={1}, type=cpus_of, metavar="LIST", help="CPUs of load and backends (default: 1)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to this file")
    parser.set_defaults(default_lb=target)


def check_options(given):
    """Fills in what depends on the machine."""
    given.lb = [program(path, "cargo build --release --workspace, or name it with --lb") for path in given.lb or [given.default_lb]]
    missing = (given.proxy_cpus | given.load_cpus) - os.sched_getaffinity(0)
    if missing:
        raise CannotMeasure(f"this machine has no CPU {sorted(missing)} for us: see --proxy-cpus, --load-cpus")
    os.sched_setaffinity(0, given.load_cpus)


def names_of(text):
    names = [name for name in text.split(",") if name]
    for name in set(names) - set(PEERS):
        raise ValueError(name)
    return names


def cpus_of(text):
    return {int(one) for one in text.split(",")}


def program(path, remedy):
    found = shutil.which(path)
    if not found:
        raise CannotMeasure(f"{path} is no program: {remedy}")
    return str(Path(found).resolve())


def beside(lb, name):
    return program(Path(lb).parent / name, "it has to lie beside lb")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def port_of(address):
    return int(address.rsplit(":", 1)[1])


def responds(port):
    """Whether a request to this port gets a 200 or 404, with its connection closed behind it."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"GET /heartbeat HTTP/1.1\r\nhost: measure\r\nconnection: close\r\n\r\n")
            return connection.recv(12) in (b"HTTP/1.1 200", b"HTTP/1.1 404")
    except OSError:
        return False


def wait_for(happened, what, child=None):
    until = time.monotonic() + DEADLINE
    while not (result := happened()):
        if child and child.poll() is not None:
            raise CannotMeasure(f"waited for {what}: it ended with exit code {child.returncode}")
        if time.monotonic() > until:
            raise CannotMeasure(f"waited {DEADLINE} s for {what}")
        time.sleep(0.02)
    return result


def end(child):
    """Ends a process and its descendants."""
    if child.poll() is not None:
        return
    for pid in reversed(tree(child.pid)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    child.wait()


def tree(pid):
    """The process and its descendants."""
    children = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = int(Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue  # it has ended meanwhile
        children.setdefault(parent, []).append(int(entry))
    found, rest = [], [pid]
    while rest:
        found.append(rest.pop())
        rest += children.get(found[-1], [])
    return found


def status(pid, key):
    """A size of /proc/PID/status in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise CannotMeasure(f"process {pid} has ended: no {key} in its status")


def tell(*lines):
    """Progress."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)
