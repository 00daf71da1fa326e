# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ goes away, comes back, is full, is frozen: what was answered 202 is stored, once, and in order."""

import threading
import time

import pytest
import rabbitmq as rabbit
from amqp_support import Foreign, ready, settings, stored
from conftest import envelope, eventually, post_log, run_cli
from test_custom_actions import Service
from test_page import Page, driver  # noqa: F401  the fixture


@pytest.fixture(scope="module")
def server():
    """One that these tests stop and start, each leaving it up and empty of its own vhost."""
    if reason := rabbit.why_not():
        pytest.skip(reason)
    with rabbit.Server() as own:
        yield own


@pytest.fixture
def url(server, unique):
    yield server.add_vhost(unique)
    server.delete_vhost(unique)


def post(client, data, **fields):
    return post_log(client, "outage", data, **fields)


def post_all(client, unique, first, last, way=None):
    for number in range(first, last):
        response = post(client, f"{unique}-{number}", via="amqp", ack="accepted")
        envelope(response, 202)
        if way:
            assert response.headers["x-flexi-way"] == way, number


def test_an_outage_is_bridged_in_order_and_seen(server, url, make_instance, unique):
    instance = ready(make_instance(settings=settings(url)).start())
    with instance.client() as client:
        with Foreign(url) as other:
            other.channel.queue_declare("tap", durable=True, arguments={"x-queue-type": "quorum"})
            other.channel.queue_bind("tap", "logs_topic", "log.INFO")
        post_all(client, unique, 0, 20, "amqp")
        server.stop()
        try:
            eventually(lambda: client.get("/readyz").status_code == 503, "it says that RabbitMQ is away")
            assert client.get("/healthz").status_code == 200
            post_all(client, unique, 20, 120, "amqp;queue=spool")
            direct = post(client, unique + "-direct", ack="accepted")
            envelope(direct, 202)
            assert not direct.headers["x-flexi-way"].startswith("amqp"), "auto takes the direct ways first"
            refused = post(client, unique + "-stored", via="amqp", ack="stored")
            envelope(refused, 503)
            auth = client.post("/handle", json={"action": "auth", "via": "amqp", "auth": {"email": "admin@example.com", "password": "verysecret"}})
            envelope(auth, 503)
            receipt = client.get(f"/receipts/{post(client, unique + '-asked', via='amqp', ack='accepted').headers['x-flexi-id']}")
            assert receipt.status_code == 200 and "spooled" in receipt.text, receipt.text
            assert "flexi_spool_depth 1" in eventually(lambda: next((m for m in [client.get("/metrics").text] if "flexi_spool_depth 1" in m), None), "metrics show it")
            # A new process finds what the old one left.
            instance.kill()
            instance.start()
        finally:
            server.start()
        with instance.client() as later:
            post_all(later, unique, 120, 140)
        ready(instance)
        expected = {f"{unique}-{n}" for n in range(140)} | {unique + "-direct", unique + "-asked"}
        counts = eventually(lambda: next((c for c in [stored(instance, name="outage")] if len(c) == len(expected)), None), "all are stored", 60)
        assert set(counts) == expected and set(counts.values()) == {1}
        with Foreign(url) as other:
            seen = []
            for _, _, body in other.all("tap"):
                data = body.decode().split(unique + "-")[1].split('"')[0]
                if data.isdigit() and int(data) not in seen:
                    seen.append(int(data))
            assert seen == list(range(140)), "in order, and what came later behind it"
            assert other.depth("flexi.log.dlq") == 0, "an outage makes no dead letters"


def test_a_replica_adopts_the_spool_of_one_that_was_killed(server, url, make_instance, tmp_path, unique):
    shared = settings(url, FLEXI_SPOOL_DIRECTORY=tmp_path / "volume", FLEXI_SPOOL_ADOPT_INTERVAL="200ms")
    survivor, victim = (ready(make_instance(settings=shared).start()) for _ in range(2))
    server.stop()
    try:
        with survivor.client() as one, victim.client() as two:
            post_all(two, unique, 0, 30, "amqp;queue=spool")
            post_all(one, unique, 30, 40, "amqp;queue=spool")
        assert {f.name for f in (tmp_path / "volume").glob("*.db")} == {"spool-1.db", "spool-2.db"}
        victim.kill()
        with survivor.client() as client:
            eventually(lambda: "\nflexi_spool_depth 40" in client.get("/metrics").text, "it takes over what the other one left")
    finally:
        server.start()
    counts = eventually(lambda: next((c for c in [stored(survivor, name="outage")] if len(c) == 40), None), "all are stored", 60)
    assert set(counts.values()) == {1}
    assert [f.name for f in (tmp_path / "volume").glob("*.db")] in (["spool-1.db"], ["spool-2.db"])


