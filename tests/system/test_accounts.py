# SPDX-License-Identifier: Apache-2.0
"""Accounts from the outside: logins that must wait, hashes that are renewed, tokens (checked by PyJWT), and users administered over HTTP."""

import base64
import hashlib
import hmac
import json
import sqlite3
import stat
import subprocess
import time

import pytest
from amqp_support import Foreign, ready
from amqp_support import settings as amqp_settings
from conftest import EXAMPLE_USER, ON_SERVICES, ROOT, embedded_only, envelope, eventually, run_cli, system
from test_custom_actions import Service
from ways_in import generated_grpc

jwt = pytest.importorskip("jwt", reason="not run: no python3-jwt here")

ADMIN = {"FLEXI_AUTHENTICATION_ADMINISTRATORS": "ADMIN@example.com"}
QUICK = {"FLEXI_AUTHENTICATION_PASSWORDS_COST": 4}
TOKEN_FILE = "FLEXI_ADMIN_TOKEN_FILE"
ADA = {"email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace", "password": "the analytical engine"}
WAYS = ("http", "grpc", "rpc", "amqp") if ON_SERVICES else ("inproc", "http", "grpc", "rpc", "amqp")


def log_in(client, email=EXAMPLE_USER["email"], password=EXAMPLE_USER["password"], **options):
    return client.post("/authenticate", json={"email": email, "password": password}, **options)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def token_of(client, **credentials):
    response = log_in(client, **credentials)
    envelope(response, 202)
    return response.headers["x-flexi-token"]


def key_file(instance):
    """Made by itself where everything is one process; where authentication runs alone it is given one."""
    return instance.at("/authenticate").settings["FLEXI_AUTHENTICATION_TOKEN_KEY_FILE"] if ON_SERVICES else instance.data_dir / "token.key"


def key_of(instance):
    return key_file(instance).read_text().strip()


def grpc_address(instance, path):
    """Of whoever has that call of the contract."""
    line = next(line for line in instance.at(path).log().splitlines() if '"also"' in line)
    return next(each for each in json.loads(line)["also"].split() if each.startswith("grpc://")).removeprefix("grpc://")


def stored_hash(instance, email=EXAMPLE_USER["email"]):
    if ON_SERVICES:
        places = instance.destinations
        return places.postgresql.run(places.users, "SELECT password FROM users WHERE email = %s", email)[0][0]
    with sqlite3.connect(instance.data_dir / "flexiconnect.db", timeout=20) as db:
        return db.execute("SELECT password FROM users WHERE email = ?", (email,)).fetchone()[0]


def segments(*parts):
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.fixture
def admin_token(tmp_path):
    file = tmp_path / "admin-token"
    file.write_text("the-administrators-own-token\n")
    return file


@pytest.fixture(scope="module")
def accounts(request):
    """One server for the tests that leave its users as they found them."""
    with system(request, ADMIN | QUICK) as instance:
        yield instance


@pytest.fixture
def client(accounts):
    with accounts.client() as client:
        yield client


# --- hashes

@pytest.mark.parametrize("own", [QUICK], indirect=True)
def test_a_login_renews_a_hash_of_another_cost(own):
    assert stored_hash(own).startswith("$2a$12$"), "the contract's example user"
    with own.client() as client:
        envelope(log_in(client, password="wrong"), 401)
        assert stored_hash(own).startswith("$2a$12$")
        envelope(log_in(client), 202)
        eventually(lambda: stored_hash(own).startswith("$2b$04$"), "the new hash is stored")
        envelope(log_in(client), 202)


@pytest.mark.parametrize("own", [{"FLEXI_AUTHENTICATION_PASSWORDS_ALGORITHM": "argon2id", "FLEXI_AUTHENTICATION_PASSWORDS_ARGON2_MEMORY_KIB": 1024,
                                  "FLEXI_AUTHENTICATION_WIDE_PASSWORD_COLUMN": "true"}], indirect=True)
def test_argon2id_where_it_is_chosen_and_bcrypt_all_the_same(own):
    if ON_SERVICES:
        places = own.destinations
        places.postgresql.run(places.users, (ROOT / "schemas/postgres/optional/widen_password.sql").read_text())
    with own.client() as client:
        envelope(client.post("/users", json=ADA), 200)
        assert stored_hash(own, ADA["email"]).startswith("$argon2id$v=19$m=1024,t=2,p=1$")
        envelope(log_in(client, ADA["email"], ADA["password"]), 202)
        envelope(log_in(client, ADA["email"], "wrong"), 401)
        envelope(log_in(client, ADA["email"], "x" * 73), 400)
        envelope(log_in(client), 202)
        eventually(lambda: stored_hash(own).startswith("$argon2id$"), "bcrypt has been replaced")


