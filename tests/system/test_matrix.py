# SPDX-License-Identifier: Apache-2.0
"""Three actions × ways in × ways on × acknowledgements: every cell that DESIGN.md allows works and leaves exactly one stored thing, the
others are refused. docs/matrix.md is what was seen; `make matrix` writes it anew."""

import os
import uuid

import pytest
import ways_in
from conftest import EXAMPLE_USER, ROOT, all_logs, eventually

MATRIX = ROOT / "docs/matrix.md"
ACTIONS = ["log", "mail", "auth"]
ACKS = ["accepted", "stored"]
ON = ["inproc", "http", "grpc", "rpc", "amqp", "auto"]
WRITE = os.environ.get("FLEXI_WRITE_MATRIX") == "1"

HEAD = """# The matrix

Every action by every way in and every way on, with each acknowledgement. This file is what a test saw
(`tests/system/test_matrix.py`, which fails where it differs; `make matrix` writes it anew), driven by httpx, grpcio, pika
and Cap'n Proto's own library. A cell names the way that the answer named, and means: the answer was a success, and
exactly one thing was stored, under the caller's id. **400** is the refusal of what can't be promised: authentication is
never only `accepted`.
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
    parts = text.split("\n## ")
    published = {part.split("\n", 1)[0]: "## " + part.rstrip() for part in parts[1:]}
    if WRITE:
        published[title] = seen.rstrip()
        order = [name for name in TITLES if name in published]
        MATRIX.write_text(HEAD.rstrip() + "\n\n" + "\n\n".join(published[name] for name in order) + "\n")
    assert published.get(title, "").split("\n") == seen.rstrip().split("\n"), "docs/matrix.md differs from what was seen: make matrix"


EMBEDDED, RABBITMQ = "One process, embedded queue", "One process, RabbitMQ"
TITLES = [EMBEDDED, RABBITMQ]


def test_with_the_embedded_queue(make_instance):
    compare(EMBEDDED, section(EMBEDDED, make_instance().start()))


def test_with_rabbitmq(make_instance, vhost):
    instance = make_instance(settings={"FLEXI_AMQP_URL": vhost.url}).start()
    with instance.client() as client:
        eventually(lambda: client.get("/system").json()["data"]["queue"].get("queues"), "RabbitMQ is reached", seconds=60)
        eventually(lambda: client.get("/readyz").status_code == 200, "everything is ready", seconds=60)
    compare(RABBITMQ, section(RABBITMQ, instance, vhost.url))


def test_the_whole_matrix_is_published():
    """Every way in, with every way on, is in the file."""
    text = MATRIX.read_text()
    assert [part.split("\n", 1)[0] for part in text.split("\n## ")[1:]] == TITLES
    for title, part in zip(TITLES, text.split("\n## ")[1:]):
        assert [line.removeprefix("### In by ") for line in part.splitlines() if line.startswith("### ")] == ["http", "grpc", "rpc"] + (["amqp"] if title == RABBITMQ else [])
        assert part.count(f"| action | ack | {' | '.join(ON)} |") == (4 if title == RABBITMQ else 3)
