# SPDX-License-Identifier: Apache-2.0
"""A swarm of the tests' own: nodes are Docker engines in network namespaces (engine.py), a cable between them can be cut. All of it ends with the tests."""

import contextlib
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import images  # noqa: E402
import open_loop  # noqa: E402
from engine import KEPT, ROOT, Engine, end, with_parent  # noqa: E402

STACK = "flexiconnect"
PAGE, BROKER = "localhost", "backend.localhost"
SERVICES = ("front-end", "authentication-service", "logger-service", "mail-service", "listener-service", "broker-service")


def eventually(condition, what, seconds=60, interval=0.5):
    """The first true value of `condition()`; fails with its last value when `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}; last: {value!r}"
        time.sleep(interval)


class Wire:
    """What the nodes' network is: a bridge in a namespace of its own, which is gone with its process."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], preexec_fn=with_parent)
        eventually(lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != os.readlink("/proc/self/ns/net"), "a namespace for the bridge", 10, 0.01)
        self.run("ip", "link", "add", "bridge0", "type", "bridge")
        self.run("ip", "link", "set", "bridge0", "up")

    def run(self, *words, pid=None):
        subprocess.run(["nsenter", "--target", str(pid or self.holder.pid), "--net", *words], check=True)

    def attach(self, pid, number):
        """@return the address that the node has on the wire"""
        subprocess.run(["ip", "link", "add", "wire", "netns", str(pid), "type", "veth", "peer", "name", f"node{number}", "netns", str(self.holder.pid)], check=True)
        self.run("ip", "link", "set", f"node{number}", "master", "bridge0", "up")
        self.run("ip", "address", "add", f"10.199.0.{number}/24", "dev", "wire", pid=pid)
        self.run("ip", "link", "set", "wire", "up", pid=pid)
        return f"10.199.0.{number}"

    def set(self, number, state):
        self.run("ip", "link", "set", f"node{number}", state)

    def close(self):
        end(self.holder, 5)


class Node:
    """A Docker engine on the wire."""

    def __init__(self, wire, number, kept=KEPT):
        self.number = number
        self.engine = Engine(kept=kept)
        self.engine.__enter__()
        self.pid = self.engine.daemon.pid
        self.address = wire.attach(self.pid, number)

    def close(self):
        self.engine.run("docker", "swarm", "leave", "--force", capture_output=True)
        self.engine.run("sh", "-c", f"docker volume ls -q --filter label=com.docker.stack.namespace={STACK} | xargs -r docker volume rm", capture_output=True)
        self.engine.__exit__(None, None, None)

    def docker(self, *words, check=True, **how):
        done = self.engine.run("docker", *map(str, words), capture_output=True, text=True, **how)
        assert done.returncode == 0 or not check, f"docker {' '.join(map(str, words))}: {done.stderr or done.stdout}"
        return done.stdout.strip()

    def containers(self, service):
        return [Container(self, name) for name in self.docker("ps", "-q", "--filter", f"label=com.docker.swarm.service.name={STACK}_{service}").split()]