def test_check_config_judges_the_memory_of_hashes():
    result = run_cli("check-config", settings={"FLEXI_AUTHENTICATION_PASSWORDS_ALGORITHM": "argon2id", "FLEXI_AUTHENTICATION_PASSWORDS_THREADS": 64})
    assert result.returncode != 0 and "max_memory_kib" in result.stdout + result.stderr


# --- lockout

LOCKOUT = {f"FLEXI_AUTHENTICATION_LOCKOUT_{name}": value for name, value in {"FREE_FAILURES": 3, "FIRST_DELAY": "3s", "MAX_DELAY": "3s"}.items()} | QUICK


@pytest.mark.parametrize("own", [LOCKOUT], indirect=True)
def test_guesses_must_wait_whichever_way_they_go(own):
    with own.client() as client:
        answers = [client.post("/handle", json={"action": "auth", "via": way, "auth": {**EXAMPLE_USER, "password": "wrong"}}) for way in ("http", "grpc", "amqp")]
        began = time.monotonic()
        # The right password now, by ways that carry the address with them.
        answers += [client.post("/handle", json={"action": "auth", "via": way, "auth": EXAMPLE_USER}) for way in WAYS] + [log_in(client)]
        if time.monotonic() - began < 2.5:
            assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}
            own_to_each = {"date", "x-flexi-id", "x-flexi-way"}
            assert len({tuple(sorted((k, v) for k, v in answer.headers.items() if k not in own_to_each)) for answer in answers[:-1]}) == 1, "nothing tells"
        eventually(lambda: log_in(client).status_code == 202, "the wait ends", seconds=10, interval=0.3)
    with own.at("/authenticate").client() as client:
        metrics = client.get("/metrics").text
    assert 'flexi_logins_total{result="locked"}' in metrics and "flexi_lockout_delays_total 1" in metrics
    assert "failed logins: the next must wait" in own.log()


PROXY = LOCKOUT | {"FLEXI_HTTP_TRUSTED_PROXIES": "127.0.0.0/8,::1", "FLEXI_AUTHENTICATION_LOCKOUT_FIRST_DELAY": "60s", "FLEXI_AUTHENTICATION_LOCKOUT_MAX_DELAY": "60s"}


@pytest.mark.parametrize("own, believed", [(PROXY, True), ({k: v for k, v in PROXY.items() if "PROXIES" not in k}, False)], indirect=["own"])
def test_a_guesser_locks_out_himself_alone(own, believed):
    """X-Forwarded-For is believed of a trusted proxy, and of nobody else."""
    with own.client() as client:
        for _ in range(4):
            envelope(log_in(client, password="wrong", headers={"X-Forwarded-For": "203.0.113.66"}), 401)
        envelope(log_in(client, headers={"X-Forwarded-For": "198.51.100.7, 203.0.113.66"}), 401)
        envelope(log_in(client, headers={"X-Forwarded-For": "203.0.113.66, 198.51.100.7"}), 202 if believed else 401)
        for way in WAYS:  # and on the way to the service
            answer = client.post("/handle", json={"action": "auth", "via": way, "auth": EXAMPLE_USER}, headers={"X-Forwarded-For": "198.51.100.8"})
            envelope(answer, 202 if believed else 401)
        if ON_SERVICES:
            return  # the authentication service alone believes its brokers
        # Where a broker is served, too, a stranger can't say who asks.
        envelope(log_in(client, headers={"X-Forwarded-For": "203.0.113.66", "X-Flexi-Client": "198.51.100.9", "X-Flexi-Id": "x"}), 401)


