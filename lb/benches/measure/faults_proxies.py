"""lb, HAProxy and nginx as faults.py runs them: their configurations and their start.

All three have one thread, keep-alive on both sides, a connect time-out of 1 s, the same time-out for a response and at most one retry on
another backend. They retry after connect failures, resets, time-outs and 502, 503, 504, and a POST only if nothing was sent.

- lb: active health checks each second. `RESILIENCE` is the one place for what lb does beside them.
- HAProxy: active health checks each second. Ten bad responses in a row (`observe layer7`) mark a server down at once.
- nginx: has no active health checks. Three bad responses within 5 s take a server out for 5 s. nginx counts a status as bad only if it
  also retries it, so 500 is retried too.
"""

import json
import os
import shutil
from typing import NamedTuple

from processes import free_ports, port_of, wait_for
from proxies import Proxy, responding

STRATEGIES = ("round_robin", "least_connections", "consistent_hash")
HAPROXY_BALANCE = {"round_robin": "roundrobin", "least_connections": "leastconn",
                   "consistent_hash": "hdr(x-key)\n  hash-type consistent"}
NGINX_BALANCE = {"round_robin": "", "least_connections": "least_conn;", "consistent_hash": "hash $http_x_key consistent;"}

# The reaction of lb to failing backends, beside active checks and outlier detection, which has its defaults.
RESILIENCE = """[retry]
attempts = 2
"""

LB = """[proxy]
listen = "127.0.0.1:0"
workers = {workers}
[admin]
listen = "127.0.0.1:0"
[strategy]
name = "{strategy}"
hash_on = ["header:x-key"]
[timeouts]
connect_ms = 1000
response_head_ms = {timeout_ms}
client_keep_alive_ms = 600000
[health]
path = "/heartbeat"
interval_ms = 1000
timeout_ms = 1000
[reload]
watch = false
[state]
keep = false
dir = "state"
{resilience}{backends}"""

HAPROXY = """global
  nbthread 1
  maxconn 4000
  no strict-limits
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server {timeout_ms}ms
  timeout http-keep-alive 600s
  timeout check 1s
  option http-keep-alive
  http-reuse always
  retries 1
  option redispatch 1
  retry-on conn-failure empty-response response-timeout 502 503 504
frontend f
  bind 127.0.0.1:{port} backlog 4096
  http-request disable-l7-retry if METH_POST
  default_backend b
backend b
  balance {balance}
  {judging}
{backends}"""
HAPROXY_JUDGES = """option httpchk GET /heartbeat
  default-server check inter 1s fall 3 rise 2 observe layer7 error-limit 10 on-error mark-down"""

NGINX = """{user}worker_processes 1;
worker_rlimit_nofile 8192;
error_log nginx.err crit;
pid nginx.pid;
daemon off;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  upstream b {{
    {balance}
    {backends}
    keepalive 512;
  }}
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    client_max_body_size 0;
    location / {{
      proxy_pass http://b; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_request_buffering off;
      proxy_connect_timeout 1s; proxy_read_timeout {timeout_ms}ms; proxy_send_timeout {timeout_ms}ms;
      proxy_next_upstream error timeout invalid_header http_500 http_502 http_503 http_504;
      proxy_next_upstream_tries 2;
    }}
  }}
}}
"""


class Contestant(NamedTuple):
    """A proxy with one way to choose backends."""
    proxy: str
    strategy: str

    def __str__(self):
        return f"{self.proxy} {self.strategy}"


class Task(NamedTuple):
    """The settings that differ between rows."""
    row: str
    timeout_ms: int = 2000
    # False: HAProxy and nginx never take a backend out.
    peers_judge: bool = True


def start(stand, contestant, ports, task, given):
    """Starts a proxy, waits for its first response, and leaves a copy of its configuration in the output folder."""
    begin = {"lb": start_lb, "haproxy": start_haproxy, "nginx": start_nginx}[contestant.proxy]
    return responding(begin(stand, contestant.strategy, ports, task, given))


def start_lb(stand, strategy, ports, task, given):
    backends = "".join(f'[[backends]]\nid = "b{n}"\naddress = "127.0.0.1:{port}"\n' for n, port in enumerate(ports))
    config = write(stand, given, task, f"lb-{strategy}.toml", LB.format(
        workers=given.workers, strategy=strategy, timeout_ms=task.timeout_ms, resilience=RESILIENCE, backends=backends))
    ready = stand.folder / "lb.json"
    ready.unlink(missing_ok=True)
    settings = [part for one in given.set for part in ("--set", one)]
    child = stand.spawn("lb", [stand.lb, "--config", config, "--ready-file", ready, *settings], stand.cpus[0])
    told = json.loads(wait_for(lambda: ready.exists() and ready.read_text(), "lb to be ready", child))
    return Proxy("lb", child, port_of(told["proxy"][0]), with_children=False, admin=port_of(told["admin"]))


def start_haproxy(stand, strategy, ports, task, given):
    port, = free_ports(1)
    config = write(stand, given, task, f"haproxy-{strategy}.cfg", HAPROXY.format(
        timeout_ms=task.timeout_ms, port=port, balance=HAPROXY_BALANCE[strategy], judging=HAPROXY_JUDGES if task.peers_judge else "",
        backends="".join(f"  server s{n} 127.0.0.1:{one}\n" for n, one in enumerate(ports))))
    child = stand.spawn("haproxy", [stand.programs["haproxy"], "-q", "-db", "-f", config], stand.cpus[0])
    return Proxy("haproxy", child, port, with_children=False)


def start_nginx(stand, strategy, ports, task, given):
    port, = free_ports(1)
    fails = "max_fails=3 fail_timeout=5s" if task.peers_judge else "max_fails=0"
    config = write(stand, given, task, f"nginx-{strategy}.conf", NGINX.format(
        user="user root;\n" if os.geteuid() == 0 else "", timeout_ms=task.timeout_ms, port=port, balance=NGINX_BALANCE[strategy],
        backends=" ".join(f"server 127.0.0.1:{one} {fails};" for one in ports)))
    child = stand.spawn("nginx", [stand.programs["nginx"], "-p", stand.folder, "-c", config], stand.cpus[0])
    return Proxy("nginx", child, port, with_children=True)


def write(stand, given, task, name, text):
    config = stand.folder / name
    config.write_text(text)
    folder = given.out / task.row
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(config, folder)
    return config

