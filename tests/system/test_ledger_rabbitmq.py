# SPDX-License-Identifier: Apache-2.0
"""Receipts and the ledger where messages go through RabbitMQ: all in one process, and a cluster of which parts die."""

import json
import random
import uuid

import pytest
from amqp_support import Foreign, ready, settings
from conftest import all_logs, envelope, eventually, post_log
from test_durability import DIRECT, QUEUE, QUEUE_STORED, Load
from test_receipts import at_rest, ledger, line, receipt

# What nobody has any more shows within a few seconds, instead of minutes.
WATCHFUL = {"FLEXI_AMQP_ATTEMPT_TIMEOUT": "500ms", "FLEXI_AMQP_PREFETCH": "10", "FLEXI_AMQP_CONCURRENCY": "10", "FLEXI_AMQP_HEARTBEAT": "1s"}
NO_OTHER_PORTS = {"FLEXI_GRPC_LISTEN": "", "FLEXI_RPC_LISTEN": ""}
# A message whose service is down waits for it, or is given up on.
PATIENT = {"FLEXI_AMQP_RETRY_DELAY": "200ms", "FLEXI_AMQP_MAX_ATTEMPTS": "1000"}


def accepted(client, data, **fields):
    """A log handed to RabbitMQ; its id."""
    answer = post_log(client, "published", data, via="amqp", ack="accepted", **fields)
    envelope(answer, 202)
    assert answer.headers["x-flexi-way"] == "amqp"
    return answer.headers["x-flexi-id"]


def sent_mail(client, subject, **headers):
    mail = {"action": "mail", "via": "amqp", "ack": "accepted", "mail": {"to": "you@example.com", "subject": subject, "message": "m"}}
    answer = client.post("/handle", json=mail, headers=headers)
    envelope(answer, 202)
    assert answer.headers["x-flexi-way"] == "amqp"
    return answer.headers["x-flexi-id"]


def until(client, what, seconds=60, **fields):
    """The ledger once these are so, and it adds up."""
    def found():
        read = ledger(client)
        return read if read["adds_up"] and all(read[name] == value for name, value in fields.items()) else None
    return eventually(found, f"{what}: {fields}", seconds=seconds, interval=0.1)


def told(client, message, state, seconds=60):
    """The message's receipt once it says so, and somebody can be asked."""
    def found():
        answer = client.get(f"/receipts/{message}")
        return answer.json()["data"] if answer.status_code == 200 and answer.json()["data"]["state"] == state else None
    return eventually(found, f"it is {state}", seconds=seconds, interval=0.2)


class Cluster:
    """Broker, logger and mail apart, each behind a gate that stays where it is when the process dies; a listener."""

    def __init__(self, make_instance, make_gate, url, **more):
        self.make_instance = make_instance
        self.gates = {role: make_gate(("127.0.0.1", 1)) for role in ("logger", "mail")}
        self.peers = {f"FLEXI_PEERS_{role.upper()}": f"http://127.0.0.1:{gate.port}" for role, gate in self.gates.items()}
        self.common = settings(url, **self.peers, **more)
        self.parts = {role: make_instance(role=role, settings={"FLEXI_STORAGE": "embedded", "FLEXI_PEERS_LOGGER": self.peers["FLEXI_PEERS_LOGGER"]}) for role in self.gates}
        self.parts["broker"] = make_instance(role="broker", settings=self.common)
        self.parts["listener"] = make_instance(role="listener", settings=self.common | NO_OTHER_PORTS)

    def start(self, *roles):
        for role in roles:
            instance = self.parts[role].start()
            if role in self.gates:
                self.gates[role].target = ("127.0.0.1", instance.port)
            if role in ("broker", "listener"):
                ready(instance)
        return self

    def start_all(self):
        return self.start("logger", "mail", "broker", "listener")

    def kill(self, role):
        self.parts[role].kill()

    def client(self):
        return self.parts["broker"].client()


@pytest.fixture
def cluster(make_instance, make_gate, vhost):
    def make(**more):
        return Cluster(make_instance, make_gate, vhost.url, **more)

    return make


