# SPDX-License-Identifier: Apache-2.0
"""What the queue can't deliver is kept with its reason, and can be replayed or discarded, by HTTP and by command line."""

import json

import pytest
from conftest import all_logs, embedded_only, envelope, eventually, post_log, run_cli


def poison(client, key):
    """A message that the queue takes and the logger refuses: its id belongs to another entry already, given to the logger as by a peer,
    which the broker can't know of."""
    envelope(client.post("/log", json={"name": "first", "data": key}, headers={"X-Flexi-Id": key}), 202)
    envelope(post_log(client, "second", key, headers={"Idempotency-Key": key}, via="amqp", ack="accepted"), 202)
    return eventually(lambda: next((letter for letter in envelope(client.get("/dlq"), 200)["data"] if key in letter["id"]), None), "the message is dead-lettered")


def test_a_poison_message_is_shown_with_its_reason(own, unique):
    with own.client() as client:
        letter = poison(client, unique)
        assert set(letter) == {"id", "action", "payload", "reason", "attempts", "accepted_at", "dead_at"}
        assert letter["action"] == "log" and "conflict" in letter["reason"] and letter["attempts"] == 1, "retrying could not help"
        payload = letter["payload"] if isinstance(letter["payload"], dict) else json.loads(letter["payload"])
        assert payload == {"name": "second", "data": unique}
        assert envelope(client.get(f"/dlq/{letter['id']}"), 200)["data"] == letter
        assert [entry["name"] for entry in all_logs(client) if entry["data"] == unique] == ["first"]


def test_replay_and_discard_by_http(own, unique):
    with own.client() as client:
        letter = poison(client, unique)
        assert envelope(client.post(f"/dlq/{letter['id']}/replay"), 200)["message"] == "replayed"
        again = eventually(lambda: next((other for other in client.get("/dlq").json()["data"] if other["dead_at"] != letter["dead_at"]), None), "it dies again")
        assert again["id"] == letter["id"]
        assert envelope(client.delete(f"/dlq/{letter['id']}"), 200)["message"] == "discarded"
        assert envelope(client.get("/dlq"), 200)["data"] == []
        for response in (client.get(f"/dlq/{letter['id']}"), client.post(f"/dlq/{letter['id']}/replay"), client.delete(f"/dlq/{letter['id']}")):
            envelope(response, 404)


def test_the_command_line_does_the_same(own, unique):
    with own.client() as client:
        ids = {poison(client, f"{unique}{number}")["id"] for number in range(3)}
        listed = run_cli("dlq", "list", "--json", "--url", own.url)
        assert listed.returncode == 0, listed.stderr
        assert {letter["id"] for letter in json.loads(listed.stdout)} == ids
        one = sorted(ids)[0]
        shown = run_cli("dlq", "show", one, "--url", own.url)
        assert shown.returncode == 0 and "conflict" in shown.stdout and one in shown.stdout
        assert run_cli("dlq", "replay", one, "--url", own.url).returncode == 0
        eventually(lambda: len(client.get("/dlq").json()["data"]) == 3, "it dies again")
        assert run_cli("dlq", "discard", one, "--url", own.url).returncode == 0
        assert run_cli("dlq", "show", one, "--url", own.url).returncode == 1
        everything = run_cli("dlq", "replay", "--all", "--url", own.url)
        assert everything.returncode == 0 and "2" in everything.stdout
        eventually(lambda: len(client.get("/dlq").json()["data"]) == 2, "they die again")


def test_letters_of_two_actions_under_one_key_are_told_apart(own, unique):
    key = {"Idempotency-Key": unique}
    mail = {"to": "you@example.com", "message": "x"}
    with own.client() as client:
        # Both services know the id already with another content, so what comes by the queue is a dead letter of each.
        known = {"X-Flexi-Id": unique}
        envelope(client.post("/log", json={"name": "first", "data": "x"}, headers=known), 202)
        envelope(client.post("/send", json={**mail, "subject": "first"}, headers=known), 202)
        envelope(post_log(client, "second", "x", headers=key, via="amqp", ack="accepted"), 202)
        envelope(client.post("/handle", json={"action": "mail", "via": "amqp", "ack": "accepted", "mail": {**mail, "subject": "second"}}, headers=key), 202)
        eventually(lambda: len(client.get("/dlq").json()["data"]) == 2, "both are dead letters")
        for answer in (client.get(f"/dlq/{unique}"), client.post(f"/dlq/{unique}/replay"), client.delete(f"/dlq/{unique}")):
            assert "log, mail" in envelope(answer, 409)["message"]
        assert run_cli("dlq", "discard", unique, "--url", own.url).returncode == 1
        assert "second" in run_cli("dlq", "show", unique, "--action", "mail", "--url", own.url).stdout
        assert len(client.get("/dlq").json()["data"]) == 2, "nobody guessed"
        envelope(client.delete(f"/dlq/{unique}", params={"action": "log"}), 200)
        assert [letter["action"] for letter in client.get("/dlq").json()["data"]] == ["mail"]
        envelope(client.delete(f"/dlq/{unique}", params={"action": "log"}), 404)
        assert run_cli("dlq", "discard", unique, "--action", "mail", "--url", own.url).returncode == 0
        assert client.get("/dlq").json()["data"] == []


@embedded_only("RabbitMQ can't be asked what lies among its dead letters before it takes more")
def test_what_lies_among_the_dead_letters_is_not_accepted_again(own, unique):
    with own.client() as client:
        poison(client, unique)
        answer = post_log(client, "second", unique, headers={"Idempotency-Key": unique}, via="amqp", ack="accepted")
        assert "dead letters" in envelope(answer, 409)["message"], "a 202 would not be the truth"


def test_dead_letters_survive_a_crash(make_instance, unique):
    instance = make_instance().start()
    with instance.client() as client:
        letter = poison(client, unique)
    instance.kill()
    instance.start()
    with instance.client() as client:
        assert envelope(client.get("/dlq"), 200)["data"] == [letter]


def test_a_login_is_never_kept(own):
    with own.client() as client:
        response = client.post("/handle", json={"action": "auth", "via": "amqp", "auth": {"email": "admin@example.com", "password": "wr0ng-s3cret"}})
        assert envelope(response, 401)["message"] == "invalid credentials"
        assert envelope(client.get("/dlq"), 200)["data"] == []
    own.terminate()
    assert "wr0ng-s3cret" not in own.log()
    for file in (file for folder in own.data_dirs for file in folder.rglob("*")):
        assert not file.is_file() or b"wr0ng-s3cret" not in file.read_bytes(), file


@pytest.mark.parametrize("limit, pages", [(2, [2, 2, 1])])
def test_pages(own, unique, limit, pages):
    with own.client() as client:
        for number in range(5):
            poison(client, f"{unique}{number}")
        sizes, cursor, ids = [], None, set()
        while True:
            body = envelope(client.get("/dlq", params={"limit": limit} | ({"cursor": cursor} if cursor else {})), 200)
            sizes.append(len(body["data"]))
            ids |= {letter["id"] for letter in body["data"]}
            cursor = body.get("next")
            if not cursor:
                break
        assert sizes == pages and len(ids) == 5
