# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ as others see it: their clients publish to us and consume from us, and rabbitmqctl shows what we promise."""

import json
import shutil
import subprocess
import threading

import pytest
from amqp_support import Foreign, ready, settings, stored
from conftest import EXAMPLE_USER, all_logs, envelope, eventually, post_log, run_cli


@pytest.fixture
def flexi(make_instance, vhost):
    return ready(make_instance(settings=settings(vhost.url)).start())


@pytest.fixture
def other(vhost):
    with Foreign(vhost.url) as client:
        yield client


def test_the_topology_is_as_promised(flexi, vhost):
    queues = {q["name"]: q for q in vhost.listed("queues", "name", "durable", "type", "arguments", "exclusive")}

    def arguments(name):
        listed = queues[name]["arguments"]  # a list of [key, type, value], or a dictionary, by the version of rabbitmqctl
        return listed if isinstance(listed, dict) else {a[0]: a[2] for a in listed}

    for name in ("flexi.log", "flexi.mail", "flexi.requests"):
        assert queues[name]["durable"] and queues[name]["type"].endswith("quorum_queue") or queues[name]["type"] == "quorum", queues[name]
        have = arguments(name)
        assert have["x-queue-type"] == "quorum" and have["x-delivery-limit"] > 0, have
        # Dead-lettering is at most once without both of these.
        assert have["x-dead-letter-strategy"] == "at-least-once" and have["x-overflow"] == "reject-publish", have
        assert have["x-dead-letter-exchange"] == "flexi.dead" and have["x-dead-letter-routing-key"] == name, have
        assert arguments(name + ".dlq")["x-queue-type"] == "quorum" and queues[name + ".dlq"]["durable"], "as replicated as its source"
        retries = [q for q in queues if q.startswith(name + ".retry.")]
        assert retries
        for retry in retries:
            have = arguments(retry)
            assert have["x-queue-type"] == "quorum" and have["x-message-ttl"] > 0 and have["x-dead-letter-routing-key"] == name, have
            assert have["x-dead-letter-strategy"] == "at-least-once" and have["x-overflow"] == "reject-publish", have
    log_ins = arguments("flexi.logins")
    assert log_ins["x-queue-type"] == "classic" and log_ins["x-message-ttl"] and "x-dead-letter-exchange" not in log_ins, "log-ins are never kept"
    assert not any(q.startswith("flexi.logins.") for q in queues), "neither dead letters nor retries of log-ins"
    exchanges = {e["name"]: e for e in vhost.listed("exchanges", "name", "type", "durable")}
    assert exchanges["logs_topic"]["type"] == "topic" and exchanges["logs_topic"]["durable"]
    assert exchanges["flexi.dead"]["type"] == "direct" and exchanges["flexi.dead"]["durable"]
    bindings = {(b["source_name"], b["routing_key"], b["destination_name"]) for b in vhost.listed("bindings", "source_name", "routing_key", "destination_name")}
    for level in ("INFO", "WARNING", "ERROR"):
        assert ("logs_topic", f"log.{level}", "flexi.log") in bindings
    assert {("logs_topic", "mail.send", "flexi.mail"), ("logs_topic", "auth.request", "flexi.logins"), ("flexi.dead", "flexi.log", "flexi.log.dlq")} <= bindings
    assert not any(queue == "flexi.requests" and source for source, _, queue in bindings), "requests are a queue apart"


def test_the_system_names_rabbitmq_without_its_password(flexi, vhost):
    with flexi.client() as client:
        queue = eventually(lambda: (found := client.get("/system").json()["data"]["queue"]).get("queues") and found, "its queues are asked for")
    address, login = vhost.url.split("://", 1)[1].rsplit("@", 1)[1], vhost.url.split("://", 1)[1].rsplit("@", 1)[0]
    assert queue["connected"] is True and address.split("/")[0] in queue["address"]
    assert login not in queue["address"] and "@" not in queue["address"]
    assert queue["version"].count(".") == 2, queue


def test_the_system_says_that_rabbitmq_is_away(make_instance):
    instance = make_instance(settings=settings("amqp://me:s3cret@127.0.0.1:1/")).start()
    with instance.client() as client:
        answer = client.get("/system")
    queue = answer.json()["data"]["queue"]
    assert queue["connected"] is False and queue["because"] and "127.0.0.1:1" in queue["address"] and "version" not in queue
    assert "s3cret" not in answer.text
    shown = run_cli("status", "--url", instance.url).stdout
    assert "127.0.0.1:1" in shown and "not connected" in shown and "s3cret" not in shown


