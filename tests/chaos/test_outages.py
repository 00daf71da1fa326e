# SPDX-License-Identifier: Apache-2.0
"""What others are away for: RabbitMQ, the logger, the network in the middle of a frame."""

import random
import time

import pytest
from load import Load
from parts import eventually
from systems import make_system, system  # noqa: F401  fixtures


def test_rabbitmq_is_stopped_for_20_s_and_started_again(make_system, own_rabbitmq):
    system = make_system(amqp_url=own_rabbitmq.url)
    with Load(system.broker, pause=0.005) as load:
        load.wait_for(200)
        own_rabbitmq.stop()
        away = time.monotonic()
        load.wait_for(200)  # into the spool
        assert any("spool" in (way or "") for way in load.ways), load.ways
        time.sleep(max(0.0, 20 - (time.monotonic() - away)))  # the outage itself
        own_rabbitmq.start()
        load.wait_for(200)
    assert set(load.answers) <= {202, 429, 503}, load.answers
    system.check(load)
    # Drained, and back to the queue itself.
    with Load(system.broker) as after:
        after.wait_for(20)
    assert not any("spool" in (way or "") for way in after.ways), after.ways
    system.check(load, after)


def test_rabbitmq_is_killed(make_system, own_rabbitmq):
    system = make_system(amqp_url=own_rabbitmq.url)
    with Load(system.broker, pause=0.005) as load:
        load.wait_for(200)
        own_rabbitmq.kill()
        load.wait_for(50)
        own_rabbitmq.start()
        load.wait_for(100)
    system.check(load)


def test_the_connections_to_rabbitmq_are_cut_in_the_middle_of_a_frame(make_system, vhost, make_gate):
    to_rabbitmq = make_gate(("127.0.0.1", vhost.server.port))
    system = make_system(amqp_url=vhost.url_through(to_rabbitmq))
    with Load(system.broker) as load:
        for turn in range(8):
            load.wait_for(40)
            up_to = random.randint(300, 20_000)
            before = to_rabbitmq.connections
            to_rabbitmq.cut_after(up=up_to) if turn % 2 == 0 else to_rabbitmq.cut_after(down=up_to)
            eventually(lambda: to_rabbitmq.connections > before, "somebody was cut off and is back", seconds=60)
        to_rabbitmq.heal()
        load.wait_for(40)
    system.check(load)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_the_connection_to_the_logger_is_cut_in_the_middle_of_a_request(system, direction):
    with Load(system.broker) as load:
        for _ in range(8):
            load.wait_for(40)
            before = system.logger.gate.connections
            system.logger.gate.cut_after(**{direction: random.randint(50, 5000)})
            eventually(lambda: system.logger.gate.connections > before, "whoever was cut off is back", seconds=60)
        system.logger.gate.heal()
        load.wait_for(40)
    system.check(load)


def test_the_logger_is_down_while_messages_arrive(system):
    system.logger.terminate()
    with Load(system.broker) as load:
        load.wait_for(300)
    assert set(load.answers) == {202}, load.refusals[:3]
    system.logger.start()
    system.check(load)


@pytest.mark.parametrize("over", ["embedded", "rabbitmq"])
def test_an_outage_longer_than_all_attempts_makes_no_dead_letter(make_system, request, over):
    """Two attempts, over within a second; the logger is away until each message has failed many more times."""
    few = {"FLEXI_QUEUE_MAX_ATTEMPTS": 2, "FLEXI_AMQP_MAX_ATTEMPTS": 2, "FLEXI_AMQP_RETRY_STEPS": 2}
    url = request.getfixturevalue("vhost").url if over == "rabbitmq" else None
    system = make_system(amqp_url=url, queue_settings=few, listener_settings=few)
    system.logger.terminate()
    system.logger.gate.refuse()
    with Load(system.broker) as load:
        load.wait_for(100)
    assert set(load.answers) == {202}, load.refusals[:3]
    retrying, name = (system.listeners[0], "flexi_amqp_retried_total") if url else (system.broker, "flexi_queue_retried_total")
    eventually(lambda: retrying.metric(name) > 10 * len(load.accepted), "each has failed many times", seconds=120)
    assert system.dead_letters() == []
    system.logger.start()
    system.logger.gate.heal()
    system.check(load)


def test_the_logger_hangs_for_a_while(system):
    with Load(system.broker) as load:
        load.wait_for(50)
        system.logger.gate.freeze()
        load.wait_for(200)
        system.logger.gate.heal()
        load.wait_for(50)
    system.check(load)