def test_all_in_one_process_it_adds_up(make_instance, vhost, unique):
    instance = ready(make_instance(settings=settings(vhost.url)).start())
    with instance.client() as client, Foreign(vhost.url) as other:
        assert ledger(client)["not_asked"] == []
        messages = [accepted(client, f"{unique}{number}") for number in range(20)]
        for number in range(5):
            for _ in range(2):  # twice: one message, one duplicate
                envelope(post_log(client, "stored", unique, headers={"Idempotency-Key": f"{unique}s{number}"}, via="amqp", ack="stored"), 202)
                envelope(post_log(client, "accepted", unique, headers={"Idempotency-Key": f"{unique}a{number}"}, via="amqp"), 202)
        envelope(post_log(client, "direct", unique, via="http", ack="stored"), 202)
        mail = sent_mail(client, unique)
        for number in range(3):
            other.publish("logs_topic", "log.INFO", {"name": "foreign", "data": f"{unique}{number}"}, delivery_mode=2)
        eventually(lambda: len(all_logs(client, name="foreign")) == 3, "the foreign ones are stored")
        read = at_rest(client)
        assert read["adds_up"] and read["unaccounted"] == 0 and read["not_asked"] == [], read
        logs = line(read, "log", "amqp")
        assert logs["accepted"] == logs["stored"] == 20 + 10 + 3 and logs["duplicates"] == 10, logs
        assert line(read, "mail", "amqp")["stored"] == 1
        for message in (messages[0], mail):
            found = receipt(client, message)
            assert found["state"] == "stored" and found["way"] == "amqp"
            assert [hop["at"] for hop in found["hops"]][:4] == ["broker", "broker>amqp", "rabbitmq", "listener"]
        # A mail that its owner deletes at once was stored all the same.
        fleeting = uuid.uuid4().hex
        sent_mail(client, "fleeting", **{"Idempotency-Key": fleeting})
        eventually(lambda: client.delete(f"/mails/{fleeting}").status_code == 200, "it is there, and deleted", interval=0.001)
        read = at_rest(client)
        assert read["adds_up"] and line(read, "mail", "amqp")["accepted"] == 2


def test_messages_wait_in_rabbitmq_while_a_part_is_down(cluster, unique):
    system = cluster(**PATIENT).start_all()
    with system.client() as client:
        messages = [accepted(client, f"{unique}{number}") for number in range(10)]
        read = until(client, "all are stored", in_flight=0, stored=10)
        assert read["not_asked"] == []
        # Nobody takes them out.
        system.kill("listener")
        waiting = [accepted(client, f"{unique}w{number}") for number in range(20)] + [sent_mail(client, unique)]
        read = ledger(client)
        assert read["adds_up"] and read["in_flight"] == 21 and read["accepted"] == 31 and read["not_asked"] == [], read
        for message in waiting:
            found = receipt(client, message)
            assert (found["state"], found["where"], found["way"]) == ("queued", "rabbitmq", "amqp"), found
            assert found["at"] >= found["accepted_at"]
        assert receipt(client, messages[0])["state"] == "stored"
        assert receipt(client, "never-seen")["state"] == "unknown"
        # They are taken out, and their service is down.
        system.kill("logger")
        system.start("listener")
        told(client, waiting[-1], "stored")
        found = receipt(client, waiting[0])
        assert found["state"] == "queued" and found["where"] == "rabbitmq" and found["not_asked"] == ["logger"], found
        read = ledger(client)
        assert read["not_asked"] == ["logger"] and not read["adds_up"]
        assert read["in_flight"] == 20 and read["unaccounted"] == 0, "what waits is nobody's loss, whoever can't be asked"
        system.start("logger")
        read = until(client, "all are stored", in_flight=0)
        # The mail left a log entry, where the logger was there for it.
        assert line(read, "log", "amqp")["stored"] == 30 and line(read, "mail", "amqp")["stored"] == 1
        assert receipt(client, waiting[0])["state"] == "stored"


@pytest.mark.parametrize("transport", ["http", "grpc", "rpc"])
def test_the_logger_is_asked_over_any_transport(make_instance, vhost, unique, transport):
    logger = make_instance(role="logger", settings={"FLEXI_STORAGE": "embedded"}).start()
    started = next(one for one in map(json.loads, logger.log_files[0].read_text().splitlines()) if one["event"] == "ready")
    ends = {end.split(":")[0]: end for end in [started["url"], *started["also"].split()]}
    common = settings(vhost.url, FLEXI_PEERS_LOGGER=ends[transport], FLEXI_PEERS_MAIL="")
    broker = ready(make_instance(role="broker", settings=common).start())
    with broker.client() as client:
        messages = [accepted(client, f"{unique}{number}") for number in range(5)]
        assert ledger(client)["in_flight"] == 5 and receipt(client, messages[0])["state"] == "queued"
        ready(make_instance(role="listener", settings=common | NO_OTHER_PORTS).start())
        read = until(client, "they are stored, and the broker knows", in_flight=0, stored=5)
        assert read["not_asked"] == []
        told(client, messages[0], "stored")


@pytest.mark.parametrize("apart", [False, True], ids=["all-in-one", "cluster"])
def test_it_adds_up_after_the_broker_was_killed_under_load(make_instance, cluster, vhost, apart):
    if apart:
        system = cluster(**PATIENT).start("logger", "mail", "listener")
        broker, ways = system.parts["broker"], [QUEUE, QUEUE | {"ack": "accepted"}, QUEUE_STORED, {"via": "http", "ack": "stored"}]
    else:
        broker, ways = make_instance(settings=settings(vhost.url)), [QUEUE, QUEUE | {"ack": "accepted"}, QUEUE_STORED, DIRECT]
    for _ in range(3):
        ready(broker.start())
        with Load(broker, ways) as load:
            enough = random.randint(200, 500)
            eventually(lambda: len(load.accepted) >= enough, "the load runs", interval=0.002, seconds=60)
            broker.kill()
    ready(broker.start())
    with broker.client() as client:
        read = until(client, "it adds up", seconds=90, in_flight=0, unaccounted=0)
        assert read["not_asked"] == [] and read["dead_lettered"] == 0
        if not apart:
            assert read["stored"] == len(all_logs(client)), "each id is stored once, and counted once"


