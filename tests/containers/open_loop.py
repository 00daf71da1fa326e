# SPDX-License-Identifier: Apache-2.0
"""Load at a constant rate, whatever becomes of it: each request has its moment, and its time counts from then on.

    open_loop.py --rate 60 --mark WORD --broker URL [--page URL] [--host NAME] --out FILE

Runs until SIGTERM, then waits for what is under way. FILE gets a JSON object a line: when (seconds since the epoch), kind, key, status or error, ms,
way. A request is sent once and never again, so that a failure of the other side is one here. Each has a key of its own, which stands in what is
stored, too: `stored_once` compares the two. HTTP/1.1 over kept connections, as browsers and services have them; TLS is not verified.
"""

import argparse
import asyncio
import collections
import contextlib
import itertools
import json
import signal
import ssl
import time
import urllib.parse

PATIENCE_SECONDS = 12  # beyond the broker's own 10 s, so that its answer counts and not our impatience
KINDS = ("log", "stored", "grpc", "log", "rpc", "stored", "log", "page", "log", "mail")  # of one round; a log-in is dear, and has a rate of its own


class Client:
    """One origin: kept connections, the one used last first."""

    def __init__(self, url, host=None):
        parts = urllib.parse.urlsplit(url)
        self.tls = None
        if parts.scheme == "https":
            self.tls = ssl.create_default_context()
            self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE
        self.where = parts.hostname, parts.port or (443 if self.tls else 80)
        self.host = host or parts.netloc
        self.idle = collections.deque()

    async def connect(self):
        server_name = {"server_hostname": self.host.split(":")[0]} if self.tls else {}
        return await asyncio.open_connection(*self.where, ssl=self.tls, **server_name)

    async def call(self, method, path, body=b"", headers=()):
        """@return (status, headers, body)"""
        while self.idle and (self.idle[-1][0].at_eof() or self.idle[-1][1].is_closing()):
            self.idle.pop()[1].close()
        reader, writer = self.idle.pop() if self.idle else await self.connect()
        kept = False
        try:
            lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}", f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in headers)]
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            answer = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
            content = await self.body_of(reader, answer)
            kept = answer.get("connection", "").lower() != "close"
            return int(head[0].split()[1]), answer, content
        finally:
            if kept:
                self.idle.append((reader, writer))
            else:
                writer.close()

    @staticmethod
    async def body_of(reader, headers):
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return await reader.readexactly(int(headers.get("content-length", 0)))
        content = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            content += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return content


def request_of(kind, key):
    """@return (method, path, body, headers, the status that is right)"""
    keyed = (("Content-Type", "application/json"), ("Idempotency-Key", key))
    entry = {"name": key.rsplit("-", 1)[0], "data": key}
    if kind == "page":
        return "GET", "/", None, (), 200
    if kind == "auth":
        return "POST", "/handle", {"action": "auth", "auth": {"email": "admin@example.com", "password": "verysecret"}}, keyed, 202
    if kind == "mail":
        mail = {"from": "me@example.com", "to": "you@example.com", "subject": key, "message": "Hello"}
        return "POST", "/handle", {"action": "mail", "mail": mail}, keyed, 202
    if kind == "grpc":
        return "POST", "/log-gRPC", {"action": "log", "log": entry}, keyed, 202
    ways = {"log": {}, "stored": {"ack": "stored"}, "rpc": {"ack": "stored", "via": "rpc"}}
    return "POST", "/handle", {"action": "log", "log": entry} | ways[kind], keyed, 202


class Load:
    def __init__(self, arguments):
        self.rate, self.logins, self.mark = arguments.rate, arguments.logins, arguments.mark
        self.broker = Client(arguments.broker, arguments.host)
        self.page = Client(arguments.page, arguments.page_host) if arguments.page else None
        self.out = open(arguments.out, "w")  # noqa: SIM115  open as long as the load is
        self.under_way = set()
        self.numbers = itertools.count()

    async def one(self, kind, due):
        key = f"{self.mark}-{next(self.numbers):06d}"
        method, path, content, headers, right = request_of(kind, key)
        line = {"at": time.time(), "kind": kind, "key": key}
        try:
            client = self.page if kind == "page" else self.broker
            body = b"" if content is None else json.dumps(content).encode()
            status, answer, said = await asyncio.wait_for(client.call(method, path, body, headers), PATIENCE_SECONDS)
            line |= {"status": status, "way": answer.get("x-flexi-way", "")}
            if status != right:
                line["error"] = f"{status} {said[:300].decode(errors='replace')}"
        except Exception as why:
            line["error"] = f"{type(why).__name__} {why}"
        line["ms"] = round((asyncio.get_running_loop().time() - due) * 1000, 1)
        self.out.write(json.dumps(line) + "\n")

    def start(self, kind, due):
        task = asyncio.create_task(self.one(kind, due))
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def pour(self, kinds, rate):
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in itertools.count():
            due = began + number / rate
            await asyncio.sleep(max(0, due - loop.time()))
            self.start(next(kinds), due)

    async def run(self):
        kinds = [kind for kind in KINDS if kind != "page" or self.page]
        pouring = [asyncio.create_task(self.pour(itertools.cycle(kinds), self.rate))]
        if self.logins:
            pouring.append(asyncio.create_task(self.pour(itertools.repeat("auth"), self.logins)))
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        await stopped.wait()
        for task in pouring:
            task.cancel()
        while self.under_way:
            await asyncio.wait(self.under_way)
        self.out.close()


# What came of it.


def lines_of(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def quantile(values, share):
    """The smallest value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def figures(lines):
    """{"requests", "failures", "p50", "p99", "max"}, times in ms of those that went well; log-ins aside, whose time is that of the password's hash."""
    times = [line["ms"] for line in lines if "error" not in line and line["kind"] != "auth"]
    return {"requests": len(lines), "failures": sum("error" in line for line in lines), "p50": quantile(times, 0.5), "p99": quantile(times, 0.99),
            "max": max(times, default=float("nan"))}


def stored_once(lines, stored, kinds):
    """@param stored the keys that the destination has, as often as it has them
    @return {"accepted", "lost": keys that were accepted and are not there, "doubled": keys that are there more than once}"""
    counted = collections.Counter(stored)
    sent = [line for line in lines if line["kind"] in kinds]
    accepted = [line["key"] for line in sent if "error" not in line]
    return {"accepted": len(accepted), "lost": [key for key in accepted if not counted[key]], "doubled": [line["key"] for line in sent if counted[line["key"]] > 1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, required=True, help="requests per second")
    parser.add_argument("--logins", type=float, default=0, help="log-ins per second beside them")
    parser.add_argument("--mark", required=True, help="stands before the keys of this run, and is the name of its log entries")
    parser.add_argument("--broker", required=True)
    parser.add_argument("--host", help="the Host header, where the URL names an address")
    parser.add_argument("--page")
    parser.add_argument("--page-host")
    parser.add_argument("--out", required=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Load(parser.parse_args()).run())


if __name__ == "__main__":
    main()