def test_it_starts_while_rabbitmq_is_absent_and_recovers_alone(server, url, make_instance, unique):
    server.stop()
    try:
        instance = make_instance(settings=settings(url)).start()
        with instance.client() as client:
            assert client.get("/readyz").status_code == 503 and "rabbitmq" in client.get("/readyz").text
            post_all(client, unique, 0, 5, "amqp;queue=spool")
    finally:
        server.start()
    ready(instance)
    eventually(lambda: len(stored(instance, name="outage")) == 5, "all are stored", 60)
    assert set(stored(instance, name="outage").values()) == {1}


def test_dead_letters_survive_a_restart_of_rabbitmq(server, url, make_instance, unique):
    instance = ready(make_instance(settings=settings(url)).start())
    with Foreign(url) as other:
        other.publish("logs_topic", "log.INFO", b"no json", message_id=unique)
    with instance.client() as client:
        before = eventually(lambda: next(iter(client.get("/dlq").json().get("data", [])), None), "it is a dead letter")
        server.kill()
        envelope(client.get("/dlq"), 503)
        server.start()
        ready(instance)
        assert eventually(lambda: next(iter(client.get("/dlq").json().get("data", [])), None), "it is still there") == before
        envelope(client.delete(f"/dlq/{unique}"), 200)


@pytest.fixture
def half_asked(server, url, make_instance, make_gate, unique):
    """An instance whose spool has a dead letter, and whose RabbitMQ is away; the page of letters when it was there."""
    gate = make_gate(("127.0.0.1", server.port))
    instance = ready(make_instance(settings=settings(server.url_of(unique, gate.port))).start())
    with instance.client() as client:
        gate.refuse()
        post_all(client, unique, 0, 1, "amqp;queue=spool")
        envelope(post(client, "x" * 5000, via="amqp", ack="accepted"), 202)  # behind the other
        envelope(client.get("/dlq"), 503)
    # What was accepted under other settings is what RabbitMQ is never given now.
    instance.terminate()
    instance.settings |= {"FLEXI_AMQP_MAX_BODY_BYTES": "4096", "FLEXI_BROKER_MAX_PAYLOAD_BYTES": "4096"}
    instance.start()
    with instance.client() as client:
        gate.heal()
        whole = eventually(lambda: (lambda body: body.get("data") and body)(client.get("/dlq").json()), "it is a dead letter of the spool", 60)
        assert whole["message"] == "ok" and len(whole["data"]) == 1
        gate.refuse()
    return instance, whole, gate


def test_the_spools_dead_letters_are_listed_while_rabbitmq_cant_be_asked(half_asked):
    instance, whole, _ = half_asked
    with instance.client() as client:
        part = eventually(lambda: (lambda body: body["message"] != "ok" and body)(envelope(client.get("/dlq"), 200)), "RabbitMQ is missed")
        assert part["data"] == whole["data"] and part["message"].startswith("there may be more: "), part
        listed = run_cli("dlq", "list", "--url", instance.url)
        assert listed.returncode == 0 and whole["data"][0]["id"] in listed.stdout and "there may be more" in listed.stderr
        discarded = run_cli("dlq", "discard", "--all", "--url", instance.url)
        assert discarded.returncode != 0 and "RabbitMQ" in discarded.stderr, "what could be reached is discarded all the same"
        envelope(client.get("/dlq"), 503)


def test_the_page_says_that_there_may_be_more(half_asked, driver):  # noqa: F811
    instance, whole, gate = half_asked
    gate.heal()
    ready(instance)
    page = Page(driver, instance.url)
    assert page.text("failed-notice") == ""
    gate.refuse()

    def said():
        page.one("failed-refresh").click()
        return "there may be more" in page.text("failed-notice")

    eventually(said, "the page says so", interval=0.3)
    assert whole["data"][0]["reason"] in page.text("failed-list"), "and shows what it has"
    driver.get("about:blank")


def test_while_rabbitmqs_disk_is_full_messages_wait_in_the_spool(server, url, make_instance, unique):
    instance = ready(make_instance(settings=settings(url)).start())
    with instance.client() as client:
        post_all(client, unique, 0, 5, "amqp")
        server.disk_alarm(True)
        try:
            # RabbitMQ blocks a connection when it next publishes.
            eventually(lambda: post(client, unique + "-blocked", via="amqp", ack="accepted", headers={"Idempotency-Key": unique}).headers["x-flexi-way"] == "amqp;queue=spool",
                       "it is spooled")
            post_all(client, unique, 5, 30, "amqp;queue=spool")
        finally:
            server.disk_alarm(False)
        counts = eventually(lambda: next((c for c in [stored(instance, name="outage")] if len(c) == 31), None), "all are stored", 60)
        assert set(counts.values()) == {1}


def test_a_frozen_rabbitmq_holds_nobody_up(server, url, make_instance, unique):
    instance = ready(make_instance(settings=settings(url, FLEXI_SPOOL_PATIENCE="500ms")).start())
    with instance.client() as client:
        post_all(client, unique, 0, 5, "amqp")
        server.freeze()
        try:
            begun = time.monotonic()
            post_all(client, unique, 5, 30, "amqp;queue=spool")
            assert time.monotonic() - begun < 5, "only the first one waits"
        finally:
            server.thaw()
        counts = eventually(lambda: next((c for c in [stored(instance, name="outage")] if len(c) == 30), None), "all are stored", 60)
        assert set(counts.values()) == {1}


