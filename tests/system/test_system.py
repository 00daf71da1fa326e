# SPDX-License-Identifier: Apache-2.0
"""GET /system: health, rates, queue and addresses of everything that the process knows."""

import json
import time

import pytest
from conftest import EXAMPLE_USER, envelope, eventually, post_log, run_cli


def system(client):
    return envelope(client.get("/system"), 200)["data"]


def way(data, action, via):
    row = next(row for row in data["actions"] if row["action"] == action)
    return next(way for way in row["ways"] if way["via"] == via)


def test_the_process_and_its_addresses(own):
    with own.client() as client:
        data = system(client)
        assert data["pid"] == own.process.pid and data["role"] == "all-in-one" and data["readiness"]["ready"] is True
        assert own.url in [row["endpoint"] for row in data["listening"]]
        assert data["stores"][0]["state"] == "ok" and data["stores"][0]["bytes"] > 0
        assert data["version"] in run_cli("version").stdout
        assert {row["action"] for row in data["actions"]} == {"log", "auth", "mail"}
        assert all(way["state"] == "healthy" for row in data["actions"] for way in row["ways"])
        assert "estimated" in data["quantiles"]


def test_rates_and_quantiles_follow_the_calls(own):
    with own.client() as client:
        assert way(system(client), "log", "inproc")["p50_ms"] is None
        eventually(lambda: way(system(client), "log", "inproc")["calls_per_second_10s"] == 0, "a first sample")
        began = time.monotonic()
        for number in range(30):
            envelope(post_log(client, "n", str(number), via="inproc"), 202)
        took = time.monotonic() - began
        envelope(client.post("/handle", json={"action": "auth", "auth": EXAMPLE_USER}), 202)
        row = eventually(lambda: (found := way(system(client), "log", "inproc"))["calls_per_second_10s"] > 0 and found, "a sample with the calls")
        assert row["calls"] == 30 and row["errors"] == 0
        assert 0 < row["p50_ms"] <= row["p99_ms"] < took * 1000 + 100
        assert row["calls_per_second_60s"] > 0
        auth = eventually(lambda: (found := way(system(client), "auth", "inproc"))["p99_ms"] and found, "the login is sampled")
        assert auth["calls"] == 1 and auth["p99_ms"] > row["p50_ms"], "a password costs more than a log entry"
        assert way(system(client), "log", "amqp")["calls"] == 0


def test_a_wrong_request_is_not_the_ways_fault(own):
    with own.client() as client:
        envelope(client.post("/handle", json={"action": "auth", "via": "inproc", "auth": {"email": "a@b.c", "password": "wrong"}}), 401)
        row = way(system(client), "auth", "inproc")
        assert row["calls"] == 1 and row["errors"] == 0 and row["state"] == "healthy"


def test_the_queue_and_its_dead_letters(make_instance):
    """Nobody listens where the action leads, so the queue keeps the message."""
    instance = make_instance(settings={"FLEXI_ACTIONS_DO_URL": "http://127.0.0.1:1/", "FLEXI_QUEUE_RETRY_DELAY": "1h", "FLEXI_QUEUE_MAX_RETRY_DELAY": "1h"}).start()
    with instance.client() as client:
        assert system(client)["queue"] == {"kind": "embedded", "depth": 0, "dead_letters": 0, "bytes": 0, "oldest_seconds": None}
        for number in range(3):
            envelope(client.post("/handle", json={"action": "do", "via": "amqp", "ack": "accepted", "do": {"n": number}}), 202)
        waiting = eventually(lambda: (found := system(client)["queue"])["depth"] == 3 and found, "three wait")
        assert waiting["bytes"] == 3 * len('{"n":0}') and waiting["oldest_seconds"] >= 0
        envelope(client.post("/log", json={"name": "first", "data": "x"}, headers={"X-Flexi-Id": "poison"}), 202)
        envelope(post_log(client, "second", "x", headers={"Idempotency-Key": "poison"}, via="amqp", ack="accepted"), 202)
        eventually(lambda: system(client)["queue"]["dead_letters"] == 1, "a dead letter")


def test_a_way_that_fails_is_shown_as_set_aside(make_instance):
    instance = make_instance(settings={"FLEXI_ACTIONS_DO_URL": "http://127.0.0.1:1/", "FLEXI_BROKER_CIRCUIT_FAILURES": "2", "FLEXI_BROKER_CIRCUIT_EJECTION": "1h",
                                       "FLEXI_BROKER_CIRCUIT_MAX_EJECTION": "1h"}).start()
    with instance.client() as client:
        envelope(client.post("/handle", json={"action": "do", "via": "http", "do": {}}), 503)
        row = way(system(client), "do", "http")
        assert row["state"] == "set_aside" and row["aside_ms"] > 3_000_000 and row["errors"] >= 2
        peer = next(peer for peer in system(client)["peers"] if peer["peer"] == "http://127.0.0.1:1")
        assert peer["addresses"][0]["address"] == "127.0.0.1:1" and peer["addresses"][0]["because"] == "it can't be reached"


def test_strangers_see_nothing_of_it(make_instance, tmp_path):
    (tmp_path / "token").write_text("s3cret-token")
    with make_instance(settings={"FLEXI_ADMIN_TOKEN_FILE": tmp_path / "token"}).start().client() as client:
        envelope(client.get("/system", headers={"Host": "flexi.example"}), 401)
        envelope(client.get("/system", headers={"Origin": "http://evil.example"}), 403)
        envelope(client.post("/handle", json={"action": "system.get"}, headers={"Host": "flexi.example"}), 401)
        envelope(client.get("/system", headers={"Host": "flexi.example", "Authorization": "Bearer s3cret-token"}), 200)
        assert "s3cret-token" not in client.get("/system").text


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_line_shows_it(own, as_json):
    shown = run_cli("status", "--url", own.url, *(["--json"] if as_json else []))
    assert shown.returncode == 0, shown.stderr
    if as_json:
        assert json.loads(shown.stdout)["pid"] == own.process.pid
    else:
        assert f"pid {own.process.pid}" in shown.stdout and "action log" in shown.stdout and own.url in shown.stdout
    assert run_cli("status", "--url", "http://127.0.0.1:1").returncode == 3
