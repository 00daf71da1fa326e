# SPDX-License-Identifier: Apache-2.0
"""What happened to my message: receipts, traces, hops and the ledger, of the running program."""

import contextlib
import json
import random
import sqlite3
import subprocess
import uuid

import conftest
import httpx
import pytest
from conftest import BINARY, all_logs, clean_environment, embedded_only, envelope, eventually, post_log, run_cli
from test_durability import DIRECT, QUEUE, QUEUE_STORED, Load

STRAIGHT = conftest.DIRECT  # the name is taken here
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def receipt(client, key, **params):
    return envelope(client.get(f"/receipts/{key}", params=params), 200)["data"]


def ledger(client):
    return envelope(client.get("/ledger"), 200)["data"]


def at_rest(client):
    """The ledger once nothing is in flight."""
    return eventually(lambda: (lambda read: read["in_flight"] == 0 and not read["moving"] and read)(ledger(client)), "nothing is in flight", seconds=60, interval=0.1)


def line(read, action, way):
    return next(one for one in read["lines"] if (one["action"], one["way"]) == (action, way))


@contextlib.contextmanager
def part(folder, role, **settings):
    """One service alone, as a process of its own; gives where it listens, by transport."""
    folder.mkdir()
    listen = {f"FLEXI_{transport}_LISTEN": "127.0.0.1:0" for transport in ("HTTP", "GRPC", "RPC")}
    environment = clean_environment(listen | {"FLEXI_DATA_DIR": folder / "data", "FLEXI_STORAGE": "embedded", "FLEXI_LOG_FORMAT": "json"} | settings)
    log = folder / "log.jsonl"
    with log.open("wb") as stderr:
        process = subprocess.Popen([str(BINARY), role], stdout=subprocess.DEVNULL, stderr=stderr, stdin=subprocess.DEVNULL, cwd=folder, env=environment)
    try:
        ready = eventually(lambda: next((line for line in map(json.loads, log.read_text().splitlines()) if line["event"] == "ready"), None), f"the {role} is ready")
        yield process, {end.split(":")[0]: end for end in [ready["url"], *ready["also"].split()]}
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("way, hops", [
    pytest.param({"via": "inproc"}, ["broker", "broker>inproc", "logger"], marks=embedded_only("a way inside one process")),
    ({"via": "http", "ack": "stored"}, ["broker", "broker>http", "logger"]),
    ({"via": "amqp"}, ["broker", "broker>amqp", "listener", "logger"]),
    ({"via": "amqp", "ack": "stored"}, ["broker", "broker>amqp", "listener", "logger"]),
], ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "")
def test_a_log_is_followed_by_its_id_and_its_trace(own, unique, way, hops):
    trace = uuid.uuid4().hex
    with own.client() as client:
        sent = post_log(client, "traced", unique, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}, **way)
        envelope(sent, 202)
        message = sent.headers["x-flexi-id"]
        found = eventually(lambda: (lambda one: one["state"] == "stored" and one.get("where") == "logger" and one)(receipt(client, message)), "it is stored")
        assert found["id"] == message and found["action"] == "log" and found["way"] == way["via"]
        assert found["trace_id"] == trace and [hop["at"] for hop in found["hops"] if hop["at"] != "rabbitmq"] == hops
        times = [hop["time"] for hop in found["hops"]]
        assert times == sorted(times)
        entry = envelope(client.get(f"/logs/{message}"), 200)["data"]
        assert entry["data"] == unique and entry["trace_id"] == trace and entry["hops"] == found["hops"]
        listed = envelope(client.get("/logs", params={"trace": trace}), 200)["data"]
        assert [(one["id"], one["hops"]) for one in listed] == [(message, entry["hops"])]


def test_who_gives_no_trace_gets_one(own, unique):
    with own.client() as client:
        messages = [post_log(client, "traceless", unique + str(number), via=STRAIGHT).headers["x-flexi-id"] for number in range(3)]
        traces = [receipt(client, message)["trace_id"] for message in messages]
        assert len(set(traces)) == 3 and all(len(trace) == 32 for trace in traces)


