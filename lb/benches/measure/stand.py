"""The test stand of the measuring scripts: the options that they share, and all processes that they start.

All processes listen on free ports and write into one temporary folder. They end with the `with` block. If the script is killed, the
parent's death signal ends them.
"""

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import proxies
from processes import CannotMeasure, end, free_ports, responds, tell, wait_for

PEERS = ("haproxy", "nginx")
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Stand:
    """Programs and a folder. `given` has the options of `add_options`."""

    def __init__(self, given):
        self.lb = given.lb[0] if isinstance(given.lb, list) else given.lb
        self.programs = {name: program(getattr(given, name) or name, f"--{name} PATH") for name in given.peers}
        self.backend, self.cpus = given.backend, (given.proxy_cpus, given.load_cpus)
        self.children = []

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="lb-measure-"))
        # so that SIGTERM ends the `with` blocks, too
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
        self.descriptors = descriptors
        return self

    def __exit__(self, *failure):
        self.end_all()
        if failure[0]:
            for log in sorted(self.folder.glob("*.log")):
                lines = log.read_text(errors="replace").splitlines()[-8:]
                tell(*(f"{log.name}: {line}" for line in lines))
        shutil.rmtree(self.folder)

    def end_all(self, but=()):
        """Ends all processes except these."""
        for child in reversed(self.children):
            if child not in but:
                end(child)
        self.children = list(but)

    def spawn(self, name, command, cpus, **options):
        """Starts a process on these CPUs; it ends with the stand. Call it from the main thread, whose end sends the death signal."""
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
        """Starts backends whose responses have `body_bytes`. Returns their ports and the path of the requests."""
        if self.backend:
            ports = free_ports(count)
            self.spawn("backend", [*absolute(self.backend.split()), body_bytes, *ports], self.cpus[1])
            for port in ports:
                wait_for(lambda port=port: responds(port), f"{self.backend} on port {port}")
            return ports, "/"
        chunk = min(max(body_bytes, 1), 65536)
        return [self.mock(f"b{n}")[1] for n in range(count)], f"/stream?bytes={body_bytes}&chunk={chunk}&length=1"

    def mock(self, name, port=0, options=("--seed", "7")):
        """Starts a mock-server. Returns its process and its port."""
        command = [beside(self.lb, "mock-server"), "--port", port, "--id", name, *options]
        ready = self.folder / f"{name}.ready"
        ready.unlink(missing_ok=True)
        child = self.spawn(name, [*command, "--ready-file", ready], self.cpus[1])
        told = wait_for(lambda: ready.exists() and ready.read_text(), f"mock-server {name}")
        return child, int(told.rsplit(":", 1)[1])

    def proxy(self, name, ports, **options):
        """Starts a proxy and waits for its first response; see `proxies.start`."""
        return proxies.start(self, name, ports, **options)


def absolute(command):
    """The command with the absolute path of its program, because it runs in another folder."""
    program, *arguments = command
    return [shutil.which(program) and os.path.abspath(shutil.which(program)) or program, *arguments]


def add_options(parser, peers, *, takes_backend=True, cpus=({0}, {1})):
    """The options of all scripts. `cpus` are the default CPUs of the proxies and of the load."""
    target = Path(__file__).resolve().parents[3] / "target/release/lb"
    group = parser.add_argument_group("programs")
    group.add_argument("--lb", action="append", metavar="PATH",
                       help="the lb to measure; mock-server, loadgen and the plugins are beside it (default: target/release/lb)")
    for name in PEERS:
        group.add_argument(f"--{name}", metavar="PATH", help=f"{name} (default: the one on PATH)")
    group.add_argument("--peers", default=peers, type=names_of, metavar="NAMES",
                       help=f"peers to measure: haproxy, nginx or both with a comma; '' for none (default: {','.join(peers)})")
    if takes_backend:
        group.add_argument("--backend", metavar="CMD",
                           help="a backend, run as CMD BODY_BYTES PORT...; it sends a body of BODY_BYTES to every request. "
                                "Default: mock-server. A faster one leaves more of the CPU to the load, so the figures are clearer")
    group.add_argument("--proxy-cpus", default=cpus[0], type=cpus_of, metavar="LIST",
                       help=f"CPUs of the proxies (default: {list_of(cpus[0])})")
    group.add_argument("--load-cpus", default=cpus[1], type=cpus_of, metavar="LIST",
                       help=f"CPUs of load and backends (default: {list_of(cpus[1])})")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to this file")
    parser.set_defaults(default_lb=target, backend=None)


def check_options(given):
    """Fills in the options that depend on the machine."""
    given.lb = [program(path, "cargo build --release --workspace, or name it with --lb") for path in given.lb or [given.default_lb]]
    missing = (given.proxy_cpus | given.load_cpus) - os.sched_getaffinity(0)
    if missing:
        raise CannotMeasure(f"CPU {sorted(missing)} is not available to this process: see --proxy-cpus, --load-cpus")
    os.sched_setaffinity(0, given.load_cpus)


def names_of(text):
    names = [name for name in text.split(",") if name]
    for name in set(names) - set(PEERS):
        raise ValueError(name)
    return names


def cpus_of(text):
    return {int(one) for one in text.split(",")}


def list_of(cpus):
    return ",".join(map(str, sorted(cpus)))


def program(path, remedy):
    found = shutil.which(path)
    if not found:
        raise CannotMeasure(f"{path} is not a program: {remedy}")
    return str(Path(found).resolve())


def beside(lb, name):
    return program(Path(lb).parent / name, "it must be beside lb")
