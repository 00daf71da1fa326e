# SPDX-License-Identifier: Apache-2.0
"""Three actions × ways in × ways on × acknowledgements: every cell that DESIGN.md allows works and leaves exactly one stored thing, the
others are refused. docs/matrix.md is what was seen; `make matrix` writes it anew."""

import contextlib
import os
import uuid

import httpx
import pytest
import ways_in
from conftest import EXAMPLE_USER, ROOT, all_logs, embedded_only, eventually
from test_custom_actions import Service, ask
from test_receipts import part

MATRIX = ROOT / "docs/matrix.md"
ACTIONS = ["log", "mail", "auth"]
ACKS = ["accepted", "stored"]
pytestmark = embedded_only("starts what it compares itself, with RabbitMQ and without")
ON = ["inproc", "http", "grpc", "rpc", "amqp", "auto"]
WRITE = os.environ.get("FLEXI_WRITE_MATRIX") == "1"

HEAD = """# The matrix

Every action by every way in and every way on, with each acknowledgement. This file is what a test saw
(`tests/system/test_matrix.py`, which fails where it differs; `make matrix` writes it anew), driven by httpx, grpcio, pika
and Cap'n Proto's own library. A cell names the way that the answer named, and means: the answer was a success, and
exactly one thing was stored, under the caller's id. **400** is the refusal of what can't be promised: authentication is
never only `accepted`. Of separate processes, `amqp` → names the transport by which the listener went on, as the service's own
figures show.
"""


def payload_of(action, unique):
    return {"log": {"name": unique, "data": "matrix"}, "mail": {"from": "me@example.com", "to": "you@example.com", "subject": unique, "message": "Hello"},
            "auth": EXAMPLE_USER}[action]


def allowed(action, ack):
    return not (action == "auth" and ack == "accepted")


class Store:
    """What one instance has stored, read by HTTP."""

    def __init__(self, client):
        self.client = client
        self.kept = {"log": [], "mail": []}  # what was sent, each by its unique name

    def logins(self):
        return sum(entry["data"] == f"{EXAMPLE_USER['email']} logged in" for entry in all_logs(self.client, name="authentication"))

    def mails(self):
        found, cursor = [], None
        while True:
            body = self.client.get("/mails", params={"limit": 500} | ({"cursor": cursor} if cursor else {})).json()
            found += body["data"]
            if not (cursor := body.get("next")):
                return found

    def count(self, action, unique):
        if action == "log":
            return len(all_logs(self.client, name=unique))
        if action == "mail":
            return sum(mail["subject"] == unique for mail in self.mails())
        return self.logins()


def check_all(store):
    """In the end, whatever came late: each once."""
    logs = [entry["name"] for entry in all_logs(store.client)]
    mails = [mail["subject"] for mail in store.mails()]
    for sent, found in ((store.kept["log"], logs), (store.kept["mail"], mails)):
        assert all(found.count(unique) == 1 for unique in sent), [unique for unique in sent if found.count(unique) != 1]


def run_cell(caller, store, action, via, ack):
    """What the cell shows."""
    unique = f"m{uuid.uuid4().hex}"
    where = f"{action} by {caller.name}, on by {via}, {ack}"
    before = store.count(action, unique) if action == "auth" else 0
    answer = caller.call(action, payload_of(action, unique), via, ack, unique)
    if not allowed(action, ack):
        assert not answer.ok and answer.kind in ("invalid_argument", ""), (where, answer)
        assert "ack" in answer.message or "accepted" in answer.message, (where, answer)
        return "**400**"
    assert answer.ok, (where, answer)
    if via != "auto":
        assert answer.way_name == via, (where, answer)
    if action == "auth":
        assert answer.data["email"] == EXAMPLE_USER["email"], (where, answer)
    if ack == "stored" and action != "auth":
        assert store.count(action, unique) == 1, f"{where}: stored means readable at once"
    # The entry about a login may follow its answer.
    eventually(lambda: store.count(action, unique) == before + 1, f"{where}: one is stored")
    if action != "auth":
        store.kept[action].append(unique)
        again = caller.call(action, payload_of(action, unique), via, ack, unique)
        assert again.ok, (where, again)
        assert store.count(action, unique) == 1, f"{where}: the same id again is stored once"
    return f"`{answer.way_name}`"


