# SPDX-License-Identifier: Apache-2.0
"""The same key is the same message, over every way."""

import pytest
from conftest import DIRECT, INPROC, all_logs, envelope, eventually, post_log

MAIL = {"from": "me@example.com", "to": "you@example.com", "subject": "Hello", "message": "Hello world!"}


@pytest.mark.parametrize("first_via", [INPROC, "http", "amqp"])
@pytest.mark.parametrize("second_via", [INPROC, "http"])
def test_a_log_is_stored_once_whatever_the_ways(http, unique, first_via, second_via):
    key = {"Idempotency-Key": unique}
    envelope(post_log(http, unique, "x", headers=key, via=first_via, ack="stored"), 202)
    again = post_log(http, unique, "x", headers=key, via=second_via, ack="stored")
    envelope(again, 202)
    assert again.headers["x-flexi-duplicate"] == "true"
    assert len(all_logs(http, name=unique)) == 1


@pytest.mark.parametrize("via", [INPROC, "http", "amqp"])
def test_another_payload_is_a_conflict(http, unique, via):
    key = {"Idempotency-Key": unique}
    first = post_log(http, unique, "x", headers=key, via=via, ack="stored")
    envelope(first, 202)
    assert "x-flexi-duplicate" not in first.headers
    response = post_log(http, unique, "something else", headers=key, via=via, ack="stored")
    envelope(response, 409)
    assert response.headers["x-flexi-error"] == "conflict"
    assert [entry["data"] for entry in all_logs(http, name=unique)] == ["x"]


def test_a_mail_is_sent_once(http, unique):
    key = {"Idempotency-Key": unique}
    for attempt in range(3):
        response = http.post("/handle", json={"action": "mail", "mail": MAIL | {"subject": unique}}, headers=key)
        assert envelope(response, 202)["message"] == "Message sent to you@example.com"
        assert (response.headers.get("x-flexi-duplicate") == "true") == (attempt > 0)
    assert [mail["subject"] for mail in http.get("/mails", params={"limit": 500}).json()["data"]].count(unique) == 1
    envelope(http.post("/handle", json={"action": "mail", "mail": MAIL | {"subject": unique, "message": "other"}}, headers=key), 409)


def test_a_key_is_scoped_by_action(http, unique):
    key = {"Idempotency-Key": unique}
    envelope(post_log(http, unique, "x", headers=key, via=DIRECT), 202)
    response = http.post("/handle", json={"action": "mail", "mail": MAIL | {"subject": unique}}, headers=key)
    envelope(response, 202)
    assert "x-flexi-duplicate" not in response.headers


def test_a_duplicate_through_the_queue_is_stored_once(http, unique):
    key = {"Idempotency-Key": unique}
    for _ in range(3):
        envelope(post_log(http, unique, "x", headers=key, via="amqp"), 202)
    envelope(post_log(http, unique + "last", "x", via="amqp", ack="stored"), 202)
    eventually(lambda: all_logs(http, name=unique), "the entry arrives")
    assert len(all_logs(http, name=unique)) == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 201, 'quo"te', "back\\slash", "~tilde"])
def test_a_key_that_is_none(http, key):
    response = post_log(http, "n", "d", headers={"Idempotency-Key": key})
    assert "idempotency" in envelope(response, 400)["message"].lower()


@pytest.mark.parametrize("key", [5, "", None, {}, "a b"])
def test_an_id_in_the_body_that_is_none(http, key):
    response = post_log(http, "n", "d", id=key)
    if key is None:
        assert response.status_code in (202, 400)
    else:
        assert "id" in envelope(response, 400)["message"]