def test_a_dead_letter_is_told_replayed_and_discarded(cluster, unique):
    system = cluster().start_all()
    with system.client() as client:
        system.kill("logger")
        first, second = accepted(client, unique + "first"), accepted(client, unique + "second")
        for message in (first, second):
            found = told(client, message, "dead_lettered")
            assert found["where"] == "rabbitmq" and found["action"] == "log" and found["attempts"] >= 3, found
            assert found["reason"].startswith("unavailable"), found
            assert found["at"] >= found["accepted_at"]
        system.start("logger")
        read = until(client, "the letters are counted", dead_lettered=2, accepted=2)
        assert line(read, "log", "amqp")["dead_lettered"] == 2
        # The broker dies and remembers.
        system.kill("broker")
        system.start("broker")
    with system.client() as client:
        until(client, "they still are", dead_lettered=2, accepted=2)
        told(client, first, "dead_lettered")
        envelope(client.post(f"/dlq/{first}/replay"), 200)
        until(client, "it is stored now", dead_lettered=1, stored=1, in_flight=0, accepted=2)
        assert receipt(client, first)["state"] == "stored"
        envelope(client.delete(f"/dlq/{second}"), 200)
        read = until(client, "it is discarded", dead_lettered=0, discarded=1, stored=1, in_flight=0, accepted=2)
        assert line(read, "log", "amqp")["discarded"] == 1
        assert receipt(client, second)["state"] == "unknown", "RabbitMQ keeps nothing of it"


def test_what_another_brokers_operator_discards_is_discarded(cluster, make_instance, unique):
    system = cluster(**WATCHFUL).start_all()
    another = ready(make_instance(role="broker", settings=system.common).start())
    with system.client() as client, another.client() as other:
        system.kill("logger")
        message = accepted(client, unique)
        told(client, message, "dead_lettered")
        told(other, message, "dead_lettered")  # any broker finds the letter
        system.start("logger")
        envelope(other.delete(f"/dlq/{message}"), 200)
        until(client, "it is discarded", discarded=1, dead_lettered=0, in_flight=0, accepted=1)


def test_what_is_purged_behind_its_back_is_unaccounted_for(cluster, vhost, unique):
    """Messages go from RabbitMQ's queue by a foreign hand: nobody has them, and the ledger says so, also after a crash."""
    system = cluster(**WATCHFUL).start("logger", "mail", "broker")
    with system.client() as client, Foreign(vhost.url) as other:
        messages = [accepted(client, f"{unique}{number}") for number in range(3)]
        other.publish("logs_topic", "log.INFO", {"name": "foreign", "data": unique})
        read = ledger(client)
        assert read["adds_up"] and read["in_flight"] == 3
        eventually(lambda: other.depth("flexi.log") == 4, "they wait")
        other.channel.queue_purge("flexi.log")
        read = eventually(lambda: (lambda one: one["unaccounted"] == 3 and one)(ledger(client)), "they are missed", seconds=60, interval=0.2)
        assert not read["adds_up"] and read["in_flight"] == 0 and line(read, "log", "amqp")["unaccounted"] == 3
        assert "flexiconnect_ledger_unaccounted 3" in client.get("/metrics").text
        assert receipt(client, messages[0])["state"] == "unknown" and "no queue" in receipt(client, messages[0])["reason"]
        system.kill("broker")
        system.start("broker")
    with system.client() as client:
        assert ledger(client)["in_flight"] == 3, "it looks for as long again"
        eventually(lambda: ledger(client)["unaccounted"] == 3, "they are still missed", seconds=60, interval=0.2)


def test_the_spool_is_in_the_ledger(make_instance, make_gate, vhost, unique):
    gate = make_gate(("127.0.0.1", vhost.server.port))
    instance = ready(make_instance(settings=settings(vhost.url_through(gate))).start())
    with instance.client() as client:
        gate.refuse()
        ways = set()
        for number in range(10):
            answer = post_log(client, "spooled", f"{unique}{number}", via="amqp", ack="accepted")
            envelope(answer, 202)
            ways.add(answer.headers["x-flexi-way"])
            last = answer.headers["x-flexi-id"]
        assert ways == {"amqp;queue=spool"}
        read = ledger(client)
        assert read["adds_up"] and read["in_flight"] == 10 and line(read, "log", "amqp")["in_flight"] == 10, read
        assert receipt(client, last)["state"] == "spooled"
        gate.heal()
        read = until(client, "they are stored", in_flight=0, stored=10)
        assert line(read, "log", "amqp")["stored"] == 10