def test_a_mail_and_a_login_leave_entries_of_their_trace(own, unique):
    header = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    with own.client() as client:
        mail = client.post("/handle", json={"action": "mail", "mail": {"to": "you@example.com", "subject": unique, "message": "m"}}, headers=header)
        envelope(mail, 202)
        login = client.post("/handle", json={"action": "auth", "auth": {"email": "admin@example.com", "password": "verysecret"}}, headers=header)
        envelope(login, 202)
        found = receipt(client, mail.headers["x-flexi-id"])
        assert found["state"] == "stored" and found["action"] == "mail" and found["where"] == "mail" and found["trace_id"] == TRACE
        assert [hop["at"] for hop in found["hops"]][-1] == "mail"
        entries = {entry["name"]: entry for entry in envelope(client.get("/logs", params={"trace": TRACE}), 200)["data"]}
        assert [hop["at"] for hop in entries["mail"]["hops"]] == ["mail", "logger"]
        assert [hop["at"] for hop in entries["authentication"]["hops"]] == ["authentication", "logger"]
        assert receipt(client, login.headers["x-flexi-id"])["state"] == "unknown", "a login is answered and gone"


def test_a_key_is_found_as_its_sender_knows_it(make_instance, tmp_path, unique):
    token = tmp_path / "token"
    token.write_text("secret-token-of-this-test")
    instance = make_instance(settings={"FLEXI_ADMIN_TOKEN_FILE": token}).start()
    bearer = {"Authorization": "Bearer secret-token-of-this-test"}
    with instance.client() as client:
        envelope(post_log(client, "mine", unique, headers=bearer | {"Idempotency-Key": unique}, via=STRAIGHT), 202)
        envelope(post_log(client, "mine", unique, headers=bearer | {"Idempotency-Key": unique}, via=STRAIGHT), 202)
        found = envelope(client.get(f"/receipts/{unique}", headers=bearer), 200)["data"]
        assert found["state"] == "stored" and found["id"] == f"~admin~{unique}" and found["duplicates"] == 1
        assert run_cli("receipt", unique, "--url", instance.url, "--token-file", str(token)).returncode == 0
        # The same key of a stranger is another message.
        envelope(post_log(client, "a stranger's", unique, headers={"Idempotency-Key": unique}, via=STRAIGHT), 202)
        assert envelope(client.get(f"/receipts/{unique}", headers=bearer), 200)["data"]["id"] == f"~admin~{unique}"


