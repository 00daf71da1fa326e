# SPDX-License-Identifier: Apache-2.0
"""The product's processes, one service each."""

import collections
import os
import pathlib
import queue
import signal
import subprocess
import threading
import time

import gate as gates
import httpx
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("FLEXI_BINARY", ROOT / "build/release/flexiconnect")).resolve()
START_SECONDS = 60
STOP_SECONDS = 30
ANY_PORT = "127.0.0.1:0"


def eventually(condition, what, seconds=90, interval=0.1):
    """The first true value of `condition()`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}; last: {value!r}"
        time.sleep(interval)


class Part:
    """One process of one role. Others reach it through its gate, which stays where it is when the process dies."""

    def __init__(self, role, folder, settings, name=None):
        self.role = role
        self.folder = folder / (name or role)
        self.folder.mkdir(parents=True)
        self.settings = {"FLEXI_HTTP_LISTEN": ANY_PORT, "FLEXI_DATA_DIR": self.folder / "data"} | settings
        if role in ("broker", "logger", "mail", "authentication"):
            self.settings |= {"FLEXI_GRPC_LISTEN": ANY_PORT, "FLEXI_RPC_LISTEN": ANY_PORT}
        if role in ("logger", "mail", "authentication"):
            self.settings |= {"FLEXI_STORAGE": "embedded"}  # where no server is named for it
        self.gate = gates.Gate(("127.0.0.1", 1)).__enter__()
        self.process = None
        self.url = None
        self.starts = 0

    @property
    def gate_url(self):
        return f"http://127.0.0.1:{self.gate.port}"

    def start(self):
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS") if name in os.environ}
        environment |= {name: str(value) for name, value in self.settings.items()}
        self.starts += 1
        with (self.folder / f"log-{self.starts}.jsonl").open("wb") as log:
            self.process = subprocess.Popen([str(BINARY), self.role], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, cwd=self.folder, env=environment)
        lines = queue.Queue()

        def read(stdout=self.process.stdout):
            for line in stdout:
                lines.put(line.decode())
            lines.put("")

        threading.Thread(target=read, daemon=True).start()
        try:
            line = lines.get(timeout=START_SECONDS)
        except queue.Empty:
            line = ""
        if " is ready at " not in line:
            pytest.fail(f"{self.role} did not get ready\n{self.log()}")
        self.url = line.split(" is ready at ", 1)[1].split()[0].rstrip("/")
        self.gate.target = ("127.0.0.1", int(self.url.rsplit(":", 1)[1]))
        return self

    def client(self):
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"{self.role} did not stop within {STOP_SECONDS} s\n{self.log()}")
        assert code == 0, f"{self.role} ended with {code}\n{self.log()}"

    def close(self):
        try:
            if self.running():
                self.terminate()
        finally:
            self.gate.__exit__()

    def log(self):
        return "\n".join(f"--- {file}\n{file.read_text(errors='replace')[-6000:]}" for file in sorted(self.folder.glob("log-*.jsonl")))

    def metric(self, name):
        """The sum of a metric over its labels; 0 where it has not moved."""
        with self.client() as client:
            lines = client.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{")))


class System:
    """Broker, logger, perhaps mail and authentication and, with a RabbitMQ, listeners. `on` names a service's database or SMTP server."""

    def __init__(self, folder, amqp_url=None, listeners=1, mail=False, queue_settings=None, amqp_settings=None, listener_settings=None, on=None):
        self.folder = folder
        on = on or {}
        self.logger = Part("logger", folder, on.get("logger", {}))
        peers = {"FLEXI_PEERS_LOGGER": self.logger.gate_url, "FLEXI_PEERS_ORDER": "http"}
        self.mail = Part("mail", folder, peers | on.get("mail", {})) if mail else None
        self.authentication = Part("authentication", folder, peers | on["authentication"]) if "authentication" in on else None
        if mail:
            peers["FLEXI_PEERS_MAIL"] = self.mail.gate_url
        if self.authentication:
            peers["FLEXI_PEERS_AUTHENTICATION"] = self.authentication.gate_url
        quick = {"FLEXI_QUEUE_RETRY_DELAY": "50ms", "FLEXI_QUEUE_MAX_RETRY_DELAY": "500ms"}
        rabbit = {}
        if amqp_url:
            rabbit = {"FLEXI_AMQP_URL": amqp_url, "FLEXI_AMQP_RETRY_DELAY": "100ms", "FLEXI_AMQP_RETRY_FACTOR": 2,
                      "FLEXI_AMQP_MAX_RECONNECT_DELAY": "500ms"}
        self.broker = Part("broker", folder, peers | quick | rabbit | (queue_settings or {}) | (amqp_settings or {}))
        self.listeners = [Part("listener", folder, peers | rabbit | (listener_settings or {}), f"listener-{number}") for number in range(listeners if amqp_url else 0)]

    @property
    def parts(self):
        return [part for part in (self.logger, self.mail, self.authentication, self.broker, *self.listeners) if part]

    def start(self):
        for part in self.parts:
            part.start()
        return self

    def stored(self, action="log"):
        """How often each load's marker is stored: {marker: count}, asked of the service itself."""
        part, path, query = (self.logger, "/logs", {"name": "load"}) if action == "log" else (self.mail, "/mails", {})
        counts, cursor = collections.Counter(), None
        with part.client() as client:
            while True:
                page = client.get(path, params=query | {"limit": 500} | ({"cursor": cursor} if cursor else {}))
                assert page.status_code == 200, page.text
                counts.update(entry["data"].split(" ", 1)[0] if action == "log" else entry["subject"] for entry in page.json()["data"])
                cursor = page.json().get("next")
                if not cursor:
                    return counts

    def dead_letters(self):
        with self.broker.client() as client:
            page = client.get("/dlq", params={"limit": 500})
            assert page.status_code == 200, page.text
            return page.json()["data"]

    def check(self, *loads, dead=0):
        """Of all that was ever sent: lost 0, doubled 0, dead-lettered without reason 0."""
        for load in loads:
            load.settle(self.broker)
        for action in {load.action for load in loads}:
            self.check_stored(action, [load for load in loads if load.action == action])
        letters = self.dead_letters()
        assert [letter for letter in letters if not letter["reason"]] == []
        assert len(letters) == dead, letters[:3]

    def check_stored(self, action, loads):
        accepted, sent = set().union(*(load.accepted for load in loads)), set().union(*(load.sent for load in loads))
        eventually(lambda: not accepted - self.stored(action).keys(), f"every accepted {action} is stored", seconds=120, interval=0.5)
        # A copy may still be on its way.
        eventually(self.queue_is_empty, "nothing waits", seconds=120)
        counts = self.stored(action)
        assert [marker for marker, count in counts.items() if count != 1] == [], f"{action}s doubled in the store"
        assert counts.keys() <= sent, "nothing that nobody sent"

    def queue_is_empty(self):
        with self.broker.client() as client:
            queue = client.get("/system").json()["data"]["queue"]
        return queue.get("depth") == 0

    def close(self):
        problems = []
        for part in filter(None, (self.broker, *self.listeners, self.mail, self.authentication, self.logger)):
            try:
                part.close()
            except BaseException as problem:  # the others must end too
                problems.append(problem)
        if problems:
            raise problems[0]

    def log(self):
        return "\n".join(part.log() for part in self.parts)
