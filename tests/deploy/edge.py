# SPDX-License-Identifier: Apache-2.0
"""Caddy with deploy/Caddyfile, as in a container but on free ports, before processes of the product."""

import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import threading

import httpx

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/chaos"), str(ROOT / "tests/support")]

from parts import BINARY, eventually  # noqa: E402
from rabbitmq import Ports  # noqa: E402

CADDYFILE = ROOT / "deploy/Caddyfile"
CADDY = os.environ.get("FLEXI_TEST_CADDY") or shutil.which("caddy") or "caddy"  # another version than the package's
PAGE, BACKEND = "localhost", "backend.localhost"
STOP_SECONDS = 15


def cannot_send_again():
    """What this Caddy can't do, in words for the last lines of a run."""
    version = subprocess.run([CADDY, "version"], capture_output=True, text=True).stdout.strip().removeprefix("v")
    old = version.startswith(tuple(f"2.{minor}." for minor in range(7)))
    return f"not run: a message's body sent on to the next address (Caddy {version} can't; FLEXI_TEST_CADDY names a newer one)" if old else ""


class Caddy:
    """`.client(site)` asks it over TLS; `.dns` (a Dns) answers for the upstreams' names, where it is given."""

    def __init__(self, folder, settings=None, dns=None):
        folder.mkdir(parents=True)
        self.folder, self.dns, self.ports = folder, dns, Ports()
        self.http, self.https, self.status = (self.ports.take() for _ in range(3))
        own = {"HTTP_PORT": self.http, "HTTPS_PORT": self.https, "STATUS_PORT": self.status, "HOME": folder, "XDG_DATA_HOME": folder / "data",
               "XDG_CONFIG_HOME": folder / "config", "PATH": os.environ["PATH"]}
        self.environment = {name: str(value) for name, value in (own | (settings or {})).items()}
        self.process = None

    def run(self, *words):
        return subprocess.run([CADDY, *words, "--config", str(CADDYFILE), "--adapter", "caddyfile"], env=self.environment, capture_output=True, text=True, timeout=30)

    def adapted(self):
        done = self.run("adapt")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self):
        config = self.adapted()
        if self.dns:
            self.dns.answer_for(config)
        for server in config["apps"]["http"]["servers"].values():
            server["listen"] = [f"127.0.0.1{address}" for address in server["listen"]]
        (self.folder / "config.json").write_text(json.dumps(config))
        with (self.folder / "log.jsonl").open("wb") as log:
            self.process = subprocess.Popen([CADDY, "run", "--config", str(self.folder / "config.json")], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually(self.answers, "Caddy answers", seconds=30, interval=0.05)
        eventually(lambda: self.root.exists() and self.can_greet(), "Caddy has its certificates", seconds=30, interval=0.05)
        return self

    @property
    def root(self):
        return self.folder / "data/caddy/pki/authorities/local/root.crt"

    def answers(self):
        assert self.process.poll() is None, self.log()
        try:
            return httpx.get(f"http://127.0.0.1:{self.status}/healthz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def can_greet(self):
        try:
            for site in (PAGE, BACKEND):
                with self.client(site) as client:
                    client.get("/ping")
            return True
        except httpx.TransportError:
            return False

    def client(self, site=BACKEND, **options):
        return httpx.Client(base_url=f"https://{site}:{self.https}", verify=str(self.root), timeout=20, trust_env=False, **options)

    def curl(self, site, path, *words):
        return subprocess.run(["curl", "--silent", "--show-error", "--cacert", str(self.root), "--resolve", f"{site}:{self.https}:127.0.0.1", *words,
                               f"https://{site}:{self.https}{path}"], capture_output=True, text=True, timeout=30)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise

    def log(self):
        return (self.folder / "log.jsonl").read_text(errors="replace")

    def accesses(self):
        return [line for line in map(json.loads, self.log().splitlines()) if line.get("logger", "").startswith("http.log.access")]


def locally(host, *more, resolve=socket.getaddrinfo, **options):
    """Names that are for this machine or for tests alone, which not every resolver knows."""
    return resolve("127.0.0.1" if str(host).endswith((".localhost", ".test")) else host, *more, **options)


socket.getaddrinfo = locally


class Dns:
    """Answers every A question with `addresses`, which a test may change, as a cluster's does when a service is scaled."""

    def __init__(self, addresses):
        self.addresses = list(addresses)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                question, asker = self.socket.recvfrom(512)
            except OSError:
                return
            end = question.index(b"\0", 12) + 5
            kind = struct.unpack("!H", question[end - 4:end - 2])[0]
            addresses = self.addresses if kind == 1 else []
            answers = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + socket.inet_aton(address) for address in addresses)
            self.socket.sendto(question[:2] + struct.pack("!HHHHH", 0x8180, 1, len(addresses), 0, 0) + question[12:end] + answers, asker)

    def answer_for(self, config):
        """Puts itself in the place of the container network's resolver."""
        found = list(values_of(config, "dynamic_upstreams"))
        assert found, "the upstreams are found by name"
        for upstreams in found:
            upstreams["resolver"] = {"addresses": [f"udp/127.0.0.1:{self.socket.getsockname()[1]}"]}

    def close(self):
        self.socket.close()


def values_of(tree, key):
    """Every value that stands under `key`, however deep."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key:
                yield value
            yield from values_of(value, key)
    elif isinstance(tree, list):
        for value in tree:
            yield from values_of(value, key)


if __name__ == "__main__":
    if why := cannot_send_again():
        print(why)