MAIL = {"to": "you@example.com", "subject": "outage", "message": "Hello"}
LONG = {"mail": 20_000, "do": 60_000}  # what follows is longer than what the spool may still be sending again
PAYLOADS = {"mail": lambda size: MAIL | {"message": "m" * size}, "do": lambda size: {"a": "x" * size}}


def mailbox(instance, subject):
    with instance.client() as client:
        return sum(mail["subject"] == subject for mail in client.get("/mails", params={"limit": 500}).json()["data"])


@pytest.mark.parametrize("trouble", ["frozen", "cut"])
def test_what_rabbitmq_may_have_taken_waits_for_it_and_goes_no_other_way(server, url, make_instance, make_gate, unique, trouble):
    """Mail and a custom action, `auto`, accepted: RabbitMQ has the message, and its confirm never comes."""
    gate, service = make_gate(("127.0.0.1", server.port)), Service()
    own = settings(server.url_of(unique, gate.port), FLEXI_SPOOL_PATIENCE="500ms" if trouble == "frozen" else "20s", FLEXI_ACTIONS_DO_URL=service.url)
    instance = ready(make_instance(settings=own).start())
    asked = {}

    def ask(client, action, size):
        asked[action] = client.post("/handle", json={"action": action, "ack": "accepted", action: PAYLOADS[action](size)})

    try:
        with instance.client() as client:
            for action in PAYLOADS:
                ask(client, action, 1)
                assert asked[action].headers["x-flexi-way"] == "amqp"
                gate.freeze("down")
                before = gate.bytes["up"]
                waiting = threading.Thread(target=ask, args=(client, action, LONG[action]))
                waiting.start()
                eventually(lambda: gate.bytes["up"] > before + LONG[action], "it is on its way, and nothing else is as long")
                if trouble == "cut":
                    gate.cut()
                waiting.join()
                assert asked[action].status_code == 202, asked[action].text
                assert asked[action].headers["x-flexi-way"] == "amqp;queue=spool;fallback-from=amqp"
                gate.heal()
                ready(instance)
                there = {"mail": lambda: mailbox(instance, "outage") == 2, "do": lambda: asked["do"].headers["x-flexi-id"] in service.ids()}
                eventually(there[action], "what waited in the spool has arrived", 60)
            eventually(lambda: client.get("/system").json()["data"]["queue"].get("depth") == 0, "the queue is empty", 60)
            assert mailbox(instance, "outage") == 2, "each once, though RabbitMQ had one of them twice"
    finally:
        service.close()


def test_cut_connections_and_damaged_bytes_lose_nothing(server, url, make_instance, make_gate, unique):
    gate = make_gate(("127.0.0.1", server.port))
    instance = ready(make_instance(settings=settings(server.url_of(unique, gate.port))).start())
    total = 0
    with instance.client() as client:
        for trouble in (gate.cut, lambda: gate.cut_after(up=777), lambda: gate.cut_after(down=33), lambda: gate.corrupt(chunks=1), gate.refuse, server.close_connections):
            trouble()
            post_all(client, unique, total, total + 40)
            gate.heal()
            total += 40
        ready(instance)
        counts = eventually(lambda: next((c for c in [stored(instance, name="outage")] if len(c) >= total), None), "all are stored", 60)
        assert set(counts) == {f"{unique}-{n}" for n in range(total)} and set(counts.values()) == {1}


def test_a_full_spool_and_a_missing_volume_are_503_never_a_false_202(server, url, make_instance, tmp_path, unique):
    full = ready(make_instance(settings=settings(url, FLEXI_SPOOL_MAX_MESSAGES="5")).start())
    (tmp_path / "file").write_text("no folder")
    missing = ready(make_instance(settings=settings(url, FLEXI_SPOOL_DIRECTORY=tmp_path / "file" / "spool")).start())
    server.stop()
    try:
        with full.client() as client:
            post_all(client, unique, 0, 5, "amqp;queue=spool")
            response = post(client, unique + "-more", via="amqp", ack="accepted")
            envelope(response, 503)
            assert int(response.headers["retry-after"]) >= 1
        with missing.client() as client:
            response = post(client, unique + "-lost", via="amqp", ack="accepted")
            envelope(response, 503)
            assert int(response.headers["retry-after"]) >= 1
    finally:
        server.start()
    ready(full), ready(missing)

    def both():
        return stored(full, name="outage") | stored(missing, name="outage")

    eventually(lambda: set(both()) == {f"{unique}-{n}" for n in range(5)}, "what was accepted is stored, and nothing else", 60)
    with missing.client() as client:
        post_all(client, unique, 5, 6, "amqp")
