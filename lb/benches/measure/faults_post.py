"""The row `post`: requests that may not be repeated, to backends that break off at every stage.

Each POST has a number of its own in the header x-try, and is sent once. `hostile_backend.py` counts at which backends each number arrived.
A number that arrived twice is a POST that the proxy retried although a backend may have processed it. A refused connection is the only
failure after which a proxy may choose another backend, because nothing was sent.

lb has the same settings as in the other rows, because ejections and retries are what could repeat a POST. The peers take no backend out:
else all backends would soon be out.
"""

import asyncio
import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import faults_proxies
from hostile_backend import ALWAYS, STAGES
from processes import CannotMeasure, tell

HOSTILE = Path(__file__).with_name("hostile_backend.py")
TASK = faults_proxies.Task("post", timeout_ms=300, peers_judge=False)
BACKENDS, CLIENTS = 3, 32
# bytes of a request's body; the last does not fit into the sockets' first read
SIZES = (0, 10, 1000, 20_000, 200_000)
CHUNKED_SHARE, EXPECT_SHARE = 0.3, 0.2
# for one response; the proxy's own time-out is shorter
DEADLINE = 10
EXPECT_SECONDS = 0.1
# if fewer arrive, the row proves too little
ARRIVED_SHARE = 0.5
SHOWN = 5
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


def measure(stand, _, contestant, given):
    command = [sys.executable, HOSTILE, given.seed, stand.folder / "seen.json", BACKENDS]
    hostile = stand.spawn("hostile", command, stand.cpus[1], stdout=subprocess.PIPE)
    ports = json.loads(hostile.stdout.readline() or "null")
    if not ports:
        raise CannotMeasure(f"{HOSTILE.name} ended with exit code {hostile.wait()}")
    proxy = faults_proxies.start(stand, contestant, ports, TASK, given)
    outcomes = asyncio.run(clients(proxy, given))
    if proxy.has_ended():
        raise CannotMeasure(f"{contestant} ended with exit code {proxy.child.returncode}")
    hostile.terminate()
    if hostile.wait(30):
        raise CannotMeasure(f"{HOSTILE.name} ended with exit code {hostile.returncode}")
    seen = json.loads((stand.folder / "seen.json").read_text())
    return summary(given.tries, outcomes, seen)


def summary(tries, outcomes, seen):
    missing = {*ALWAYS, *STAGES} - set(seen["stages"])
    if missing:
        raise CannotMeasure(f"no request met these stages: {', '.join(sorted(missing))}; give more --tries")
    if len(seen["tries"]) < ARRIVED_SHARE * tries:
        raise CannotMeasure(f"of {tries:,} requests only {len(seen['tries']):,} arrived at a backend: {dict(Counter(outcomes.values()))}")
    unseen = sum(status == "200" for number, status in outcomes.items() if str(number) not in seen["tries"])
    if unseen:
        raise CannotMeasure(f"{unseen} requests with a good response did not arrive at a backend: the counts are wrong")
    repeated = {number: places for number, places in seen["tries"].items() if len(places) > 1}
    for number, places in list(repeated.items())[:SHOWN]:
        tell(f"      try {number} arrived {len(places)} times: {', '.join(f'{name} ({stage})' for name, stage in places)}")
    return {"tries": tries, "arrived": len(seen["tries"]), "repeated": len(repeated), "outcomes": Counter(outcomes.values()),
            "repeated_after": Counter(places[0][1] for places in repeated.values()), "stages": seen["stages"],
            "doubts": []}


async def clients(proxy, given):
    """Sends all tries. Returns the outcome of each."""
    outcomes, numbers = {}, iter(range(given.tries))

    async def client(dice):
        streams = None
        for number in numbers:
            outcomes[number], streams = await post(proxy.port, number, dice, streams)

    await asyncio.gather(*(client(random.Random(f"{given.seed} {n}")) for n in range(CLIENTS)))
    return outcomes


async def post(port, number, dice, streams):
    """Sends one POST, once. Returns its outcome, and the connection if it can be used again."""
    size, expects, is_chunked = dice.choice(SIZES), dice.random() < EXPECT_SHARE, dice.random() < CHUNKED_SHARE
    expects, is_chunked = expects and size > 0, is_chunked and size > 0
    head = "\r\n".join(["POST /post HTTP/1.1", "host: measure", f"x-try: {number}", f"x-key: {dice.randrange(1000)}",
                        "transfer-encoding: chunked" if is_chunked else f"content-length: {size}",
                        *["expect: 100-continue"] * expects, "", ""]).encode()
    body = chunks(bytes(size)) if is_chunked else bytes(size)
    outcome, keeps, answer = f"no response in {DEADLINE} s", False, None
    try:
        async with asyncio.timeout(DEADLINE):
            reader, writer = streams = streams or await asyncio.open_connection("127.0.0.1", port)
            heard = asyncio.Event()
            answer = asyncio.ensure_future(response(reader, heard))
            writer.write(head)
            if expects:
                await asyncio.wait([asyncio.ensure_future(heard.wait())], timeout=EXPECT_SECONDS)
            sends_body = not answer.done()
            if sends_body:
                writer.write(body)
            outcome, keeps = await answer
            # The proxy has not read the rest of a body, so it would take that for the next request.
            keeps = keeps and sends_body and not writer.transport.get_write_buffer_size()
    except TimeoutError:
        pass
    except (OSError, EOFError, ValueError) as error:
        outcome = type(error).__name__
    finally:
        if answer:
            answer.cancel()
        if streams and not keeps:
            streams[1].transport.abort()
    return outcome, streams if keeps else None


async def response(reader, heard):
    """The status of the final response, and whether the connection can be used again. `heard` is set at the first head."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            heard.set()
            status = head[9:12].decode()
            if status.startswith("1"):
                continue
            length = LENGTH.search(head)
            if not length:
                return status, False
            await reader.readexactly(int(length[1]))
            return status, b"connection: close" not in head.lower()
    finally:
        heard.set()


def chunks(data, size=4096):
    parts = [data[at:at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