@embedded_only("starts its processes itself")
def test_behind_a_broker_the_guesser_is_known_not_the_broker(make_instance):
    service = make_instance(role="authentication", settings=PROXY | {"FLEXI_STORAGE": "embedded", "FLEXI_EXAMPLE_USER": "yes"}).start()
    more = next(line for line in service.log().splitlines() if '"also"' in line)
    endpoints = [service.url, *json.loads(more)["also"].split()]
    broker = make_instance(role="broker", settings={"FLEXI_PEERS_AUTHENTICATION": ",".join(endpoints), "FLEXI_HTTP_TRUSTED_PROXIES": "127.0.0.1"}).start()
    with broker.client() as client:
        def handle(way, password, address):
            body = {"action": "auth", "via": way, "auth": {**EXAMPLE_USER, "password": password}}
            return client.post("/handle", json=body, headers={"X-Forwarded-For": address, "X-Flexi-Timeout-Ms": "20000"}).status_code
        assert [handle(way, "wrong", "203.0.113.66") for way in ("http", "grpc", "rpc")] == [401] * 3
        for way in ("http", "grpc", "rpc"):
            assert (handle(way, EXAMPLE_USER["password"], "203.0.113.66"), handle(way, EXAMPLE_USER["password"], "198.51.100.7")) == (401, 202), way
        # The broker has no key and asks: whose token it is, the authentication service says.
        assert "x-flexi-token" not in client.post("/handle", json={"action": "auth", "auth": EXAMPLE_USER}, headers={"X-Forwarded-For": "198.51.100.7"}).headers


# --- tokens

def test_a_login_gets_a_token_whichever_way_it_goes_and_the_body_is_the_contracts(client, accounts):
    for way in WAYS:
        response = client.post("/handle", json={"action": "auth", "via": way, "auth": EXAMPLE_USER})
        data = envelope(response, 202)["data"]
        assert set(data) == {"id", "email", "first_name", "last_name", "active", "created_at", "updated_at"}, way
        assert response.headers["cache-control"] == "no-store"
        claims = jwt.decode(response.headers["x-flexi-token"], key_of(accounts), algorithms=["HS256"], issuer="flexiconnect", options={"require": ["exp", "iat", "iss", "sub"]})
        assert claims["sub"] == str(data["id"]) and claims["email"] == data["email"] and claims["exp"] - claims["iat"] == 3600, way
    assert ON_SERVICES or stat.S_IMODE(key_file(accounts).stat().st_mode) == 0o600
    refused = client.post("/authenticate", json={**EXAMPLE_USER, "password": "wrong"})
    assert "x-flexi-token" not in refused.headers
    crossing = log_in(client, headers={"Origin": "https://shop.example"})
    assert "X-Flexi-Token" in crossing.headers["access-control-expose-headers"], "a page of another origin may read it"