class Container:
    def __init__(self, node, name):
        self.node, self.name = node, name
        self.pid = node.docker("inspect", "--format", "{{.State.Pid}}", name)

    def curl(self, url, *words):
        """By this machine's curl, in the container's network."""
        return subprocess.run(["nsenter", "--target", self.pid, "--net", "curl", "-sS", "--max-time", "5", *words, url], capture_output=True, text=True).stdout

    def metric(self, name, token):
        lines = self.curl("http://127.0.0.1/metrics", "-H", f"Authorization: Bearer {token}").splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{")))

    def ran(self, *words):
        return subprocess.run(self.node.engine.inside("docker", "exec", self.name, *words), env=self.node.engine.environment(), capture_output=True, text=True)


class Cluster:
    """The stack on a swarm of one node, to which others may come. Its images are flexiconnect/<service>:one and :two."""

    def __init__(self):
        self.closing = contextlib.ExitStack()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="flexi-swarm-"))
        self.closing.callback(shutil.rmtree, self.folder, ignore_errors=True)
        try:
            self.begin()
        except BaseException:
            self.closing.close()
            raise

    def begin(self):
        self.wire = Wire()
        self.closing.callback(self.wire.close)
        self.first = self.add_node(1)
        for tag in ("one", "two"):
            for target in images.TARGETS:
                self.build(f"flexiconnect/{target}:{tag}", f"FROM {images.name_of(target)}\nLABEL of.this.test={tag}\n")
        self.make("swarm-init", f"ADDRESS={self.first.address}")
        self.make("swarm-deploy", "TAG=one")
        self.token = (self.folder / "secrets/admin_token").read_text().strip()
        eventually(lambda: self.call("POST", "/handle", {"action": "log", "ack": "stored", "log": {"name": "first", "data": "entry"}})[0] == 202, "a stored entry")

    def add_node(self, number, kept=KEPT):
        node = Node(self.wire, number, kept)
        self.closing.callback(node.close)
        return node

    def build(self, tag, dockerfile, node=None):
        (node or self.first).engine.run("docker", "build", "--quiet", "--tag", tag, "-", input=dockerfile, text=True, check=True, stdout=subprocess.DEVNULL)

    def make(self, target, *settings, check=True):
        """A Make target of the swarm's, as an operator calls it. @return what it said"""
        words = ["make", "--no-print-directory", target, f"SECRETS={self.folder}/secrets", "PUBLISH_MODE=host", "EXAMPLE_USER=yes", "WAIT=180", f"FILES={HERE}/swarm-override.yml",
                 *settings]
        done = self.first.engine.run(*words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0 or not check, f"{' '.join(words)}\n{done.stdout}"
        return done.stdout if check else (done.returncode, done.stdout)

    def call(self, method, path, body=None, host=BROKER, node=None):
        """Through the proxy. @return (status, JSON or text); status 0: no answer"""
        node = node or self.first
        words = ["curl", "-sk", "--max-time", "12", "--resolve", f"{host}:443:{node.address}", "-X", method, "-H", f"Authorization: Bearer {self.token}",
                 "-w", "\n%{http_code}", f"https://{host}{path}"]
        if body is not None:
            words += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        said, _, status = node.engine.run(*words, capture_output=True, text=True).stdout.rpartition("\n")
        with contextlib.suppress(ValueError):
            said = json.loads(said)
        return int(status or 0), said

    def entries(self, mark):
        """The data of all stored log entries of that name, from MongoDB itself: the logger would have it sort them page by page."""
        [server] = self.first.containers("mongo")
        uri = (self.folder / "secrets/mongo_uri").read_text().strip().replace("@mongo:", "@127.0.0.1:")
        read = "import pymongo, sys; print(*(e['data'] for e in pymongo.MongoClient(sys.argv[1]).logs.logs.find({'name': sys.argv[2]})), sep='\\n')"
        done = subprocess.run(["nsenter", "--target", server.pid, "--net", "/usr/bin/python3", "-c", read, uri, mark], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    def mails(self):
        """The subjects of all mails that were caught."""
        [catcher] = self.first.containers("mailhog")
        return [mail["Subject"] for mail in json.loads(catcher.curl("http://127.0.0.1:8025/api/v1/messages?limit=10000"))["messages"]]

    def image_of(self, service):
        return self.first.docker("service", "inspect", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Image}}", f"{STACK}_{service}")

    @contextlib.contextmanager
    def load(self, rate=20, logins=0.5):
        """A constant load through the proxy while the block runs; then `.lines` has what came of each request."""
        load = Load(self, rate, logins)
        try:
            yield load
        finally:
            load.stop()

    def close(self):
        self.closing.close()


class Load:
    def __init__(self, cluster, rate, logins):
        self.cluster, self.mark = cluster, "m" + secrets.token_hex(4)
        self.out = cluster.folder / f"{self.mark}.jsonl"
        at = f"https://{cluster.first.address}"
        command = ["/usr/bin/python3", HERE / "open_loop.py", "--rate", rate, "--logins", logins, "--mark", self.mark, "--broker", at, "--host", BROKER, "--page", at,
                   "--page-host", PAGE, "--out", self.out]
        self.process = subprocess.Popen(cluster.first.engine.inside(*command), preexec_fn=with_parent)
        self.lines = None

    def stop(self):
        if self.lines is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
            self.lines = open_loop.lines_of(self.out)

    def settled(self):
        """Once what was accepted is stored, too. @return {"accepted", "lost", "doubled"} of logs, and of mails"""
        def of(kinds, stored):
            return open_loop.stored_once(self.lines, stored, kinds)

        logs, mails = ("log", "stored", "grpc", "rpc"), ("mail",)
        with contextlib.suppress(AssertionError):
            eventually(lambda: not of(logs, self.cluster.entries(self.mark))["lost"], "all entries", 60, 2)
        return of(logs, self.cluster.entries(self.mark)), of(mails, self.cluster.mails())