def test_receipts_are_administration(make_instance, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret-token-of-this-test")
    instance = make_instance(settings={"FLEXI_ADMIN_TOKEN_FILE": token}).start()
    for headers in ({"X-Forwarded-For": "10.0.0.9"}, {"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        with instance.client() as client:
            for path in ("/receipts/x", "/ledger", "/logs/x"):
                assert client.get(path, headers=headers).status_code in (401, 403), (headers, path)


@embedded_only("test_ledger_rabbitmq.py has it over RabbitMQ, which is counted in its own time")
def test_dead_letters_are_told_with_their_reason_and_their_end(own, unique):
    with own.client() as client:
        before = ledger(client)
        envelope(client.post("/log", json={"name": "first", "data": unique}, headers={"X-Flexi-Id": unique}), 202)
        envelope(post_log(client, "second", unique, headers={"Idempotency-Key": unique}, via="amqp", ack="accepted"), 202)
        eventually(lambda: client.get(f"/dlq/{unique}").status_code == 200, "it is dead-lettered")
        assert at_rest(client)["dead_lettered"] == before["dead_lettered"] + 1
        # The id is stored, by its first owner; that of the letter alone is asked for where the action differs.
        assert receipt(client, unique)["state"] == "stored"
        mail = uuid.uuid4().hex
        envelope(client.post("/send", json={"to": "you@example.com", "subject": "a", "message": "m"}, headers={"X-Flexi-Id": mail}), 202)
        envelope(client.delete(f"/mails/{mail}"), 200)
        envelope(client.post("/handle", json={"action": "mail", "via": "amqp", "ack": "accepted", "mail": {"to": "you@example.com", "subject": "b", "message": "m"}},
                             headers={"Idempotency-Key": mail}), 202)
        dead = eventually(lambda: (lambda one: one["state"] == "dead_lettered" and one)(receipt(client, mail)), "it is dead-lettered")
        assert "conflict" in dead["reason"] and dead["attempts"] == 1 and dead["where"] == "queue" and dead["at"] >= dead["accepted_at"]
        shown = run_cli("receipt", mail, "--url", own.url)
        assert shown.returncode == 0 and "dead_lettered" in shown.stdout and "conflict" in shown.stdout
        # A replay moves it from dead-lettered to in flight, where it dies again.
        moved = at_rest(client)
        envelope(client.post(f"/dlq/{mail}/replay"), 200)
        eventually(lambda: client.get(f"/dlq/{mail}").status_code == 200, "it dies again")
        assert at_rest(client)["accepted"] == moved["accepted"]
        assert at_rest(client)["dead_lettered"] == moved["dead_lettered"]
        for letter in (mail, unique):
            envelope(client.delete(f"/dlq/{letter}"), 200)
        ended = receipt(client, mail)
        assert ended["state"] == "discarded" and "conflict" in ended["reason"]
        after = at_rest(client)
        assert after["discarded"] == moved["discarded"] + 2 and after["adds_up"] and after["unaccounted"] == 0


def test_nobody_knows_what_never_was(own):
    with own.client() as client:
        assert receipt(client, "never-seen") == {"id": "never-seen", "state": "unknown"}
    shown = run_cli("receipt", "never-seen", "--url", own.url)
    assert shown.returncode == 1 and "unknown" in shown.stdout


@embedded_only("ways inside one process")
def test_the_ledger_counts_each_id_once_by_its_way(make_instance, unique):
    instance = make_instance().start()
    with instance.client() as client:
        empty = ledger(client)
        assert empty["adds_up"] and empty["accepted"] == 0
        for way in (DIRECT, QUEUE, QUEUE_STORED, {"via": "http", "ack": "stored"}):
            for number in range(5):
                for _ in range(2):  # each twice: one message, one duplicate
                    envelope(post_log(client, "n", unique, headers={"Idempotency-Key": f"{unique}-{json.dumps(way, separators='-=')}-{number}".replace('"', "")}, **way), 202)
        envelope(client.post("/handle", json={"action": "mail", "mail": {"to": "you@example.com", "subject": "s", "message": "m"}}), 202)
        read = at_rest(client)
        assert read["adds_up"] and read["unaccounted"] == 0 and read["not_asked"] == []
        assert line(read, "log", "http")["stored"] == 5 and line(read, "log", "http")["duplicates"] == 5
        assert line(read, "log", "amqp")["accepted"] == 10 and line(read, "log", "amqp")["stored"] == 10 and line(read, "log", "amqp")["duplicates"] == 10
        assert line(read, "log", "inproc")["stored"] == 6, "five logs, and the entry that the mail left"
        assert line(read, "mail", "inproc")["stored"] == 1
        # An id that went two ways is one id.
        envelope(post_log(client, "two", unique, headers={"Idempotency-Key": unique}, via=STRAIGHT), 202)
        envelope(post_log(client, "two", unique, headers={"Idempotency-Key": unique}, via="amqp"), 202)
        both = at_rest(client)
        assert both["accepted"] == read["accepted"] + 1 and both["stored"] == read["stored"] + 1 and both["adds_up"]
        assert both["stored"] == len(all_logs(client)) + len(client.get("/mails").json()["data"])
    shown = run_cli("ledger", "--url", instance.url)
    assert shown.returncode == 0 and "unaccounted" in shown.stdout
    metrics = eventually(lambda: (lambda text: "flexiconnect_ledger_unaccounted 0" in text and text)(instance.client().get("/metrics").text), "the metric shows")
    assert 'flexiconnect_ledger_messages{action="log",state="stored",way="amqp"} 10' in metrics


@embedded_only("looks into the embedded queue's table")
def test_what_is_removed_behind_its_back_is_unaccounted_for(make_instance, unique):
    """A message goes from the queue's table by a foreign hand: nobody else has it, and the ledger says so."""
    instance = make_instance().start()
    with instance.client() as client:
        mail = {"action": "mail", "via": "amqp", "ack": "accepted", "mail": {"to": "you@example.com", "subject": unique, "message": "m"}}
        envelope(client.post("/send", json={"to": "you@example.com", "subject": "first", "message": "m"}, headers={"X-Flexi-Id": unique}), 202)
        envelope(client.post("/handle", json=mail, headers={"Idempotency-Key": unique}), 202)
        eventually(lambda: client.get(f"/dlq/{unique}").status_code == 200, "it is dead-lettered")
        assert at_rest(client)["adds_up"]
        with sqlite3.connect(instance.data_dir / "flexiconnect.db", timeout=10) as file:
            assert file.execute("DELETE FROM queue_dead").rowcount == 1
        read = at_rest(client)
        assert read["unaccounted"] == 1 and not read["adds_up"]
        assert line(read, "mail", "amqp")["unaccounted"] == 1
        assert "flexiconnect_ledger_unaccounted 1" in client.get("/metrics").text
    assert run_cli("ledger", "--url", instance.url).returncode == 1


def test_it_adds_up_after_kill_9_under_load(make_instance):
    instance = make_instance()
    for _ in range(3):
        instance.start()
        with Load(instance, [DIRECT, QUEUE, QUEUE_STORED, {"via": "http", "ack": "stored"}]) as load:
            enough = random.randint(200, 600)
            eventually(lambda: len(load.accepted) >= enough, "the load runs", interval=0.002)
            instance.kill()
    instance.start()
    with instance.client() as client:
        read = at_rest(client)
        assert read["adds_up"] and read["unaccounted"] == 0, read
        assert read["stored"] == len(all_logs(client)), "each id is stored once, and counted once"
        assert read["dead_lettered"] == 0


@embedded_only("the doors of one process")
def test_strangers_cannot_forge_it(own, unique):
    """In one process the services stand at the broker's port: where a message has been, and when it was accepted, is not for anybody to say."""
    journey = {"X-Flexi-Hops": "broker>amqp@1", "X-Flexi-Via": "amqp", "X-Flexi-Accepted-At": "2199-01-01T00:00:00Z"}
    with own.client() as client:
        for path, body in (("/log", {"name": "forged", "data": unique}), ("/actions/log", {"name": "forged", "data": unique}),
                           ("/send", {"to": "you@example.com", "subject": unique, "message": "m"})):
            for number, proof in enumerate(({}, {"X-Flexi-Process-Key": ""}, {"X-Flexi-Process-Key": "0" * 32})):
                message = f"{unique}{path.replace('/', '-')}{number}"
                envelope(client.post(path, json=body, headers=journey | proof | {"X-Flexi-Id": message}), 200 if path == "/actions/log" else 202)
                found = receipt(client, message)
                assert found["way"] == "http" and not any("broker" in hop["at"] for hop in found["hops"])
        assert max(entry["created_at"] for entry in all_logs(client)) < "2199", "no entry is of the time to come"
        read = at_rest(client)
        assert read["adds_up"] and read["unaccounted"] == 0


def test_callers_who_left_early_do_not_unbalance_it(make_instance, unique):
    """Deadlines that pass anywhere: before the queue, in it, in the store. What was told to fail may be stored; each id ends once."""
    instance = make_instance().start()
    with instance.client() as client:
        for number in range(300):
            way = [DIRECT, QUEUE_STORED, {"via": "http", "ack": "stored"}, QUEUE][number % 4]
            post_log(client, "hasty", f"{unique}{number}", headers={"X-Flexi-Timeout-Ms": str(number % 12)}, **way)
        read = eventually(lambda: (lambda one: one["adds_up"] and one["in_flight"] == 0 and one)(ledger(client)), "it adds up", seconds=90, interval=0.5)
        assert read["stored"] == len(all_logs(client))


def test_in_a_cluster_the_logger_is_asked(tmp_path, unique):
    """The broker knows nothing itself: what it says of stored messages comes from the logger's process, whichever way leads there."""
    token = tmp_path / "token"
    token.write_text("secret-token-of-this-test")
    admin = {"FLEXI_ADMIN_TOKEN_FILE": token}
    with contextlib.ExitStack() as running:
        logger, ends = running.enter_context(part(tmp_path / "logger", "logger", **admin))
        _, broker = running.enter_context(part(tmp_path / "broker", "broker", FLEXI_PEERS_LOGGER=f"{ends['http']},{ends['grpc']},{ends['rpc']}", FLEXI_PEERS_MAIL="", **admin))
        client = running.enter_context(httpx.Client(base_url=broker["http"], timeout=30, trust_env=False))
        sent = {via: post_log(client, "cluster", unique + via, headers={"X-Flexi-Hops": "evil@1"}, via=via) for via in ("http", "grpc", "rpc", "amqp")}
        for via, answer in sent.items():
            envelope(answer, 202)
            found = eventually(lambda: (lambda one: one.get("where") == "logger" and one)(receipt(client, answer.headers["x-flexi-id"])), f"it is stored by {via}")
            assert found["state"] == "stored" and found["way"] == via
            assert [hop["at"] for hop in found["hops"]] == ["broker", f"broker>{via}", *(["listener"] if via == "amqp" else []), "logger"], "a stranger's hops are not taken"
        read = at_rest(client)
        assert read["adds_up"] and read["not_asked"] == []
        assert {one["way"]: one["stored"] for one in read["lines"]} == {"http": 1, "grpc": 1, "rpc": 1, "amqp": 1}
        logger.kill()
        logger.wait()
        assert client.get("/receipts/never-seen").status_code == 503, "unknown would be a guess"
        half = receipt(client, sent["amqp"].headers["x-flexi-id"])
        assert half["state"] == "stored" and half["not_asked"] == ["logger"], "the queue still knows"
        read = ledger(client)
        assert read["not_asked"] == ["logger"] and not read["adds_up"]
        assert "flexiconnect_ledger_not_asked 1" in client.get("/metrics").text
