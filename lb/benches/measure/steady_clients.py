"""Well-behaved clients on keep-alive connections. Each response is compared, byte for byte, with the expected one.

Most use a pool of undisturbed backends. One in four sends GETs to the rough pool, where one backend at a time is down. lb retries such a
request on another backend, unless the killed backend may have read it. Then the response is a 502, which is counted separately.
"""

import asyncio

HOST = "steady.test"
ALPHABET = b"abcdefghijklmnopqrstuvwxyz"
# long, because delays of a busy machine are not the proxy's fault
DEADLINE = 30
PAUSE_SECONDS = 0.003


class Steady:
    def __init__(self, port):
        self.port, self.right, self.wrong, self.failed, self.is_stopping = port, 0, [], 0, False

    def stop(self):
        self.is_stopping = True

    async def client(self, number, dice):
        streams = None
        while not self.is_stopping:
            goes_to_rough = number % 4 == 3
            request, is_due, what = rough() if goes_to_rough else steady(dice)
            try:
                async with asyncio.timeout(DEADLINE):
                    streams = streams or await asyncio.open_connection("127.0.0.1", self.port)
                    streams[1].write(request)
                    status, body = await read(streams[0])
                if status == b"200" and is_due(body):
                    self.right += 1
                elif status == b"502" and goes_to_rough:
                    self.failed += 1
                    streams[1].close()
                    streams = None
                else:
                    self.wrong.append(f"{what}: {status.decode()} {body[:100]!r}")
            except (OSError, EOFError, TimeoutError, ValueError) as error:
                self.wrong.append(f"{what}: {error!r}")
                if streams:
                    streams[1].close()
                streams = None
            await asyncio.sleep(dice.uniform(0, PAUSE_SECONDS))
        if streams:
            streams[1].close()


def steady(dice):
    """A request, the check of its response's body, and its name."""
    kind, size = dice.randrange(4), dice.choice((0, 1, 100, 8192, 70_000, 300_000))
    if kind == 0:
        return head("GET", "/home"), lambda body: b"Hello from Server: s0" in body, "GET /home"
    if kind == 1:
        path = f"/stream?bytes={size}&length={dice.randrange(2)}"
        return head("GET", path), lambda body: body == (ALPHABET * (size // 26 + 1))[:size], f"GET {path}"
    told = b'{"bytes":%d}' % size
    if kind == 2:
        return head("POST", "/upload", f"content-length: {size}") + bytes(size), told.__eq__, f"POST of {size} bytes"
    chunk = b"%x\r\n%s\r\n" % (size, bytes(size)) if size else b""
    return head("POST", "/upload", "transfer-encoding: chunked") + chunk + b"0\r\n\r\n", told.__eq__, f"POST of a chunk of {size} bytes"


def rough():
    return head("GET", "/home", host="rough"), lambda body: b"Hello from Server: r" in body, "GET /home of the rough pool"


def head(method, path, *fields, host=HOST):
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"host: {host}", *fields, "", ""]).encode()


async def read(reader):
    """The status and the body of a response, by Content-Length or in chunks."""
    lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    fields = dict(line.split(b":", 1) for line in lines[1:] if line)
    if b"content-length" in fields:
        return lines[0][9:12], await reader.readexactly(int(fields[b"content-length"]))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return lines[0][9:12], body
