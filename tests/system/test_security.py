# SPDX-License-Identifier: Apache-2.0
"""Open to browsers, not to strangers: who may read and administer."""

import socket
import subprocess

import pytest
from conftest import DIRECT, all_logs, envelope, post_log, run_cli

ADMINISTRATION = [("GET", "/logs"), ("GET", "/logs/tail"), ("GET", "/mails"), ("GET", "/mails/x"), ("DELETE", "/mails/x"), ("POST", "/mails/x/release"),
                  ("GET", "/users"), ("GET", "/users/1"), ("GET", "/dlq"), ("GET", "/dlq/x"), ("POST", "/dlq/x/replay"), ("DELETE", "/dlq/x"), ("POST", "/dlq/replay?all=true"), ("DELETE", "/dlq?all=true")]
TOKEN = "correct-horse-battery-staple"


@pytest.mark.parametrize("method, path", ADMINISTRATION)
@pytest.mark.parametrize("origin", ["http://evil.example", "https://localhost.evil.example", "null", "http://127.0.0.1:1"])
def test_a_foreign_origin_may_not_administer(http, method, path, origin):
    response = http.request(method, path, headers={"Origin": origin})
    assert envelope(response, 403)
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("method, path", ADMINISTRATION)
def test_a_foreign_preflight_is_not_allowed(http, method, path):
    response = http.options(path, headers={"Origin": "http://evil.example", "Access-Control-Request-Method": method})
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("method, path", ADMINISTRATION)
def test_another_host_name_may_not_administer(http, method, path):
    """DNS rebinding: a stranger's name that points at us."""
    response = http.request(method, path, headers={"Host": "evil.example"})
    assert response.status_code in (400, 403), response.text


def test_a_host_that_is_not_loopbacks_is_told_as_the_reason(http):
    refused = envelope(http.get("/logs", headers={"Host": "flexi.local:8080"}), 403)["message"]
    for word in ("flexi.local", "Host", "localhost", "FLEXI_ADMIN_TOKEN_FILE"):
        assert word in refused, refused
    assert "another machine" not in refused


def test_the_own_origin_may(http, shared):
    envelope(http.get("/logs", headers={"Origin": shared.url}), 200)
    envelope(http.get("/logs", headers={"Host": f"localhost:{shared.port}", "Origin": f"http://localhost:{shared.port}"}), 200)


def test_a_foreign_origin_may_use_the_contract(http):
    envelope(http.post("/", headers={"Origin": "http://somewhere.example"}), 200)


@pytest.mark.parametrize("action", ["logs.list", "users.list", "mails.list", "dlq.list"])
def test_administration_does_not_pass_as_a_message(http, action):
    """Contract calls are open to any origin, so no administrative action may go through them."""
    response = http.post("/handle", json={"action": action, action: {}}, headers={"Origin": "http://evil.example"})
    assert response.status_code in (400, 403), response.text
    response = http.post(f"/actions/{action}", json={}, headers={"Origin": "http://evil.example"})
    envelope(response, 403)


@pytest.fixture
def guarded(make_instance, tmp_path):
    """An instance that listens on every address, with an administrator's token."""
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    instance = make_instance(settings={"FLEXI_HTTP_LISTEN": "0.0.0.0:0", "FLEXI_ADMIN_TOKEN_FILE": token}).start()
    instance.url = f"http://127.0.0.1:{instance.port}"
    return instance


def other_addresses():
    """This machine's addresses that are not loopback's."""
    listed = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
    return [address for address in listed if ":" not in address]


def check_token_is_wanted(client, **headers):
    envelope(client.get("/logs", headers=headers), 401)
    envelope(client.get("/logs", headers=headers | {"Authorization": "Bearer wrong"}), 401)
    envelope(client.get("/logs", headers=headers | {"Authorization": TOKEN}), 401)
    envelope(client.post("/actions/users.list", json={}, headers=headers), 401)
    envelope(client.get("/logs", headers=headers | {"Authorization": f"Bearer {TOKEN}"}), 200)
    envelope(client.post("/", headers=headers), 200)


def test_through_a_proxy_administration_wants_the_token(guarded):
    with guarded.client() as client:
        check_token_is_wanted(client, **{"X-Forwarded-For": "203.0.113.9"})
        check_token_is_wanted(client, Forwarded="for=203.0.113.9")
        check_token_is_wanted(client, Via="1.1 proxy")
        check_token_is_wanted(client, **{"X-Real-IP": "203.0.113.9"})
        check_token_is_wanted(client, **{"X-Forwarded-Proto": "https"})
    guarded.terminate()
    assert TOKEN not in guarded.log()


def test_a_proxy_that_says_nothing_is_no_administrator_where_the_token_is_always_wanted(make_instance, tmp_path):
    token = tmp_path / "token"
    token.write_text(TOKEN)
    instance = make_instance(settings={"FLEXI_ADMIN_TOKEN_FILE": token, "FLEXI_ADMIN_TOKEN_ALWAYS": "true"}).start()
    with instance.client() as client:
        check_token_is_wanted(client)
        envelope(client.get("/metrics"), 401)
        assert client.get("/readyz").status_code == 200
        for via in ("http", "grpc", "rpc"):
            envelope(post_log(client, "always", via, via=via), 202)
    assert run_cli("dlq", "list", "--url", instance.url, "--token-file", token).returncode == 0
    assert run_cli("dlq", "list", "--url", instance.url).returncode != 0


def test_from_another_address_administration_wants_the_token(guarded):
    if not other_addresses():
        pytest.skip("this machine has no address but loopback's")
    guarded.url = f"http://{other_addresses()[0]}:{guarded.port}"
    with guarded.client() as client:
        check_token_is_wanted(client)


def test_off_loopback_there_is_no_example_user(guarded):
    with guarded.client() as client:
        envelope(client.post("/authenticate", json={"email": "admin@example.com", "password": "verysecret"}), 401)


def test_the_live_log(own):
    with own.client() as client, own.client() as reader:
        with reader.stream("GET", "/logs/tail", params={"name": "wanted"}) as stream:
            assert stream.status_code == 200 and stream.headers["content-type"].startswith("text/event-stream")
            lines = stream.iter_lines()
            envelope(post_log(client, "other", "not this one", via=DIRECT), 202)
            envelope(post_log(client, "wanted", "this\none", via=DIRECT), 202)
            event = next(line for line in lines if line.startswith("data:"))
            assert '"this\\none"' in event and '"wanted"' in event


def test_a_live_log_does_not_hold_up_a_stop(own):
    with own.client() as reader, reader.stream("GET", "/logs/tail") as stream:
        assert stream.status_code == 200
        own.terminate()


def test_a_reader_that_goes_away_is_forgotten(own):
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", own.port)) as connection:
            connection.sendall(b"GET /logs/tail HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    with own.client() as client:
        envelope(post_log(client, "after", "readers", via=DIRECT), 202)
        assert len(all_logs(client, name="after")) == 1


def test_secrets_are_not_logged(own):
    with own.client() as client:
        envelope(client.post("/authenticate", json={"email": "admin@example.com", "password": "verysecret"}), 202)
        envelope(client.post("/handle", json={"action": "auth", "auth": {"email": "admin@example.com", "password": "s3cret-typed-wrong"}}), 401)
        assert "verysecret" not in str(all_logs(client))
    own.terminate()
    assert "verysecret" not in own.log() and "s3cret-typed-wrong" not in own.log()


def test_the_data_folder_is_private(own):
    assert own.data_dir.stat().st_mode & 0o077 == 0
