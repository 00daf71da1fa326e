# SPDX-License-Identifier: Apache-2.0
"""The narrow places: RabbitMQ has confirmed what was published, and whoever published it dies before its acknowledgement of the original
arrives. A gate lets everything through but acknowledgements, so that the place is hit each time; then kill -9. The message is there
twice by then, and stored once."""

import struct

import pytest
from load import Load
from parts import eventually
from systems import make_system  # noqa: F401  fixture

METHOD_FRAME, BASIC, BASIC_ACK = 1, 60, 80


class Acks:
    """What goes to RabbitMQ, without its basic.ack frames while they are `held`. Source: AMQP 0-9-1, 2.3.5 and 4.2"""

    def __init__(self):
        self.held = False
        self.swallowed = 0

    def connection(self):
        rest, greeted = b"", False

        def through(chunk):
            nonlocal rest, greeted
            rest += chunk
            out = b""
            if not greeted and len(rest) >= 8:  # the protocol header
                out, rest, greeted = rest[:8], rest[8:], True
            while greeted and len(rest) >= 7:
                kind, _, size = struct.unpack(">BHI", rest[:7])
                if len(rest) < size + 8:
                    break
                frame, rest = rest[:size + 8], rest[size + 8:]
                if self.held and kind == METHOD_FRAME and struct.unpack(">HH", frame[7:11]) == (BASIC, BASIC_ACK):
                    self.swallowed += 1
                    continue
                out += frame
            return out

        return through


@pytest.fixture
def acks():
    return Acks()


@pytest.fixture
def start(make_system, vhost, make_gate, acks):  # noqa: F811
    """A system of which one part reaches RabbitMQ through the gate that swallows acknowledgements."""

    def made(part, **settings):
        gate = make_gate(("127.0.0.1", vhost.server.port))
        gate.filter(acks.connection)
        # The same delays for both: they are part of the queues' names.
        own = {f"{one}_settings": {"FLEXI_AMQP_RETRY_DELAY": "2s"} | settings for one in ("amqp", "listener")}
        own[part]["FLEXI_AMQP_URL"] = vhost.url_through(gate)
        return make_system(amqp_url=vhost.url, **own)

    return made


def queues(vhost):
    """{name: (ready, unacknowledged)}"""
    rows = vhost.listed("queues", "name", "messages_ready", "messages_unacknowledged")
    return {row["name"]: (row["messages_ready"], row["messages_unacknowledged"]) for row in rows}


def in_hand(vhost):
    return queues(vhost)["flexi.log"][1]


def send(load, marker, expected=202):
    load.sent.add(marker)
    with load.broker.client() as client:
        answer = client.post("/handle", content=load.body(marker, True), headers={"Content-Type": "application/json"})
    assert answer.status_code == expected, answer.text
    load.accepted.add(marker)


def restart(part, acks):
    part.kill()
    assert acks.swallowed > 0
    acks.held = False
    part.start()


def worked_off(system, count):
    """By the listener that came back: what the other one had in hand, and its copy."""
    eventually(lambda: system.listeners[0].metric("flexi_amqp_acked_total") >= count, "all copies are worked off")


def test_between_the_retry_and_the_acknowledgement(start, vhost, acks):
    system = start("listener_settings")
    load = Load(system.broker)
    system.logger.terminate()
    acks.held = True
    send(load, "m1")
    eventually(lambda: any(ready for name, (ready, _) in queues(vhost).items() if name.startswith("flexi.log.retry")), "it waits for its next try")
    eventually(lambda: acks.swallowed and in_hand(vhost), "and is in hand: it was acknowledged, but for RabbitMQ")
    restart(system.listeners[0], acks)
    system.logger.start()
    worked_off(system, 2)
    system.check(load)


def test_between_the_dead_letter_and_the_acknowledgement(start, vhost, acks):
    """A conflict can never be stored."""
    system = start("listener_settings")
    load = Load(system.broker)
    with system.logger.client() as there:
        assert there.post("/log", json={"name": "other", "data": "taken"}, headers={"Idempotency-Key": "m1"}).status_code == 202
    acks.held = True
    send(load, "m1")
    load.accepted.clear()  # queued it is, but never stored
    eventually(lambda: queues(vhost)["flexi.log.dlq"][0] == 1 and acks.swallowed and in_hand(vhost), "it is a dead letter, and in hand")
    restart(system.listeners[0], acks)
    eventually(lambda: queues(vhost)["flexi.log.dlq"][0] == 2, "it is one twice")
    system.check(load, dead=1)
    (letter,) = system.dead_letters()
    assert letter["id"] == "m1" and "conflict" in letter["reason"]
    with system.broker.client() as client:
        assert client.delete("/dlq/m1").status_code == 200
    assert system.dead_letters() == [], "and both are discarded"


def test_between_the_replay_and_the_acknowledgement(start, vhost, acks):
    system = start("amqp_settings", FLEXI_AMQP_MAX_ATTEMPTS=1)
    load = Load(system.broker)
    system.logger.terminate()
    send(load, "m1")
    eventually(system.dead_letters, "it is a dead letter")
    system.logger.start()
    acks.held = True
    with system.broker.client() as client:
        assert client.post("/dlq/m1/replay").status_code == 200
    restart(system.broker, acks)
    system.check(load, dead=1)
    with system.broker.client() as client:
        assert client.post("/dlq/m1/replay").status_code == 200
    system.check(load)


def test_between_the_answer_and_the_acknowledgement(start, vhost, acks):
    system = start("listener_settings")
    load = Load(system.broker, fields={"via": "amqp", "ack": "stored"})
    acks.held = True
    send(load, "m1")
    eventually(lambda: acks.swallowed and in_hand(vhost), "it is in hand: it was acknowledged, but for RabbitMQ")
    restart(system.listeners[0], acks)
    worked_off(system, 1)
    system.check(load)
