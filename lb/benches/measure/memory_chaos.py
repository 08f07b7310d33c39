"""Chaos: many faults of clients and backends at once, and the memory of a proxy afterwards.

Rough clients break their connections, read slowly, and send large bodies, pipelines and nonsense to three backends. Again and again one
of these backends is killed and restarted. lb gets another strategy every second. Well-behaved clients use a pool of their own and the rough
one; each of their responses is compared byte for byte. A steady load with a pool of its own is counted by loadgen and by lb, and both must
agree (see memory_accounts.py). A peer has no second pool and no reload, so it gets only the rough clients.
"""

import asyncio
import random
import time
from collections import Counter

import memory_accounts
import rough_clients
from figures import mib
from memory_rest import Rest, warm_up
from processes import CannotMeasure, tell
from steady_clients import HOST, Steady

RELOAD_SECONDS = 1
# a killed backend is restarted before or after lb's health checks find it down
AWAY_SECONDS = (0.2, 4)
ROUGH_BACKENDS = ("r0", "r1", "r2")
STEADY_CLIENTS = 8
STRATEGIES = ("least_connections", "round_robin")
WRONG_SHOWN = 5

MORE_POOLS = """
[pools.steady.strategy]
name = "round_robin"
[[pools.steady.backends]]
id = "s0"
address = "127.0.0.1:{port}"
[[routes]]
host = "{host}"
pool = "steady"
[pools.{counted}.strategy]
name = "round_robin"
[[pools.{counted}.backends]]
id = "s0"
address = "127.0.0.1:{port}"
[[routes]]
host = "{counted_host}"
pool = "{counted}"
"""


def measure(stand, given):
    seed = random.SystemRandom().randrange(10**9) if given.seed is None else given.seed
    print(f"\nchaos: --seed {seed}")
    result = {}
    for name in ["lb", *(peer for peer in given.peers if peer == "haproxy")]:
        backends = {rough: stand.mock(rough) for rough in ROUGH_BACKENDS}
        _, port = stand.mock("s0")
        more = MORE_POOLS.format(port=port, host=HOST, counted=memory_accounts.POOL, counted_host=memory_accounts.HOST)
        proxy = stand.proxy(name, [port for _, port in backends.values()], more=more)
        start = warm_up(proxy, "/home")
        accounts = proxy.admin and memory_accounts.Accounts(stand, proxy, given.rate, given.chaos_seconds)
        story = asyncio.run(Chaos(stand, proxy, backends, seed, given).run())
        if proxy.has_ended():
            raise CannotMeasure(f"{name} has ended with exit code {proxy.child.returncode} in chaos with --seed {seed}")
        settled, peak = proxy.rss(), proxy.peak()
        rest = Rest(proxy, start, given.rest)
        if accounts:
            story["accounts"] = accounts.close()
        result[name] = {"seed": seed, "start": start, "settled_above": settled - start, "peak_above": peak - start,
                        **story, **rest.plain()}
        stand.end_all()
    return result


class Chaos:
    def __init__(self, stand, proxy, backends, seed, given):
        self.stand, self.proxy, self.backends, self.seed, self.given = stand, proxy, backends, seed, given
        self.counts = {kind.__name__: Counter() for kind in rough_clients.KINDS}
        self.kills, self.reloads, self.is_over = 0, Counter(), False
        self.steady = Steady(proxy.port)

    async def run(self):
        """Runs the chaos. Returns the counts by name."""
        tasks = [asyncio.ensure_future(self.rough(n)) for n in range(self.given.clients)]
        tasks += [asyncio.ensure_future(self.kill())]
        if self.proxy.admin:
            tasks += [asyncio.ensure_future(self.reload())]
            tasks += [asyncio.ensure_future(self.steady.client(n, self.random("steady", n))) for n in range(STEADY_CLIENTS)]
        began = time.monotonic()
        while time.monotonic() < began + self.given.chaos_seconds and not self.proxy.has_ended():
            await asyncio.sleep(min(5, self.given.chaos_seconds))
            rough = sum(map(Counter.total, self.counts.values()))
            tell(f"chaos: {self.proxy.name}: {mib(self.proxy.rss())} MiB, {rough:,} rough clients, {self.steady.right:,} responses right, "
                 f"{len(self.steady.wrong)} wrong, {self.steady.failed} cut by a kill, {self.kills} kills, reloads {dict(self.reloads)}")
        self.steady.stop()
        self.is_over = True
        broken = [task.exception() for task in tasks if task.done() and task.exception()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if broken and not self.proxy.has_ended():
            raise broken[0]
        for line in self.steady.wrong[:WRONG_SHOWN]:
            print(f"WRONG     {line}")
        for kind, counts in self.counts.items():
            tell(f"      {kind}: {dict(counts)}")
        return {"rough": self.counts, "right": self.steady.right, "wrong": len(self.steady.wrong), "failed": self.steady.failed,
                "kills": self.kills, "reloads": self.reloads}

    def random(self, *name):
        return random.Random(f"{self.seed} {name}")

    async def rough(self, number):
        """Runs rough clients of one kind, one after the other."""
        kind, dice = rough_clients.KINDS[number % len(rough_clients.KINDS)], self.random("rough", number)
        while not self.is_over:
            try:
                async with asyncio.timeout(30):
                    outcome = await kind(self.proxy.port, dice)
            except TimeoutError:
                outcome = "30 s"
            except asyncio.IncompleteReadError:
                outcome = "cut"
            except OSError as error:
                outcome = type(error).__name__
            self.counts[kind.__name__][outcome] += 1
            await asyncio.sleep(dice.uniform(0, 0.02))

    async def kill(self):
        dice = self.random("kill")
        while True:
            await asyncio.sleep(dice.uniform(0.2, 2))
            name = dice.choice(ROUGH_BACKENDS)
            child, port = self.backends[name]
            child.kill()
            child.wait()
            self.kills += 1
            await asyncio.sleep(dice.uniform(*AWAY_SECONDS))
            self.backends[name] = self.stand.mock(name, port)

    async def reload(self):
        turn = 0
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            body = b'{"strategy":{"name":"%s"}}' % STRATEGIES[turn % len(STRATEGIES)].encode()
            turn += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.admin)
            writer.write(b"POST /reload HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\nconnection: close\r\n"
                         b"content-length: %d\r\n\r\n%s" % (self.proxy.admin, len(body), body))
            response = await reader.read()
            writer.close()
            status = response[9:12].decode()
            if status != "200" and not self.reloads[status]:
                tell(f"chaos: a reload was refused: {response.decode(errors='replace')}")
            self.reloads[status] += 1