def test_me(client):
    token = token_of(client)
    response = client.get("/me", headers=bearer(token) | {"Origin": "https://shop.example"})
    data = envelope(response, 200)["data"]
    assert data["email"] == EXAMPLE_USER["email"] and data["administrator"] is True and "password" not in response.text
    assert response.headers["access-control-allow-origin"] == "https://shop.example"
    allowed = client.options("/me", headers={"Origin": "https://shop.example", "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "Authorization"})
    assert allowed.status_code == 204 and "Authorization" in allowed.headers["access-control-allow-headers"]
    assert envelope(client.post("/handle", json={"action": "me.get", "me.get": {"token": token}}), 202)["data"] == data
    envelope(client.get("/me"), 401)
    envelope(client.get("/me", params={"token": token}), 400)
    assert envelope(client.get("/me", headers=bearer("x")), 401)


def test_what_is_not_our_token_opens_nothing(client, accounts):
    key, token = key_of(accounts), token_of(client)
    claims = jwt.decode(token, key, algorithms=["HS256"], issuer="flexiconnect")
    now = int(time.time())

    def made(changes=None, secret=key, **options):
        return jwt.encode({**claims, **(changes or {})}, secret, algorithm="HS256", **options)

    envelope(client.get("/me", headers=bearer(made())), 200)  # PyJWT makes good ones, too
    header, body, signature = token.split(".")
    other = segments(json.dumps({**claims, "sub": "2"}).encode())
    none = segments(json.dumps({"alg": "none", "typ": "JWT"}).encode(), json.dumps(claims).encode())
    as_512 = segments(json.dumps({"alg": "HS512", "typ": "JWT"}).encode(), json.dumps(claims).encode())
    forged = {
        "none": none + ".", "none, signed": none + "." + signature, "tampered": f"{header}.{other}.{signature}",
        "another algorithm": as_512 + "." + segments(hmac.new(key.encode(), as_512.encode(), hashlib.sha512).digest()),
        "another key": made(secret="x" * 32), "expired": made({"exp": now - 1}), "for ever": jwt.encode({k: v for k, v in claims.items() if k != "exp"}, key),
        "another issuer": made({"iss": "somebody"}), "nobody": made({"sub": "424242"}), "no user": made({"sub": "admin"}), "cut": token[:-5], "empty": "", "long": "eyJ" + "A" * 8000 + ".A.A",
    }
    answers = {}
    for name, text in forged.items():
        for method, path in (("GET", "/me"), ("GET", "/users"), ("DELETE", "/users/1"), *(() if ON_SERVICES else (("POST", "/actions/users.list"),))):  # a service's own door
            response = client.request(method, path, headers=bearer(text) if text else {"Authorization": "Bearer x.y"})
            envelope(response, 401)
            answers.setdefault((path, name), response.text)
    assert len({text for (path, name), text in answers.items() if path == "/me" and name not in ("empty", "long")}) == 1
    envelope(client.get("/metrics", headers=bearer(token)), 401)


def test_a_token_ends_with_its_user(client, accounts):
    envelope(client.post("/users", json=ADA), 200)
    token = token_of(client, email=ADA["email"], password=ADA["password"])
    mine = envelope(client.get("/me", headers=bearer(token)), 200)["data"]
    assert mine["administrator"] is False
    envelope(client.get("/users", headers=bearer(token)), 403)
    envelope(client.delete("/users/1", headers=bearer(token)), 403)
    envelope(client.put(f"/users/{mine['id']}", json={"active": 0}), 200)
    envelope(client.get("/me", headers=bearer(token)), 401)
    envelope(client.put(f"/users/{mine['id']}", json={"active": True}), 200)
    envelope(client.get("/me", headers=bearer(token)), 200)
    envelope(client.delete(f"/users/{mine['id']}"), 200)
    envelope(client.get("/me", headers=bearer(token)), 401)
    assert ADA["password"] not in accounts.log()


def openssl(*arguments):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("algorithm, arguments", [("ES256", ["ecparam", "-name", "prime256v1", "-genkey", "-noout"]), ("RS256", ["genrsa", "2048"])])
def test_tokens_of_a_private_key_are_checked_with_its_public_one(make_instance, tmp_path, algorithm, arguments):
    key = tmp_path / "token.pem"
    key.write_text(openssl(*arguments))
    public = openssl("pkey", "-in", str(key), "-pubout")
    own = make_instance(settings=QUICK | {"FLEXI_AUTHENTICATION_TOKEN_KEY_FILE": key, "FLEXI_AUTHENTICATION_TOKEN_LIFETIME": "10m", "FLEXI_AUTHENTICATION_TOKEN_ISSUER": "here"}).start()
    with own.client() as client:
        token = token_of(client)
        claims = jwt.decode(token, public, algorithms=[algorithm], issuer="here")
        assert claims["exp"] - claims["iat"] == 600
        envelope(client.get("/me", headers=bearer(token)), 200)
        envelope(client.get("/me", headers=bearer(jwt.encode(claims, key.read_text(), algorithm=algorithm))), 200)
        # The public key is known to everybody: it must not be taken for a secret.
        unsigned = segments(b'{"alg":"HS256","typ":"JWT"}', json.dumps(claims).encode())
        signature = segments(hmac.new(public.encode(), unsigned.encode(), hashlib.sha256).digest())
        envelope(client.get("/me", headers=bearer(f"{unsigned}.{signature}")), 401)
    assert not any((folder / "token.key").exists() for folder in own.data_dirs)


@pytest.mark.parametrize("content, words", [("short", "32 bytes"), ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "PEM"), (None, "read")])
def test_a_key_that_can_be_none_is_said_by_check_config(tmp_path, content, words):
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    result = run_cli("check-config", settings={"FLEXI_AUTHENTICATION_TOKEN_KEY_FILE": file})
    assert result.returncode != 0
    assert "token_key_file" in result.stdout + result.stderr and words in result.stdout + result.stderr and "AAAA" not in result.stdout + result.stderr


def test_tokens_outlive_a_restart(make_instance):
    own = make_instance(settings=QUICK).start()
    with own.client() as client:
        token = token_of(client)
    own.terminate()
    own.start()
    with own.client() as client:
        envelope(client.get("/me", headers=bearer(token)), 200)


# --- what a token opens

def test_a_protected_action_wants_a_token(make_instance, admin_token):
    service = Service()
    try:
        own = make_instance(settings=QUICK | {"FLEXI_ACTIONS_RESIZE_URL": service.url, "FLEXI_ACTIONS_RESIZE_PROTECTED": "true", "FLEXI_ACTIONS_BLUR_URL": service.url,
                                              TOKEN_FILE: admin_token}).start()
        with own.client() as client:
            def call(action="resize", headers=None, **fields):
                return client.post("/handle", json={"action": action, action: {"n": 1}, **fields}, headers=headers)

            envelope(call(), 401)
            envelope(call(headers=bearer("eyJ.x.y")), 401)
            envelope(call(via="amqp", ack="accepted"), 401)
            assert not service.requests
            token = token_of(client)
            envelope(call(headers=bearer(token)), 202)
            envelope(call(headers=bearer(token), via="amqp", ack="accepted"), 202)
            eventually(lambda: len(service.requests) == 2, "it came by the queue, too")
            envelope(call(headers=bearer(admin_token.read_text().strip())), 202)
            envelope(call("blur"), 202)
            assert all("authorization" not in request["headers"] for request in service.requests), "a token goes no further"
            messages, services = generated_grpc()
            import grpc
            direct = [("grpc.enable_http_proxy", 0)]
            with grpc.insecure_channel(grpc_address(own, "/handle"), options=direct) as channel, grpc.insecure_channel(grpc_address(own, "/authenticate"), options=direct) as to_logins:
                broker, actions = services.BrokerStub(channel), services.ActionsStub(channel)
                request = messages.HandleRequest(action="resize", json="{}")
                with pytest.raises(grpc.RpcError) as refused:
                    broker.Handle(request, timeout=20)
                assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
                assert broker.Handle(request, metadata=[("authorization", f"Bearer {token}")], timeout=20).message
                # A login by gRPC has its token in the reply; who shows it is told who he is.
                login = services.AuthenticationStub(to_logins).Authenticate(messages.Credentials(**EXAMPLE_USER), timeout=20)
                me = actions.Call(messages.CallRequest(action="me.get"), metadata=[("authorization", f"Bearer {login.token}")], timeout=20)
                assert json.loads(me.data)["email"] == EXAMPLE_USER["email"]
                with pytest.raises(grpc.RpcError) as refused:
                    actions.Call(messages.CallRequest(action="users.list"), metadata=[("authorization", f"Bearer {login.token}")], timeout=20)
                assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    finally:
        service.close()


def off_loopback(token_file):
    return ADMIN | QUICK | {"FLEXI_HTTP_LISTEN": "0.0.0.0:0", "FLEXI_EXAMPLE_USER": "yes", TOKEN_FILE: token_file}


@embedded_only("the doors of one process")
def test_off_loopback_an_administrators_token_administers(make_instance, admin_token):
    own = make_instance(settings=off_loopback(admin_token)).start()
    with own.client(headers={"Host": "flexi.example"}) as client:
        own.url = own.url.replace("0.0.0.0", "127.0.0.1")
    with own.client(headers={"Host": "flexi.example"}) as client:
        envelope(client.get("/users"), 401)
        envelope(client.post("/users", json=ADA), 401)
        token = token_of(client)
        user = envelope(client.post("/users", json=ADA, headers=bearer(token)), 200)["data"]
        theirs = token_of(client, email=ADA["email"], password=ADA["password"])
        for method, path in (("GET", "/users"), ("GET", "/logs"), ("PUT", f"/users/{user['id']}"), ("POST", f"/users/{user['id']}/password"), ("DELETE", "/users/1")):
            envelope(client.request(method, path, headers=bearer(theirs)), 403)
        envelope(client.get("/logs", headers=bearer(token)), 200)
        # A page of another origin is refused whatever it shows.
        envelope(client.get("/users", headers=bearer(token) | {"Origin": "https://evil.example"}), 403)
        envelope(client.delete(f"/users/{user['id']}", headers=bearer(admin_token.read_text().strip())), 200)


# --- user administration

def test_a_user_from_the_first_day_to_the_last(client):
    made = envelope(client.post("/users", json=ADA), 200)
    user = made["data"]
    assert made["message"] == "user created" and user["active"] == 1 and "password" not in user
    path = f"/users/{user['id']}"
    assert envelope(client.get(path), 200)["data"] == user
    names = [each.get("last_name", "") for each in envelope(client.get("/users"), 200)["data"]]
    assert names == sorted(names)
    envelope(log_in(client, ADA["email"], ADA["password"]), 202)
    changed = envelope(client.put(path, json={**user, "last_name": "King", "email": "ada.king@example.com"}), 200)["data"]
    assert (changed["last_name"], changed["email"], changed["first_name"]) == ("King", "ada.king@example.com", "Ada")
    envelope(log_in(client, ADA["email"], ADA["password"]), 401)
    envelope(client.post(path + "/password", json={"password": "the difference engine"}), 200)
    envelope(log_in(client, "ada.king@example.com", ADA["password"]), 401)
    envelope(log_in(client, "ada.king@example.com", "the difference engine"), 202)
    envelope(client.put(path, json={"active": 0}), 200)
    envelope(log_in(client, "ada.king@example.com", "the difference engine"), 401)
    assert envelope(client.delete(path), 200)["data"]["email"] == "ada.king@example.com"
    for method, url, body in (("GET", path, None), ("PUT", path, {}), ("DELETE", path, None), ("POST", path + "/password", {"password": "the difference engine"})):
        envelope(client.request(method, url, json=body), 404)


def test_bad_users_are_refused_naming_the_field(client, accounts):
    envelope(client.post("/users", json={**ADA, "email": EXAMPLE_USER["email"]}), 409)
    envelope(client.put("/users/1", json={"email": "b@example.com"}), 200)
    envelope(client.put("/users/1", json={"email": EXAMPLE_USER["email"]}), 200)
    hush = "hush hush hush"
    for field, body in [("email", {"email": "nobody"}), ("email", {"email": None}), ("first_name", {"first_name": "a\nb"}), ("last_name", {"last_name": "x" * 256}), ("active", {"active": 7}),
                        ("password", {"password": "short"}), ("password", {"password": "x" * 73}), ("password", {"password": "Password123"}), ("password", {"password": "ada@example.com"}),
                        ("role", {"role": "boss"})]:
        refused = envelope(client.post("/users", json={**ADA, "password": hush, **body}), 400)
        assert field in refused["message"], refused
    envelope(client.post("/users/1/password", json={"password": "12345678"}), 400)
    refused = client.post("/users/1/password", params={"password": hush}, json={})
    assert "URL" in envelope(refused, 400)["message"]
    assert len(envelope(client.get("/users"), 200)["data"]) == 1
    assert hush not in accounts.log() and hush not in client.get("/metrics").text


def test_passwords_leave_no_trace(make_instance):
    own = make_instance(settings=QUICK).start()
    words = ["korund-und-achat", "beryll-und-jaspis"]
    with own.client() as client:
        user = envelope(client.post("/users", json={**ADA, "password": words[0]}, headers={"Idempotency-Key": "k-1"}), 200)["data"]
        envelope(client.post(f"/users/{user['id']}/password", json={"password": words[1]}), 200)
        with own.at("/authenticate").client() as direct:
            envelope(direct.post("/actions/users.create", json={**ADA, "password": words[0]}, headers={"Idempotency-Key": "k-2"}), 409)
        for via in ("auto", "amqp"):
            body = {"action": "users.reset_password", "via": via, "users.reset_password": {"id": 424242, "password": words[1]}}
            assert client.post("/handle", json=body).status_code == 404
        token = token_of(client, email=ADA["email"], password=words[1])
        assert envelope(client.get("/dlq"), 200)["data"] == []
    own.terminate()
    everything = b"".join(file.read_bytes() for folder in own.data_dirs for file in folder.rglob("*") if file.is_file()) + own.log().encode()
    for secret in (*words, token):
        assert secret.encode() not in everything


@embedded_only("the embedded store's files")
def test_the_command_line_keeps_the_policy(make_instance, tmp_path):
    own = make_instance(settings=QUICK).start()
    for password, code in (("short", 1), ("password1", 1), ("bob@example.com", 1), ("a quite long sentence", 0)):
        result = run_cli("users", "add", "bob@example.com", "--data-dir", own.data_dir, stdin=password + "\n", settings=QUICK)
        assert result.returncode == code, (password, result.stderr)
        assert password not in result.stderr or password == "bob@example.com"
    common = tmp_path / "common"
    common.write_text("Zweiundvierzig\n")
    settings = QUICK | {"FLEXI_AUTHENTICATION_COMMON_PASSWORDS_FILE": common}
    assert run_cli("users", "reset-password", "bob@example.com", "--data-dir", own.data_dir, stdin="zweiundvierzig\n", settings=settings).returncode == 1


@embedded_only("the doors of one process")
def test_the_command_line_administers_a_running_server_too(make_instance, admin_token, tmp_path):
    own = make_instance(settings=off_loopback(admin_token)).start()
    url = own.url.replace("0.0.0.0", "127.0.0.1")

    def users(*arguments, stdin="", token=admin_token):
        return run_cli("users", *arguments, "--url", url, *(["--token-file", token] if token else []), stdin=stdin, cwd=tmp_path)

    added = users("add", "ada@example.com", "--first-name", "Ada", "--json", stdin="the analytical engine\n")
    assert added.returncode == 0 and json.loads(added.stdout)[0]["first_name"] == "Ada", added.stderr
    assert "ada@example.com  Ada" in users("list").stdout
    assert users("add", "ada@example.com", stdin="the analytical engine\n").returncode == 1
    assert users("disable", "ADA@example.com").stdout == "disabled ada@example.com\n"
    assert "(disabled)" in users("list").stdout
    assert users("enable", "2").returncode == 0
    assert users("reset-password", "ada@example.com", stdin="password1\n").returncode == 1
    assert users("reset-password", "ada@example.com", stdin="the difference engine\n").returncode == 0
    own.url = url
    with own.client() as client:
        envelope(log_in(client, "ada@example.com", "the difference engine"), 202)
    assert users("delete", "ada@example.com").stdout == "deleted ada@example.com\n"
    assert users("delete", "ada@example.com").returncode == 1
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong\n")
    assert users("list", token=wrong).returncode == 1
    assert run_cli("users", "list", "--url", "http://127.0.0.1:1").returncode == 3
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("flexiconnect-data")] == []


