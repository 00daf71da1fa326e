# SPDX-License-Identifier: Apache-2.0
"""Mail, where doubling hurts, under the same faults: each that was accepted is in the mailbox, and none twice."""

import random

import pytest
from load import MailLoad
from parts import eventually
from systems import make_system  # noqa: F401  fixture

QUEUED, QUEUED_STORED = {"via": "amqp", "ack": "accepted"}, {"via": "amqp", "ack": "stored"}
AUTO, DIRECT = {"via": "auto", "ack": "accepted"}, {"via": "http", "ack": "stored"}
WAYS = pytest.mark.parametrize("fields", [QUEUED, QUEUED_STORED, AUTO, DIRECT], ids=["queued", "queued-stored", "auto", "direct"])


@pytest.fixture(params=["embedded", "rabbitmq"])
def system(request, make_system):  # noqa: F811
    return make_system(mail=True, **({"amqp_url": request.getfixturevalue("vhost").url} if request.param == "rabbitmq" else {}))


@WAYS
def test_processes_are_killed(system, fields):
    with MailLoad(system.broker, fields=fields, pause=0.02) as load:
        for part in (system.mail, system.broker, *system.listeners):
            load.wait_for(random.randint(30, 80))
            part.kill()
            part.start()
        load.wait_for(30)
    system.check(load)


@WAYS
def test_the_connection_to_the_service_is_cut_in_the_middle_of_a_mail(system, fields):
    with MailLoad(system.broker, fields=fields, pause=0.02) as load:
        for turn in range(6):
            load.wait_for(20)
            before = system.mail.gate.cuts
            system.mail.gate.cut_after(**{("up", "down")[turn % 2]: random.randint(50, 3000)})
            eventually(lambda: system.mail.gate.cuts > before, "somebody is cut off", seconds=60)
        system.mail.gate.heal()
        load.wait_for(20)
    system.check(load)


def test_rabbitmq_is_killed_cut_and_frozen(make_system, own_rabbitmq, make_gate):  # noqa: F811
    """Accepted, by auto: the direct ways are closed to what RabbitMQ may have."""
    gate = make_gate(("127.0.0.1", own_rabbitmq.port))
    system = make_system(mail=True, amqp_url=own_rabbitmq.url_of("/", gate.port), amqp_settings={"FLEXI_SPOOL_PATIENCE": "500ms"})
    with MailLoad(system.broker, fields=AUTO, pause=0.02) as load:
        for _ in range(3):
            load.wait_for(40)
            gate.cut_after(down=random.randint(50, 3000))
            load.wait_for(40)
            gate.heal()
            gate.freeze("down")
            load.wait_for(20)
            gate.heal()
            gate.cut()
        own_rabbitmq.kill()
        load.wait_for(20)
        own_rabbitmq.start()
        load.wait_for(40)
    assert set(load.answers) == {202}, load.refusals[:3]
    system.check(load)
