# SPDX-License-Identifier: Apache-2.0
"""The broker's limits and keys hold whichever door of the process a request takes; who looks or administers is let in."""

import pytest
from conftest import EXAMPLE_USER, INPROC, embedded_only, envelope, post_log

MAIL = {"from": "me@example.com", "to": "you@example.com", "subject": "Hello", "message": "Hello world!"}
LOG = {"name": "n", "data": "d"}
DOORS = [("/handle", {"action": "log", "log": LOG}), ("/log", LOG), ("/send", MAIL), ("/authenticate", EXAMPLE_USER), ("/actions/log", LOG)]


def rate(burst):
    """So many, and no more while a test lasts."""
    return {"FLEXI_BROKER_RATE_LIMIT_PER_SECOND": "0.01", "FLEXI_BROKER_RATE_LIMIT_BURST": burst}


@embedded_only("the doors of one process")
@pytest.mark.parametrize("own", [rate(len(DOORS))], indirect=True)
def test_all_doors_share_one_rate_limit(own):
    with own.client() as client:
        for path, body in DOORS:
            envelope(client.post(path, json=body), 200 if path.startswith("/actions/") else 202)
        for path, body in DOORS:
            refused = client.post(path, json=body)
            envelope(refused, 429)
            assert refused.headers["x-flexi-error"] == "overloaded"
            assert int(refused.headers["retry-after"]) > 0
        for path in ("/logs", "/dlq", "/mails", "/users", "/system", "/ledger"):
            envelope(client.get(path), 200)


@embedded_only("the doors of one process")
@pytest.mark.parametrize("own", [rate(4)], indirect=True)
def test_a_call_that_leads_back_into_the_process_is_limited_once(own):
    with own.client() as client:
        for via in ("http", "grpc", "rpc"):
            assert post_log(client, "n", via, via=via, ack="stored").headers.get("x-flexi-way") == via
        envelope(client.post("/log", json=LOG), 202)
        envelope(client.post("/log", json=LOG), 429)


@pytest.mark.parametrize("own", [{f"FLEXI_BROKER_CONCURRENCY_{name}": 1 for name in ("INITIAL", "MIN", "MAX")}], indirect=True)
@pytest.mark.parametrize("via", ["http", "grpc", "rpc"])
def test_nor_does_it_wait_for_its_own_place(own, via):
    with own.client() as client:
        for number in range(3):
            envelope(post_log(client, "n", str(number), via=via, ack="stored"), 202)


@pytest.mark.parametrize("via", [pytest.param("amqp", marks=embedded_only("the doors of one process")), INPROC, "http"])
def test_a_key_is_one_message_at_every_door(http, unique, via):
    key = {"Idempotency-Key": unique}
    envelope(http.post("/log", json={"name": unique, "data": "first"}, headers=key), 202)
    before = len(envelope(http.get("/dlq"), 200)["data"])
    refused = post_log(http, unique, "second", headers=key, via=via)
    envelope(refused, 409)
    assert refused.headers["x-flexi-error"] == "conflict"
    assert len(envelope(http.get("/dlq"), 200)["data"]) == before, "nothing dies of what was refused"


def test_a_key_of_the_brokers_holds_at_the_services_door(http, unique):
    key = {"Idempotency-Key": unique}
    envelope(post_log(http, unique, "first", headers=key, via="amqp"), 202)
    envelope(http.post("/log", json={"name": unique, "data": "second"}, headers=key), 409)


@embedded_only("the doors of one process")
def test_direct_calls_are_counted(own):
    with own.client() as client:
        envelope(client.post("/log", json=LOG), 202)
        assert 'flexi_requests_total{action="log",outcome="ok",way=""} 1' in client.get("/metrics").text
