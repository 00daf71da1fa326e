# SPDX-License-Identifier: Apache-2.0
"""kill -9 under load, of each process in turn."""

import random

import pytest
from load import Load
from systems import make_system, rabbit_system, system  # noqa: F401  fixtures

DIRECT, QUEUED, QUEUED_STORED = {"via": "http", "ack": "stored"}, {"via": "amqp"}, {"via": "amqp", "ack": "stored"}
ROUNDS = 3


@pytest.mark.parametrize("fields", [QUEUED, QUEUED_STORED, DIRECT, {"via": "auto"}], ids=["queued", "queued-stored", "direct", "auto"])
def test_the_logger_is_killed(system, fields):
    with Load(system.broker, fields=fields) as load:
        for _ in range(ROUNDS):
            load.wait_for(random.randint(50, 200))
            system.logger.kill()
            if fields == QUEUED:
                load.wait_for(50)  # a logger that is away holds up nobody
            system.logger.start()
        load.wait_for(50)
    system.check(load)


@pytest.mark.parametrize("fields", [QUEUED, QUEUED_STORED, {"via": "auto"}], ids=["queued", "queued-stored", "auto"])
def test_the_broker_is_killed(system, fields):
    with Load(system.broker, fields=fields) as load:
        for _ in range(ROUNDS):
            load.wait_for(random.randint(50, 200))
            system.broker.kill()
            system.broker.start()
        load.wait_for(50)
    system.check(load)


def test_the_listener_is_killed(rabbit_system):
    system = rabbit_system
    with Load(system.broker) as load:
        for _ in range(ROUNDS):
            load.wait_for(random.randint(50, 200))
            system.listeners[0].kill()
            load.wait_for(50)  # a listener that is away holds up nobody
            system.listeners[0].start()
        load.wait_for(50)
    system.check(load)


def test_all_are_killed_at_once(system):
    with Load(system.broker) as load:
        for _ in range(ROUNDS):
            load.wait_for(100)
            for part in system.parts:
                part.process.kill()
            for part in system.parts:
                part.process.wait()
            random.shuffle(started := list(system.parts))  # they start in any order
            for part in started:
                part.start()
        load.wait_for(50)
    system.check(load)