def test_plain_messages_of_any_producer_are_stored_whatever_their_content_type(flexi, other, unique):
    types = [None, "application/json", "text/plain", "application/octet-stream", "Text/JSON; charset=latin1", "ü"]
    expected = set()
    for number, content_type in enumerate(types):
        for key in ("log.INFO", "log.WARNING", "log.ERROR"):
            data = f"{unique}-{number}-{key}"
            expected.add(data)
            properties = {"content_type": content_type} if content_type else {}
            other.publish("logs_topic", key, {"name": "pika", "data": data}, **properties)
    other.publish("logs_topic", "log.INFO", '{"data":"%s-odd","extra":[1],"name":"pika"}' % unique, headers={"x-some": 1, "nested": {"a": [1, "b"]}},
                  content_encoding="utf-8", priority=3, message_id="not an \"id\" of ours", timestamp=1, type="whatever", app_id="other", user_id="guest")
    expected.add(f"{unique}-odd")
    assert eventually(lambda: stored(flexi, name="pika") if len(stored(flexi, name="pika")) == len(expected) else None, "all are stored") == dict.fromkeys(expected, 1)
    assert other.depth("flexi.log.dlq") == 0


@pytest.mark.skipif(not shutil.which("amqp-publish"), reason="not run: no amqp-publish here (apt-get install amqp-tools)")
def test_amqp_tools_publish_and_consume(flexi, vhost, other, unique):
    other.channel.queue_declare("tap", durable=True)
    other.channel.queue_bind("tap", "logs_topic", "log.INFO")
    body = json.dumps({"name": "amqp-tools", "data": unique})
    subprocess.run(["amqp-publish", "--url", vhost.url, "--exchange", "logs_topic", "--routing-key", "log.WARNING", "--content-type", "strange/type",
                    "--persistent", "--body", body], check=True, timeout=30)
    eventually(lambda: stored(flexi).get(unique) == 1, "it is stored")
    with flexi.client() as client:
        envelope(post_log(client, "ours", "to the tap", via="amqp", ack="accepted"), 202)
    got = subprocess.run(["amqp-consume", "--url", vhost.url, "--queue", "tap", "--count", "1", "cat"], check=True, timeout=30, capture_output=True)
    assert json.loads(got.stdout) == {"name": "ours", "data": "to the tap"}