def table_of(caller, store, ways_on):
    lines = [f"| action | ack | {' | '.join(ways_on)} |", "|---|---|" + "---|" * len(ways_on)]
    for action in ACTIONS:
        for ack in ACKS:
            lines.append(f"| {action} | {ack} | " + " | ".join(run_cell(caller, store, action, via, ack) for via in ways_on) + " |")
    return lines


def ways_on_of(client):
    """Those that the instance has for logs."""
    rows = client.get("/system").json()["data"]["actions"]
    there = {way["via"] for row in rows if row["action"] == "log" for way in row["ways"]} | {"auto"}
    return [via for via in ON if via in there]


def section(title, instance, amqp_url=None):
    text = [f"## {title}", ""]
    callers = ways_in.all_ways_in(instance, amqp_url)
    try:
        with instance.client() as client:
            store = Store(client)
            for caller in callers:
                text += [f"### In by {caller.name}", "", *table_of(caller, store, ways_on_of(client)), ""]
            eventually(lambda: client.get("/system").json()["data"]["queue"].get("depth") == 0, "the queue is empty")
            check_all(store)
            assert client.get("/dlq").json()["data"] == []
    finally:
        for caller in callers:
            caller.close()
    return "\n".join(text)


def compare(title, seen):
    """The section of the published file, or writes it."""
    text = MATRIX.read_text() if MATRIX.exists() else HEAD
    published = {section.split("\n", 1)[0]: "## " + section.rstrip() for section in text.split("\n## ")[1:]}
    if WRITE:
        published[title] = seen.rstrip()
        order = [name for name in TITLES if name in published]
        MATRIX.write_text(HEAD.rstrip() + "\n\n" + "\n\n".join(published[name] for name in order) + "\n")
    assert published.get(title, "").split("\n") == seen.rstrip().split("\n"), "docs/matrix.md differs from what was seen: make matrix"


