"""lb and its peers: their configurations, their start, and their memory and CPU time while they run.

Every proxy has the same task: HTTP/1.1 from one port of loopback to given backends, keep-alive on both sides, one thread. All other
settings are the defaults. The limit of descriptors is raised to the hard limit.
"""

import json
import os
from pathlib import Path

from processes import cpu_seconds, free_ports, port_of, responds, status, tree, wait_for

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


class Proxy:
    """A running proxy, and its figures in /proc."""

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
        """User and system seconds so far."""
        return cpu_seconds(self.pids())

    def has_ended(self):
        return self.child.poll() is not None


def start(stand, name, ports, *, lb=None, workers=1, more=""):
    """Starts a proxy in front of these backends and waits for its first response. A name other than "haproxy" and "nginx" means lb."""
    if name == "haproxy":
        return start_haproxy(stand, ports)
    if name == "nginx":
        return start_nginx(stand, ports)
    return start_lb(stand, name, ports, lb or stand.lb, workers, more)


def start_lb(stand, name, ports, path, workers, more):
    backends = "".join(f'[[backends]]\nid = "b{n}"\naddress = "127.0.0.1:{port}"\n' for n, port in enumerate(ports))
    config, ready = stand.folder / f"{name}.toml", stand.folder / f"{name}.json"
    config.write_text(LB.format(workers=workers, backends=backends, more=more))
    ready.unlink(missing_ok=True)
    child = stand.spawn(name, [path, "--config", config, "--ready-file", ready], stand.cpus[0])
    told = json.loads(wait_for(lambda: ready.exists() and ready.read_text(), f"{name} to be ready", child))
    # A reload tries plugins in a child process, which does not count.
    return responding(Proxy(name, child, port_of(told["proxy"][0]), with_children=False, admin=port_of(told["admin"])))


def start_haproxy(stand, ports):
    port, = free_ports(1)
    backends = "".join(f"  server s{n} 127.0.0.1:{one} pool-max-conn 512\n" for n, one in enumerate(ports))
    config = stand.folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(connections=stand.descriptors - 500, port=port, backends=backends))
    child = stand.spawn("haproxy", [stand.programs["haproxy"], "-q", "-db", "-f", config], stand.cpus[0])
    return responding(Proxy("haproxy", child, port, with_children=False))


def start_nginx(stand, ports):
    port, = free_ports(1)
    backends = " ".join(f"server 127.0.0.1:{one};" for one in ports)
    config = stand.folder / "nginx.conf"
    # nginx closes idle connections when only a sixteenth of its connections is free, so its limit is above that of descriptors.
    user = "user root;\n" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(user=user, descriptors=stand.descriptors, connections=2 * stand.descriptors, port=port,
                                   backends=backends))
    child = stand.spawn("nginx", [stand.programs["nginx"], "-p", stand.folder, "-c", config], stand.cpus[0])
    return responding(Proxy("nginx", child, port, with_children=True))


def responding(proxy):
    wait_for(lambda: responds(proxy.port), f"{proxy.name} on port {proxy.port}", proxy.child)
    return proxy