# --- through RabbitMQ

@embedded_only("starts its processes itself")
def test_through_rabbitmq_a_login_keeps_its_address_and_its_token(make_instance, vhost, admin_token):
    service = Service()
    try:
        own = ready(make_instance(settings=amqp_settings(vhost.url) | PROXY | {"FLEXI_ACTIONS_RESIZE_URL": service.url, "FLEXI_ACTIONS_RESIZE_PROTECTED": "true",
                                                                               TOKEN_FILE: admin_token}).start())
        with own.client() as client, Foreign(vhost.url) as other:
            def handle(password, address):
                body = {"action": "auth", "via": "amqp", "auth": {**EXAMPLE_USER, "password": password}}
                return client.post("/handle", json=body, headers={"X-Forwarded-For": address})

            assert [handle("wrong", "203.0.113.66").status_code for _ in range(3)] == [401] * 3
            envelope(handle(EXAMPLE_USER["password"], "203.0.113.66"), 401)
            mine = handle(EXAMPLE_USER["password"], "198.51.100.7")
            envelope(mine, 202)
            token = mine.headers["x-flexi-token"]
            envelope(client.get("/me", headers=bearer(token)), 200)

            # Somebody else's client: the token of its login opens what is protected, but does not administer.
            properties, answer = other.call({"action": "auth", "auth": EXAMPLE_USER}, delivery_mode=1)
            assert answer["message"] == "Authenticated" and set(answer) == {"error", "message", "data"}
            authorization = {"authorization": "Bearer " + properties.headers["x-flexi-token"]}
            resize = {"action": "resize", "resize": {"n": 1}, "ack": "stored"}
            assert other.call(resize)[1]["error"] and other.call(resize, headers={"authorization": "Bearer eyJ.x.y"})[1]["error"]
            assert not service.requests
            assert not other.call(resize, headers=authorization)[1]["error"] and len(service.requests) == 1
            listing = {"action": "users.list", "users.list": {}}
            assert other.call(listing, headers=authorization)[1]["error"]
            assert not other.call(listing, headers={"authorization": "Bearer " + admin_token.read_text().strip()})[1]["error"]

            # A password that nobody waits for an answer about is in no dead letter either.
            secret = "jaspis-und-beryll"
            other.publish("", "flexi.requests", {"action": "users.create", "users.create": {**ADA, "password": secret}})
            other.publish("", "flexi.requests", {"action": "me.get", "me.get": {"token": token}, "via": "nonsense"})
            eventually(lambda: other.depth("flexi.requests.dlq") == 2, "both are dead letters")
            assert all(secret.encode() not in body and token.encode() not in body for _, _, body in other.all("flexi.requests.dlq"))
    finally:
        service.close()