def metric(url, name):
    """The sum over its labels."""
    lines = httpx.get(url + "/metrics", trust_env=False, timeout=30).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{"))


class Cluster:
    """Broker, authentication, logger and mail, each a process of its own that the others reach by every transport; listeners come and go."""

    def __init__(self, running, folder, amqp_url, **settings):
        self.running, self.folder, self.settings = running, folder, {"FLEXI_AMQP_URL": amqp_url} | settings
        self.ends = {}
        self.peers = {}
        for role in ("logger", "mail", "authentication"):
            _, self.ends[role] = running.enter_context(part(folder / role, role, **self.peers))
            self.peers[f"FLEXI_PEERS_{role.upper()}"] = ",".join(self.ends[role][via] for via in BY_LISTENER)
        _, ends = running.enter_context(part(folder / "broker", "broker", **self.peers | self.settings))
        self.url = ends["http"]
        with self.client() as client:
            eventually(lambda: client.get("/readyz").status_code == 200, "the broker is ready", seconds=60)

    def client(self):
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def listener(self, via):
        return part(self.folder / f"listener-{via}", "listener", FLEXI_PEERS_ORDER=via, **self.peers | self.settings)

    def called(self):
        """How often the services were called, all together; by HTTP they are asked for this, too."""
        return {via: sum(metric(ends["http"], f"flexi_{via}_{what}_total") for ends in self.ends.values()) for via, what in (("grpc", "requests"), ("rpc", "calls"))}


def cluster_section(cluster):
    caller = ways_in.Http(cluster)
    cells = {}
    with cluster.client() as client:
        store = Store(client)

        def column(title, via, mark=""):
            cells[title] = [run_cell(caller, store, action, via, ack) + (mark if allowed(action, ack) else "") for action in ACTIONS for ack in ACKS]

        for via in BY_LISTENER:
            with cluster.listener(via):
                before = cluster.called()
                column(f"amqp, listener by {via}", "amqp", f" → `{via}`")
                eventually(lambda: client.get("/system").json()["data"]["queue"].get("depth") == 0, "the queue is empty")
                after = cluster.called()
                assert {other for other in before if after[other] > before[other]} == {via} - {"http"}, (via, before, after)
                if via == BY_LISTENER[-1]:
                    for direct in [*BY_LISTENER, "auto"]:
                        column(direct, direct)
                    eventually(lambda: client.get("/system").json()["data"]["queue"].get("depth") == 0, "the queue is empty")
        check_all(store)
        assert client.get("/dlq").json()["data"] == []
    caller.close()
    titles = [*BY_LISTENER, *(f"amqp, listener by {via}" for via in BY_LISTENER), "auto"]
    rows = [f"| {action} | {ack} | " for action in ACTIONS for ack in ACKS]
    table = [row + " | ".join(cells[title][number] for title in titles) + " |" for number, row in enumerate(rows)]
    return "\n".join([f"## {SEPARATE}", "", "### In by http", "", f"| action | ack | {' | '.join(titles)} |", "|---|---|" + "---|" * len(titles), *table, ""])


BY_LISTENER = ["http", "grpc", "rpc"]  # FLEXI_PEERS_ORDER of the listener
EMBEDDED, RABBITMQ, SEPARATE = "One process, embedded queue", "One process, RabbitMQ", "Separate processes, RabbitMQ"
TITLES = [EMBEDDED, RABBITMQ, SEPARATE]


def test_with_the_embedded_queue(make_instance):
    compare(EMBEDDED, section(EMBEDDED, make_instance().start()))


def test_with_rabbitmq(make_instance, vhost):
    instance = make_instance(settings={"FLEXI_AMQP_URL": vhost.url}).start()
    with instance.client() as client:
        eventually(lambda: client.get("/system").json()["data"]["queue"].get("queues"), "RabbitMQ is reached", seconds=60)
        eventually(lambda: client.get("/readyz").status_code == 200, "everything is ready", seconds=60)
    compare(RABBITMQ, section(RABBITMQ, instance, vhost.url))


def test_with_separate_processes_and_rabbitmq(tmp_path, vhost):
    with contextlib.ExitStack() as running:
        compare(SEPARATE, cluster_section(Cluster(running, tmp_path, vhost.url)))


def test_an_action_of_ones_own_by_rabbitmq_and_the_listener(tmp_path, vhost, unique):
    """To an HTTP service that is not ours: the broker's process only queues it, the listener's calls the service."""
    own = Service()
    with contextlib.ExitStack() as running, contextlib.closing(own):
        cluster = Cluster(running, tmp_path, vhost.url, FLEXI_ACTIONS_DO_URL=own.url)
        with cluster.client() as client:
            accepted = ask(client, {"a": "größer"}, via="amqp", ack="accepted", headers={"Idempotency-Key": unique})
            assert accepted.status_code == 202 and accepted.headers["x-flexi-way"] == "amqp", accepted.text
            assert own.requests == [], "nobody has taken it from the queue yet"
            with cluster.listener("http"):
                stored = ask(client, {"a": 2}, via="amqp", ack="stored")
                assert stored.status_code == 202 and stored.json()["data"]["by"] == "service", stored.text
                eventually(lambda: len(own.requests) == 2, "both arrived")
            assert sorted(own.ids()) == sorted([accepted.headers["x-flexi-id"], stored.headers["x-flexi-id"]]), "each once, under its id"


def test_the_whole_matrix_is_published():
    """Every way in, with every way on, is in the file."""
    text = MATRIX.read_text()
    assert [section.split("\n", 1)[0] for section in text.split("\n## ")[1:]] == TITLES
    for title, section in zip(TITLES, text.split("\n## ")[1:]):
        ways = {EMBEDDED: ["http", "grpc", "rpc"], RABBITMQ: ["http", "grpc", "rpc", "amqp"], SEPARATE: ["http"]}[title]
        assert [line.removeprefix("### In by ") for line in section.splitlines() if line.startswith("### ")] == ways
        if title != SEPARATE:
            assert section.count(f"| action | ack | {' | '.join(ON)} |") == len(ways)
        else:
            assert all(section.count(f"→ `{via}`") == 5 for via in BY_LISTENER)
