# SPDX-License-Identifier: Apache-2.0
"""Two listeners on one queue, poison in it, and more than its consumer can take."""

import json

import pytest
from load import Load
from parts import eventually
from systems import make_system, rabbit_system, system  # noqa: F401  fixtures


def test_two_listeners_share_one_queue(make_system, vhost):
    system = make_system(amqp_url=vhost.url, listeners=2)
    with Load(system.broker) as load:
        load.wait_for(400)
    assert len([row for row in vhost.listed("consumers", "queue_name") if row["queue_name"] == "flexi.log"]) == 2
    system.check(load)
    with Load(system.broker) as more:
        more.wait_for(50)
        system.listeners[0].terminate()
        more.wait_for(50)
        system.listeners[1].kill()
        more.wait_for(50)
        system.listeners[0].start()
        more.wait_for(50)
    system.check(load, more)


POISON = [b"", b"not json", b"\xff\xfe\x00", b"{}", b'{"name":"n"}', b'{"name":1,"data":"d"}', b'{"name":"n","data":"d"}{"name":"n","data":"d"}', b"[" * 10000,
          json.dumps({"name": "", "data": "an empty name"}).encode()]


def test_poison_is_dead_lettered_with_its_reason_and_harms_nothing(rabbit_system, vhost):
    pika = pytest.importorskip("pika", reason="not run: pika is not installed (make deps-test)")
    system = rabbit_system
    with Load(system.broker) as load:
        load.wait_for(50)
        connection = pika.BlockingConnection(pika.URLParameters(vhost.url))
        channel = connection.channel()
        channel.confirm_delivery()
        for body in POISON:
            channel.basic_publish("logs_topic", "log.INFO", body, pika.BasicProperties(content_type="application/josn"), mandatory=True)
        channel.basic_publish("logs_topic", "log.WARNING", b'{"name":"load-foreign","data":"a good one among them"}', mandatory=True)
        connection.close()
        load.wait_for(50)
    letters = eventually(lambda: (found := system.dead_letters()) and len(found) >= len(POISON) and found, "the poison is dead-lettered", seconds=60)
    assert len(letters) == len(POISON)
    assert all(letter["reason"] for letter in letters)
    with system.logger.client() as client:
        eventually(lambda: client.get("/logs", params={"name": "load-foreign"}).json()["data"], "the good one is stored")
    system.check(load, dead=len(POISON))
    assert all(part.starts == 1 and part.running() for part in system.parts), "nobody died of it"


def test_poison_in_the_embedded_queue(make_system):
    """An id that the store has under another payload can never be stored."""
    system = make_system()
    with Load(system.broker) as load:
        load.wait_for(20)
        with system.logger.client() as there, system.broker.client() as client:
            for number in range(5):
                assert there.post("/log", json={"name": "n", "data": "first"}, headers={"Idempotency-Key": f"poison-{number}"}).status_code == 202
                taken = client.post("/handle", json={"action": "log", "via": "amqp", "id": f"poison-{number}", "log": {"name": "n", "data": "second"}})
                assert taken.status_code == 202
        load.wait_for(50)
    letters = eventually(lambda: (found := system.dead_letters()) and len(found) == 5 and found, "the poison is dead-lettered")
    assert all("conflict" in letter["reason"] for letter in letters)
    system.check(load, dead=5)


def test_a_consumer_slower_than_its_producer(system):
    """Each answer of the logger takes its time: what is accepted waits in the queue, and arrives."""
    system.logger.gate.delay(0.5)
    under_way = 300  # at most, of either queue: more than that wait in the queue itself, while others arrive
    with Load(system.broker, threads=8, size=100) as load:
        load.wait_for(3 * under_way, seconds=120)

        def behind():
            arrived = len(system.stored())
            return arrived > under_way and len(load.accepted) - arrived > 2 * under_way

        eventually(behind, "the producer is ahead of a consumer that works", seconds=120, interval=0.2)
    assert set(load.answers) <= {202, 429, 503}, load.refusals[:3]
    system.logger.gate.heal()
    system.check(load)


def test_a_full_queue_refuses_and_recovers(make_system):
    system = make_system(queue_settings={"FLEXI_QUEUE_MAX_MESSAGES": 200})
    system.logger.terminate()
    with Load(system.broker) as load:
        eventually(lambda: load.answers[429] >= 20, "the queue is full")
        assert len(load.accepted) <= 200
        system.logger.start()
        load.wait_for(100)
    assert set(load.answers) == {202, 429}
    system.check(load)


def handle_request(name, data):
    """flexiconnect.v1.HandleRequest{log: {name, data}, ack: ACK_ACCEPTED} as bytes."""
    def field(tag, content):
        size, length = len(content), b""
        while size > 127:
            size, length = size >> 7, length + bytes([size & 127 | 128])
        return bytes([tag << 3 | 2]) + length + bytes([size]) + content

    return field(3, field(1, name) + field(2, data)) + bytes([7 << 3, 1])


def test_a_log_of_any_accepted_size_reaches_a_logger_of_its_own(system):  # noqa: F811
    """The queue hands it on as JSON over HTTP, whose body may be 1 MiB; by gRPC more fits into a message."""
    grpc = pytest.importorskip("grpc", reason="not run: grpcio is not installed (make deps-test)")
    with system.broker.client() as client:
        target = next(row["endpoint"].split("://")[1] for row in client.get("/system").json()["data"]["listening"] if row["via"] == "grpc")
    fits = b"\n" * (((1 << 20) - len('{"name":"load","data":""}')) // 2)
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        handle = channel.unary_unary("/flexiconnect.v1.Broker/Handle")
        for data in (fits + b"\n", b"x" * (2 << 20)):
            with pytest.raises(grpc.RpcError) as refused:
                handle(handle_request(b"load", data), timeout=30)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        handle(handle_request(b"load", fits), timeout=30)
    eventually(lambda: sum(system.stored().values()) == 1, "it is stored")
    assert system.dead_letters() == []