def test_our_messages_are_understood_by_others(flexi, other, unique):
    other.channel.queue_declare("tap", durable=True)
    other.channel.queue_bind("tap", "logs_topic", "log.*")
    with flexi.client() as client:
        response = post_log(client, "näme", unique, via="amqp", ack="accepted", headers={"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
        body = envelope(response, 202)
    assert body["message"] == "logger via RabbitMQ"
    assert response.headers["x-flexi-way"] == "amqp"
    method, properties, text = other.get("tap")
    assert method.routing_key == "log.INFO" and method.exchange == "logs_topic"
    assert json.loads(text) == {"name": "näme", "data": unique}
    assert properties.message_id == response.headers["x-flexi-id"]
    assert properties.delivery_mode == 2 and properties.content_type == "application/json" and properties.expiration is None
    assert properties.headers["traceparent"].startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")
    assert abs(properties.timestamp - __import__("time").time()) < 60
    eventually(lambda: stored(flexi).get(unique) == 1, "it is stored too")


def test_stored_over_rabbitmq_is_the_services_answer(flexi, other, unique):
    with flexi.client() as client:
        response = post_log(client, "stored", unique, via="amqp", ack="stored")
        envelope(response, 202)
        assert response.headers["x-flexi-way"] == "amqp"
        assert stored(flexi).get(unique) == 1, "it was there when the answer came"
        answer = client.post("/handle", json={"action": "auth", "via": "amqp", "auth": EXAMPLE_USER})
        envelope(answer, 202)
        assert answer.json()["data"]["email"] == EXAMPLE_USER["email"]
        wrong = client.post("/handle", json={"action": "auth", "via": "amqp", "auth": EXAMPLE_USER | {"password": "wrong"}})
        envelope(wrong, 401)
        envelope(client.post("/handle", json={"action": "auth", "via": "amqp", "ack": "accepted", "auth": EXAMPLE_USER}), 400)
        mail = client.post("/handle", json={"action": "mail", "via": "amqp", "mail": {"to": "you@example.com", "subject": unique, "message": "m"}})
        assert envelope(mail, 202)["message"] == "Message sent to you@example.com"
        assert EXAMPLE_USER["password"] not in flexi.log()


def test_requests_by_queue_are_answered(flexi, other, unique):
    properties, body = other.call({"action": "log", "log": {"name": "requests", "data": unique}})
    assert body["error"] is False, body
    eventually(lambda: stored(flexi).get(unique) == 1, "it is stored")
    _, body = other.call({"action": "auth", "auth": EXAMPLE_USER})
    assert body["error"] is False and body["message"] == "Authenticated" and body["data"]["email"] == EXAMPLE_USER["email"]
    _, again = other.call({"action": "log", "ack": "stored", "log": {"name": "requests", "data": unique + "2"}}, headers={"idempotency-key": unique})
    properties, twice = other.call({"action": "log", "ack": "stored", "log": {"name": "requests", "data": unique + "2"}}, headers={"idempotency-key": unique})
    assert not again["error"] and not twice["error"] and stored(flexi)[unique + "2"] == 1
    for bad, kind in ((b"no json", "invalid_argument"), ({"action": "nonsense"}, "invalid_argument"), ({"action": "log", "log": {"name": 1}}, "invalid_argument"),
                      ({"action": "auth", "auth": EXAMPLE_USER | {"password": "wrong"}}, "unauthenticated"), ({"action": "users.list"}, "permission_denied")):
        properties, body = other.call(bad)
        assert body["error"] is True and properties.headers["x-flexi-error"] == kind, (bad, properties.headers, body)
        assert "verysecret" not in json.dumps(body)
    assert other.depth("flexi.requests.dlq") == 0 or all("password" not in body.decode() for _, _, body in other.all("flexi.requests.dlq"))


def test_without_reply_to_a_bad_request_is_a_dead_letter_without_its_password(flexi, other, unique):
    other.publish("", "flexi.requests", {"action": "auth", "auth": {"email": "me@example.com", "password": unique}, "via": "nonsense"})
    with flexi.client() as client:
        letter = eventually(lambda: next(iter(envelope(client.get("/dlq"), 200)["data"]), None), "it is a dead letter")
    assert unique not in json.dumps(letter) and unique not in flexi.log()
    assert all(unique.encode() not in body for _, _, body in other.all("flexi.requests.dlq"))


def test_what_is_no_message_is_a_dead_letter_with_its_reason_and_can_be_discarded(flexi, other):
    bodies = [b"", b"no json", b'{"name":"n"}', b'{"name":1,"data":"d"}', b"[1]", b"\xff\xfe", b'{"name":"a","data":"b"} trailing']
    for body in bodies:
        other.publish("logs_topic", "log.ERROR", body, content_type="application/json")
    with flexi.client() as client:
        letters = eventually(lambda: next((data for data in [client.get("/dlq").json()["data"]] if len(data) == len(bodies)), None), "all are dead letters")
        assert all(letter["reason"].startswith("invalid_argument: ") and letter["attempts"] == 1 and letter["action"] == "log" for letter in letters), letters
        for letter in letters:
            envelope(client.delete(f"/dlq/{letter['id']}"), 200)
        assert client.get("/dlq").json()["data"] == []
    assert other.depth("flexi.log.dlq") == 0 and other.depth("flexi.log") == 0


def test_two_listeners_share_one_queue(make_instance, vhost, unique):
    both = [ready(make_instance(settings=settings(vhost.url)).start()) for _ in range(2)]
    with Foreign(vhost.url) as other:
        consumers = eventually(lambda: next((q for q in vhost.listed("queues", "name", "consumers") if q["name"] == "flexi.log" and q["consumers"] == 2), None), "both consume")
        assert consumers
        for number in range(200):
            other.publish("logs_topic", "log.INFO", {"name": "shared", "data": f"{unique}-{number}"}, delivery_mode=2)

        def total():
            sums = {}
            for instance in both:
                for data, count in stored(instance, name="shared").items():
                    sums[data] = sums.get(data, 0) + count
            return sums

        sums = eventually(lambda: next((s for s in [total()] if len(s) == 200), None), "all are stored")
        assert set(sums.values()) == {1}, "the reference stores each twice"
        assert all(stored(instance, name="shared") for instance in both), "each has its share"


def test_an_unroutable_message_is_never_a_false_202(flexi, other, unique):
    """RabbitMQ confirms what no queue takes; only `mandatory` tells. What was removed is declared again."""
    turns = iter(range(1000))

    def unbound(client):
        eventually(lambda: post_log(client, "routed", f"{unique}-routed-{next(turns)}", via="amqp", ack="accepted").headers["x-flexi-way"] == "amqp", "it is declared")
        other.channel.queue_unbind("flexi.log", "logs_topic", "log.INFO")
        return client

    with flexi.client() as client:
        lost = post_log(unbound(client), "unroutable", unique + "-1", via="amqp", ack="stored")
        envelope(lost, 503)
        kept = post_log(unbound(client), "unroutable", unique + "-2", via="amqp", ack="accepted")
        envelope(kept, 202)
        assert kept.headers["x-flexi-way"] == "amqp;queue=spool", "durable with us, since RabbitMQ has no place for it"
        direct = post_log(unbound(client), "unroutable", unique + "-3", ack="accepted")
        envelope(direct, 202)
        assert not direct.headers["x-flexi-way"].startswith("amqp"), "auto takes a way that works"
        eventually(lambda: stored(flexi).get(unique + "-2") == 1, "it follows when there is a place")
        assert unique + "-1" not in stored(flexi)
        other.channel.queue_delete("flexi.log")
        envelope(post_log(client, "unroutable", unique + "-4", via="amqp", ack="accepted"), 202)
        eventually(lambda: stored(flexi).get(unique + "-4") == 1, "the queue itself is declared again")


def test_a_shutdown_never_dead_letters_and_loses_nothing(make_instance, vhost, unique):
    instance = ready(make_instance(settings=settings(vhost.url)).start())
    with Foreign(vhost.url) as other:
        stop = threading.Event()
        sent = []

        def flood():
            with Foreign(vhost.url) as producer:
                while not stop.is_set() or len(sent) < 500:
                    data = f"{unique}-{len(sent)}"
                    producer.publish("logs_topic", "log.INFO", {"name": "flood", "data": data}, delivery_mode=2)
                    sent.append(data)

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            for _ in range(3):
                before = len(sent)
                eventually(lambda: len(sent) > before + 100, "the flood goes on")
                instance.terminate()
                assert other.depth("flexi.log.dlq") == 0, "a stop is no failure of the message"
                ready(instance.start())
        finally:
            stop.set()
            thread.join()
        counts = eventually(lambda: next((c for c in [stored(instance, name="flood")] if len(c) == len(sent)), None), "all are stored", 60)
        assert set(counts) == set(sent) and set(counts.values()) == {1}
        assert other.depth("flexi.log.dlq") == 0 and other.depth("flexi.log") == 0


def test_a_kill_in_the_middle_loses_nothing(make_instance, vhost, unique):
    instance = ready(make_instance(settings=settings(vhost.url)).start())
    with Foreign(vhost.url) as other:
        for number in range(1500):
            other.publish("logs_topic", "log.INFO", {"name": "kill", "data": f"{unique}-{number}"}, delivery_mode=2, message_id=f"{unique}-{number}")
            if number in (500, 1000):
                instance.kill()
                instance.start()
        counts = eventually(lambda: next((c for c in [stored(instance, name="kill")] if len(c) == 1500), None), "all are stored", 60)
        assert set(counts.values()) == {1}, "delivered again, stored once: by its id"
        assert other.depth("flexi.log.dlq") == 0


def test_a_queue_with_other_arguments_is_named_and_only_it_is_out_of_order(make_instance, vhost, unique):
    with Foreign(vhost.url) as other:
        other.channel.queue_declare("flexi.mail", durable=True)  # a classic one
        instance = make_instance(settings=settings(vhost.url)).start()
        with instance.client() as client:
            unready = eventually(lambda: next((r for r in [client.get("/readyz")] if r.status_code == 503 and "flexi.mail" in r.text), None), "it says so", 30)
            assert "rabbitmqctl delete_queue" in unready.text or "delete_queue" in instance.log(), "and what to do"
            eventually(lambda: post_log(client, "works", unique, via="amqp", ack="accepted").headers["x-flexi-way"] == "amqp", "logs go on")
            eventually(lambda: stored(instance).get(unique), "and are stored")
            other.channel.queue_delete("flexi.mail")
            eventually(lambda: client.get("/readyz").status_code == 200, "it heals alone", 60)


def test_all_ways_of_administration_find_the_dead_letters(flexi, other, unique):
    other.publish("logs_topic", "log.INFO", {"name": unique}, message_id=unique)
    with flexi.client() as client:
        eventually(lambda: client.get(f"/dlq/{unique}").status_code == 200, "it is a dead letter")
        letter = envelope(client.get(f"/dlq/{unique}"), 200)["data"]
        assert letter["id"] == unique and "data" in letter["reason"]
        envelope(client.post(f"/dlq/{unique}/replay"), 200)
        eventually(lambda: other.depth("flexi.log.dlq") == 1, "it dies again")
        assert len([e for e in all_logs(client) if e["name"] == unique]) == 0


def test_many_dead_letters_by_page_by_command_line_and_by_http(make_instance, vhost, unique):
    """More than a look takes in: pages, one shown, all replayed and stored, the rest discarded."""
    many = 150
    instance = ready(make_instance(settings=settings(vhost.url, FLEXI_AMQP_BROWSE_MESSAGES="50")).start())
    with instance.client() as client, Foreign(vhost.url) as other:
        def poison(count, first=0):
            for number in range(first, first + count):
                other.publish("logs_topic", "log.INFO", "no json " + unique, message_id=f"{unique}-{number}")
            eventually(lambda: other.depth("flexi.log.dlq") == count, "all are dead letters")

        poison(40)
        seen, cursor = [], None
        while True:
            page = client.get("/dlq", params={"limit": 15} | ({"cursor": cursor} if cursor else {})).json()
            seen += [letter["id"] for letter in page["data"]]
            cursor = page.get("next")
            if not cursor:
                break
        assert len(seen) == len(set(seen)) == 40
        shown = run_cli("dlq", "show", seen[0], "--url", instance.url)
        assert shown.returncode == 0 and "invalid_argument" in shown.stdout, shown.stderr
        # They die again, and are left alone then.
        replayed = run_cli("dlq", "replay", "--all", "--url", instance.url)
        assert replayed.returncode == 0 and replayed.stdout == "40 replayed\n", replayed.stdout + replayed.stderr
        eventually(lambda: other.depth("flexi.log.dlq") == 40, "they die again")
        swept = envelope(client.delete("/dlq", params={"all": "true"}), 200)
        assert swept["message"] == "discarded" and swept["data"]["letters"] == 40 and swept["data"]["more"] is False
        assert client.get("/dlq").json()["data"] == []

        poison(many, first=100)
        newest = f"{unique}-{100 + many - 1}"
        for response in (client.get(f"/dlq/{newest}"), client.post(f"/dlq/{newest}/replay"), client.delete(f"/dlq/{newest}")):
            assert "more than 50 dead letters" in envelope(response, 503)["message"]
        envelope(client.post("/dlq/replay"), 400)
        envelope(client.delete("/dlq"), 400)
        discarded = run_cli("dlq", "discard", "--all", "--url", instance.url)
        assert discarded.returncode == 0 and discarded.stdout == f"{many} discarded\n", discarded.stdout + discarded.stderr
        eventually(lambda: other.depth("flexi.log.dlq") == 0, "none is left")


def test_a_replay_of_all_ends_stored(make_instance, vhost, unique):
    """Dead-lettered by RabbitMQ itself, without ids: each is stored once."""
    instance = ready(make_instance(settings=settings(vhost.url, FLEXI_AMQP_MAX_BODY_BYTES="2048", FLEXI_BROKER_MAX_PAYLOAD_BYTES="2048")).start())
    body = json.dumps({"name": "large", "data": unique + "x" * 3000})
    with instance.client() as client, Foreign(vhost.url) as other:
        for _ in range(3):
            other.publish("logs_topic", "log.INFO", body)
        eventually(lambda: other.depth("flexi.log.dlq") == 3, "too large")
        letter = client.get("/dlq").json()["data"][0]
        assert f"its body has {len(body)} bytes" in letter["reason"]
        assert envelope(client.post("/dlq/replay", params={"all": "true"}), 200)["data"]["letters"] == 0, "still too large"
    instance.terminate()
    instance = ready(make_instance(settings=settings(vhost.url)).start())
    with instance.client() as client:
        assert envelope(client.post("/dlq/replay", params={"all": "true"}), 200)["data"]["letters"] == 3
        eventually(lambda: [entry["name"] for entry in all_logs(client) if entry["data"].startswith(unique)] == ["large"] * 3, "all three are stored")
