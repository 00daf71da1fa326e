# SPDX-License-Identifier: Apache-2.0
"""Load → broker → logger → store over each transport, each a process of its own; beside grpc++ and bare librabbitmq."""
import contextlib, pathlib, re, subprocess, sys

from processes import Server, log_body, median, table, wrk

sys.path.append(str(pathlib.Path(__file__).parent.parent / "tests/support"))
import rabbitmq

DIRECT = ("http", "grpc", "rpc")
IN_FLIGHT = 64


class Path:
    """Broker and logger, by `program`, until the end of the block."""

    def __init__(self, build, way, store, program="path"):
        self.build, self.way, self.store, self.program = build, way, store, build / program

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            serve = lambda *words: stack.enter_context(Server([self.program, *map(str, words)], None, r"ready (\S+)"))
            logger_words = [self.store] if self.program.name == "grpcpp_path" else [self.way, self.store]
            self.logger = serve("logger", *logger_words)
            self.broker = serve("broker", self.logger.url)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *all):
        return self.stack.__exit__(*all)

    def load(self, call, seconds, rate=0):
        """Calls/s, p50 and p99 in ms: 64 in flight, or open loop at a rate."""
        out = subprocess.run([self.build / "path", "load", self.broker.url, call, str(IN_FLIGHT), str(seconds), str(rate)],
                             capture_output=True, text=True, timeout=seconds + 60)
        match = re.search(r"RESULT (\S+) (\S+) (\S+) (\d+)", out.stdout)
        if not match:
            sys.exit(f"no load over {self.way}: {out.stdout}{out.stderr}")
        if int(match.group(4)):
            sys.exit(f"{match.group(4)} calls over {self.way} failed; {out.stderr.strip()}")
        return [float(value) for value in match.groups()[:3]]

    def peak(self, folder, call, seconds):
        """By wrk where it can, which costs the cores less than any client of ours."""
        if not self.broker.url.startswith("http"):
            return self.load(call, seconds)
        if call == "hit":
            return wrk(folder, self.broker.url, "/", "", IN_FLIGHT, seconds)
        return wrk(folder, self.broker.url, "/handle", log_body(call), IN_FLIGHT, seconds)


def measure_direct(folder, build, rounds, seconds):
    names = [(way, "path") for way in DIRECT] + ([("grpc", "grpcpp_path")] if (build / "grpcpp_path").exists() else [])
    peaks, opened = {}, {}
    number = 0
    for _ in range(rounds):
        for way, program in names:
            for kind in ("hit", "null", "SQLite"):
                number += 1
                with Path(build, way + "://", folder / f"store-{number}.db" if kind == "SQLite" else "null", program) as path:
                    path.peak(folder, "stored", 1)  # warm
                    peaks.setdefault((way, program, kind), []).append(path.peak(folder, "hit" if kind == "hit" else "stored", seconds))
    peaks = {key: median(rows) for key, rows in peaks.items()}
    # Half of what one load generator reaches: the same that makes the open load.
    for way in DIRECT:
        for kind in ("null", "SQLite"):
            rows = []
            for _ in range(rounds):
                number += 1
                with Path(build, way + "://", folder / f"store-{number}.db" if kind == "SQLite" else "null") as path:
                    peak = path.load("stored", 2)[0]
                    rows.append(path.load("stored", seconds, peak / 2))
            opened[way, kind] = median(rows)
    return peaks, opened


def report_direct(peaks, opened):
    print("### Broker → logger → store, each a process of its own, 64 in flight\n")
    rows, ratios = [], []
    aims = {"http": 0.6, "grpc": 0.5, "rpc": 0.4}
    for (way, program, kind), figures in peaks.items():
        peer = way if program == "path" else "grpc++ on both sides"
        rows.append([f"{peer}: " + {"hit": "broker alone", "null": "→ logger → null store", "SQLite": "→ logger → SQLite"}[kind], *figures])
    table(["", "calls/s", "p50 ms", "p99 ms"], rows)
    for way in DIRECT:
        ratios.append([f"{way}: null store / broker alone", peaks[way, "path", "null"][0] / peaks[way, "path", "hit"][0], f"≥ {aims[way]}"])
    if ("grpc", "grpcpp_path", "null") in peaks:
        for kind in ("null", "SQLite"):
            ratios.append([f"whole path, gRPC: ours / grpc++ on both sides, {kind} store", peaks["grpc", "path", kind][0] / peaks["grpc", "grpcpp_path", kind][0],
                           "≥ 3" if kind == "null" else ""])
    table(["", "measured", "aim"], ratios)
    print("### The same, open loop at half its peak\n")
    table(["", "calls/s", "p50 ms", "p99 ms", "aim"], [[f"{way}, {kind} store", *figures, "p99 ≤ 20"] for (way, kind), figures in opened.items()])


def measure_amqp(folder, build, rounds, seconds, url):
    """RabbitMQ between broker and logger, which consumes; then the publisher beside bare librabbitmq."""
    rows = []
    for ack in ("accepted", "stored"):
        figures = []
        for number in range(rounds):
            with Path(build, url, folder / f"store-amqp-{ack}-{number}.db") as path:
                path.peak(folder, ack, 1)
                figures.append(path.peak(folder, ack, seconds))
        rows.append([f"broker by gRPC → RabbitMQ → listener → SQLite, `{ack}`, 64 in flight", *median(figures)])
        with Path(build, url, folder / f"store-amqp-{ack}-open.db") as path:
            peak = path.load(ack, 2)[0]
            rows.append(["… open loop at half of that", *path.load(ack, seconds, peak / 2)])
    print("### RabbitMQ\n")
    table(["", "messages/s", "p50 ms", "p99 ms"], rows)
    out = subprocess.run([build / "amqp_bench", url, str(seconds)], capture_output=True, text=True, check=True).stdout
    print("```\n" + out + "```\n", flush=True)


def measure(folder, build, rounds, seconds):
    report_direct(*measure_direct(folder, build, rounds, seconds))


def measure_rabbitmq(folder, build, rounds, seconds):
    if reason := rabbitmq.why_not():
        print(f"RabbitMQ was not measured: {reason}")
        return
    with rabbitmq.Server() as server:
        measure_amqp(folder, build, rounds, seconds, server.url)
