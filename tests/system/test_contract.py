# SPDX-License-Identifier: Apache-2.0
"""The wire contract, row by row: statuses, messages, envelope, CORS, ways and ids."""

import concurrent.futures
import random
import statistics
import time

import pytest
from conftest import DIRECT, EXAMPLE_USER, INPROC, QUEUE_WAY, all_logs, embedded_only, envelope, eventually, post_log

USER_FIELDS = {"id", "email", "first_name", "last_name", "active", "created_at", "updated_at"}
MAIL = {"from": "me@example.com", "to": "you@example.com", "subject": "Hello", "message": "Hello world!"}


def check_user(user):
    assert set(user) <= USER_FIELDS and {"id", "email", "active", "created_at", "updated_at"} <= set(user)
    assert isinstance(user["id"], int) and user["active"] == 1
    assert user["email"] == "admin@example.com" and user["first_name"] == "Admin" and user["last_name"] == "User"


def test_hit_the_broker(http):
    assert envelope(http.post("/"), 200) == {"error": False, "message": "Hit the broker"}
    assert envelope(http.post("/", json={"any": "thing"}), 200)["message"] == "Hit the broker"


def test_handle_auth(http):
    response = http.post("/handle", json={"action": "auth", "auth": EXAMPLE_USER})
    body = envelope(response, 202)
    assert body["message"] == "Authenticated"
    check_user(body["data"])
    assert response.headers["x-flexi-id"] and response.headers["x-flexi-way"]


def test_handle_log_goes_by_the_queue_by_default(http, unique):
    response = post_log(http, unique, "Some kind of data")
    assert envelope(response, 202) == {"error": False, "message": "logger via RabbitMQ"}
    assert response.headers["x-flexi-way"].startswith("amqp")
    entry = eventually(lambda: all_logs(http, name=unique), "the entry arrives")[0]
    assert entry["data"] == "Some kind of data" and entry["id"] == response.headers["x-flexi-id"]


def test_handle_mail(http, unique):
    body = envelope(http.post("/handle", json={"action": "mail", "mail": MAIL | {"subject": unique}}), 202)
    assert body == {"error": False, "message": "Message sent to you@example.com"}
    assert unique in [mail["subject"] for mail in http.get("/mails").json()["data"]]


@pytest.mark.parametrize("wrap", [False, True])
def test_log_grpc(http, unique, wrap):
    entry = {"name": unique, "data": "by gRPC"}
    response = http.post("/log-gRPC", json={"action": "log", "log": entry} if wrap else entry)
    assert envelope(response, 202) == {"error": False, "message": "logged"}
    assert response.headers["x-flexi-way"] == "grpc"
    assert [found["data"] for found in all_logs(http, name=unique)] == ["by gRPC"]


@embedded_only("a listener that is not there")
@pytest.mark.parametrize("own, way", [({"FLEXI_GRPC_LISTEN": ""}, "inproc"), ({"FLEXI_GRPC_LISTEN": "", "FLEXI_BROKER_LOG_STORED_ORDER": "rpc,http"}, "rpc")], indirect=["own"])
def test_log_grpc_without_grpc_goes_as_auto_does(own, way, unique):
    with own.client() as client:
        response = client.post("/log-gRPC", json={"name": unique, "data": "x"})
        assert envelope(response, 202) == {"error": False, "message": "logged"} and response.headers["x-flexi-way"] == way
        assert len(all_logs(client, name=unique)) == 1, "stored before the answer"


def test_authentication_service(http):
    body = envelope(http.post("/authenticate", json=EXAMPLE_USER), 202)
    assert body["message"] == "Logged in user admin@example.com"
    check_user(body["data"])


def test_logger_service(http, unique):
    assert envelope(http.post("/log", json={"name": unique, "data": "x"}), 202) == {"error": False, "message": "logged"}
    assert len(all_logs(http, name=unique)) == 1


def test_mail_service(http):
    assert envelope(http.post("/send", json=MAIL), 202) == {"error": False, "message": "sent to you@example.com"}


def test_mail_without_from_has_the_configured_sender(http, unique):
    for mail in ({"subject": unique + "a"}, {"subject": unique + "b", "from": ""}):
        sent = {name: value for name, value in (MAIL | mail).items() if name != "from" or "from" in mail}
        envelope(http.post("/send", json=sent), 202)
    senders = [mail["from"] for mail in http.get("/mails").json()["data"] if mail["subject"].startswith(unique)]
    assert len(senders) == 2 and all("@" in sender for sender in senders)


def test_ping_is_plain_text(http):
    response = http.get("/ping")
    assert response.status_code == 200 and response.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("path, kind", [("/healthz", None), ("/readyz", "application/json"), ("/metrics", "text/plain"), ("/", "text/html"),
                                        ("/openapi.yaml", "application/yaml"), ("/app/app.js", "text/javascript")])
def test_process_resources(http, path, kind):
    response = http.get(path)
    assert response.status_code == 200
    if kind:
        assert response.headers["content-type"].split(";")[0] == kind
    head = http.head(path)
    assert head.status_code == 200 and head.content == b""


def test_static_files_are_compressed_and_revalidated(http):
    plain = http.get("/app/app.js", headers={"Accept-Encoding": "identity"})
    zipped = http.get("/app/app.js", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers and zipped.headers["content-encoding"] == "gzip"
    assert plain.content == zipped.content
    assert http.get("/app/app.js", headers={"If-None-Match": plain.headers["etag"]}).status_code == 304
    assert "default-src 'self'" in http.get("/").headers["content-security-policy"]


# --- via and ack

def test_unknown_action_is_named_by_the_contract(http):
    assert envelope(http.post("/handle", json={"action": "nope", "nope": {}}), 400)["message"] == "unknown action"


@pytest.mark.parametrize("how", ["field", "header"])
@pytest.mark.parametrize("via, ack, message, way", [
    ("auto", None, "logger via RabbitMQ", "amqp"),
    ("amqp", None, "logger via RabbitMQ", QUEUE_WAY),
    ("amqp", "accepted", "logger via RabbitMQ", QUEUE_WAY),
    ("amqp", "stored", None, QUEUE_WAY),
    pytest.param("inproc", None, "logged", "inproc", marks=embedded_only("a way inside one process")),
    pytest.param("inproc", "stored", "logged", "inproc", marks=embedded_only("a way inside one process")),
    ("http", None, "logged", "http"),
    ("http", "stored", "logged", "http"),
    ("grpc", None, "logged", "grpc"),
    ("grpc", "stored", "logged", "grpc"),
    ("rpc", None, "Processed payload via RPC:", "rpc"),
    ("rpc", "stored", "Processed payload via RPC:", "rpc"),
])
def test_log_by_every_way(http, unique, how, via, ack, message, way):
    asked = {"via": via} | ({"ack": ack} if ack else {})
    if how == "field":
        response = post_log(http, unique, "x", **asked)
    else:
        response = post_log(http, unique, "x", headers={f"X-Flexi-{name.title()}": value for name, value in asked.items()})
    body = envelope(response, 202)
    assert message is None or body["message"] == message + (unique if message.endswith(":") else "")
    assert response.headers["x-flexi-way"].startswith(way)
    if ack == "stored" or via in ("inproc", "http", "grpc", "rpc"):
        assert len(all_logs(http, name=unique)) == 1, "stored means readable at once"
    else:
        eventually(lambda: len(all_logs(http, name=unique)) == 1, "the entry arrives")


@pytest.mark.parametrize("via", ["auto", INPROC, "http", "grpc", "rpc", "amqp"])
@pytest.mark.parametrize("action, payload, message", [("mail", MAIL, "Message sent to you@example.com"), ("auth", EXAMPLE_USER, "Authenticated")])
def test_mail_and_auth_by_every_way(http, via, action, payload, message):
    response = http.post("/handle", json={"action": action, "via": via, action: payload})
    body = envelope(response, 202)
    assert body["message"] == message
    assert ("data" in body) == (action == "auth")
    if via != "auto":
        assert response.headers["x-flexi-way"].split(";")[0] == via


@pytest.mark.parametrize("via", [INPROC, "http", "grpc", "rpc", "amqp"])
def test_an_error_names_its_way(http, via):
    response = http.post("/handle", json={"action": "auth", "via": via, "auth": {"email": "nobody@example.com", "password": "wrong"}})
    envelope(response, 401)
    assert response.headers["x-flexi-way"].split(";")[0] == via and response.headers["x-flexi-id"]


def test_what_is_refused_before_it_is_understood_is_named(http, unique):
    for path in ("/handle", "/log-gRPC", "/authenticate", "/log", "/send"):
        refused = http.post(path, content=b"{", headers={"Idempotency-Key": unique})
        envelope(refused, 400)
        assert refused.headers["x-flexi-id"] == unique and "x-flexi-way" not in refused.headers
        assert len(http.post(path, content=b"{").headers["x-flexi-id"]) == 36


@embedded_only("a listener that is not there")
@pytest.mark.parametrize("own", [{"FLEXI_RPC_LISTEN": "", "FLEXI_GRPC_LISTEN": ""}], indirect=True)
@pytest.mark.parametrize("via", ["rpc", "grpc"])
def test_a_way_that_is_not_there_is_a_clear_400(own, via):
    with own.client() as client:
        assert via in envelope(post_log(client, "x", "y", via=via), 400)["message"]


def test_authentication_is_never_only_accepted(http):
    message = envelope(http.post("/handle", json={"action": "auth", "ack": "accepted", "auth": EXAMPLE_USER}), 400)["message"]
    assert "ack" in message or "accepted" in message


def test_an_id_in_the_body_is_the_idempotency_key(http, unique):
    first = post_log(http, unique, "x", id=unique, via=DIRECT)
    again = post_log(http, unique, "x", headers={"Idempotency-Key": unique}, via=DIRECT)
    assert first.headers["x-flexi-id"] == again.headers["x-flexi-id"]
    assert again.headers["x-flexi-duplicate"] == "true"


# --- authentication

@pytest.fixture
def failing_logins(own):
    """What must not be told apart, each with credentials that fail that way."""
    add = own.users("add", "gone@example.com", stdin="verysecret\n")
    assert add.returncode == 0, add.stderr
    disabled = own.users("disable", "gone@example.com")
    assert disabled.returncode == 0, disabled.stderr
    return {"wrong": {"email": "admin@example.com", "password": "wrong"}, "unknown": {"email": "nobody@example.com", "password": "verysecret"},
            "inactive": {"email": "gone@example.com", "password": "verysecret"}, "empty": {"email": "admin@example.com", "password": ""},
            "nothing": {"email": "", "password": ""}}


def test_every_failed_login_reads_the_same(own, failing_logins):
    own_to_each = {"date", "x-flexi-id", "traceparent", "x-flexi-trace"}
    with own.client() as client:
        seen = {}
        for credentials in failing_logins.values():
            answers = {"authenticate": client.post("/authenticate", json=credentials), "handle": client.post("/handle", json={"action": "auth", "auth": credentials})}
            for via in (DIRECT, "http", "grpc", "rpc", "amqp"):
                answers[via] = client.post("/handle", json={"action": "auth", "via": via, "auth": credentials})
            for call, response in answers.items():
                assert envelope(response, 401)["message"] == "invalid credentials", call
                assert response.headers["x-flexi-error"] == "unauthenticated", call
                headers = {name: value for name, value in response.headers.items() if name not in own_to_each}
                seen.setdefault(call, set()).add((response.text, tuple(sorted(headers.items()))))
        assert {call: len(texts) for call, texts in seen.items()} == {call: 1 for call in seen}, seen


@pytest.mark.timing
def test_every_failed_login_takes_the_same_time(own, failing_logins):
    """At the configured cost. Each kind in each round, in another order each time, so that what else the machine does meets all alike;
    more rounds where that is much."""
    least, most, factor = 9, 40, 1.5  # one step of the cost more or less is a factor of 2, no hashing at all one of hundreds
    kinds = [kind for kind in failing_logins if kind != "nothing"]
    seconds = {kind: [] for kind in kinds}
    with own.client() as client:
        for number in range(most):
            for kind in random.Random(number).sample(kinds, len(kinds)):
                started = time.monotonic()
                assert client.post("/authenticate", json=failing_logins[kind], headers={"X-Flexi-Timeout-Ms": "60000"}).status_code == 401
                seconds[kind].append(time.monotonic() - started)
            medians = {kind: statistics.median(times) for kind, times in seconds.items()}
            if number + 1 >= least and max(medians.values()) < factor * min(medians.values()):
                return
    pytest.fail(f"medians of {most} logins in seconds: {medians}")


def test_a_password_over_72_bytes_is_a_clear_400(http):
    response = http.post("/authenticate", json={"email": "admin@example.com", "password": "x" * 73})
    message = envelope(response, 400)["message"]
    assert "password" in message and "72" in message
    envelope(http.post("/authenticate", json={"email": "admin@example.com", "password": "x" * 72}), 401)
    envelope(http.post("/authenticate", json={"email": "admin@example.com", "password": "é" * 37}), 400)


def test_the_email_matches_without_case_where_that_is_unique(http):
    envelope(http.post("/authenticate", json={"email": "ADMIN@example.COM", "password": "verysecret"}), 202)


def test_users_never_show_a_password(http):
    response = http.get("/users")
    users = envelope(response, 200)["data"]
    check_user(users[0])
    check_user(envelope(http.get(f"/users/{users[0]['id']}"), 200)["data"])
    assert "$2" not in response.text and "password" not in response.text
    envelope(http.get("/users/999999"), 404)


def test_logins_and_mails_leave_log_entries(own):
    with own.client() as client:
        envelope(client.post("/authenticate", json=EXAMPLE_USER), 202)
        envelope(client.post("/send", json=MAIL), 202)
        found = eventually(lambda: all_logs(client, name="authentication"), "the login's entry")
        assert [entry["data"] for entry in found] == ["admin@example.com logged in"]
        assert any("you@example.com" in entry["data"] for entry in eventually(lambda: all_logs(client, name="mail"), "the mail's entry"))


# --- envelope, CORS, HTTP

def test_cors_of_contract_calls(http):
    origin = "http://somewhere.example:3000"
    response = http.options("/handle", headers={"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,idempotency-key"})
    assert response.status_code in (200, 204)
    listed = lambda name: {item.strip().lower() for item in response.headers[name].split(",")}
    assert response.headers["access-control-allow-origin"] == origin
    assert {"get", "post", "put", "delete", "options"} <= listed("access-control-allow-methods")
    assert {"accept", "content-type", "authorization", "x-csrf-token", "idempotency-key", "x-flexi-via", "x-flexi-ack", "x-flexi-timeout-ms"} <= listed("access-control-allow-headers")
    assert response.headers["access-control-allow-credentials"] == "true"
    assert response.headers["access-control-max-age"] == "300"
    answer = http.post("/", headers={"Origin": origin})
    assert answer.headers["access-control-allow-origin"] == origin
    exposed = {item.strip().lower() for item in answer.headers["access-control-expose-headers"].split(",")}
    assert {"link", "x-flexi-id", "x-flexi-way", "x-flexi-duplicate", "x-flexi-error"} <= exposed
    assert "origin" in answer.headers["vary"].lower()


@pytest.mark.parametrize("origin", ["null", "file://", "chrome-extension://abc"])
def test_cors_is_for_web_origins_only(http, origin):
    assert "access-control-allow-origin" not in http.post("/", headers={"Origin": origin}).headers


def test_unknown_paths_and_methods(http):
    envelope(http.get("/no-such-path"), 404)
    response = http.request("PATCH", "/handle", json={})
    assert response.status_code == 405 and "POST" in response.headers["allow"]
    assert envelope(http.get("/handle"), 405)["error"] is True


def test_a_missing_content_type_is_json(http):
    request = http.build_request("POST", "/handle", content=b'{"action":"log","log":{"name":"n","data":"d"}}')
    assert "content-type" not in request.headers
    envelope(http.send(request), 202)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON"])
def test_json_by_any_name(http, content_type):
    envelope(http.post("/handle", content=b'{"action":"log","log":{"name":"n","data":"d"}}', headers={"Content-Type": content_type}), 202)


# --- reading

def test_logs_page_filter_and_search(own):
    with own.client() as client:
        for number in range(7):
            envelope(client.post("/log", json={"name": "odd" if number % 2 else "even", "data": f"entry number{number} größer"}), 202)
        assert [entry["data"] for entry in client.get("/logs").json()["data"]] == [f"entry number{number} größer" for number in reversed(range(7))]
        first = envelope(client.get("/logs", params={"limit": 3}), 200)
        second = envelope(client.get("/logs", params={"limit": 3, "cursor": first["next"]}), 200)
        third = envelope(client.get("/logs", params={"limit": 3, "cursor": second["next"]}), 200)
        pages = [len(page["data"]) for page in (first, second, third)]
        assert pages == [3, 3, 1] and "next" not in third
        assert len({entry["id"] for page in (first, second, third) for entry in page["data"]}) == 7
        assert len(client.get("/logs", params={"name": "odd"}).json()["data"]) == 3
        assert [entry["data"] for entry in client.get("/logs", params={"q": "number4"}).json()["data"]] == ["entry number4 größer"]
        assert len(client.get("/logs", params={"q": "größer"}).json()["data"]) == 7
        assert client.get("/logs", params={"q": "absent"}).json()["data"] == []
        moment = client.get("/logs").json()["data"][3]["created_at"]
        newer = client.get("/logs", params={"since": moment}).json()["data"]
        older = client.get("/logs", params={"until": moment}).json()["data"]
        assert len(newer) + len(older) == 7 and len(newer) >= 4
        for entry in newer + older:
            assert set(entry) - {"way", "trace_id", "hops"} == {"id", "name", "data", "created_at", "updated_at"} and entry["created_at"].endswith("Z")


@pytest.mark.parametrize("query, word", [({"limit": 0}, "limit"), ({"limit": 501}, "limit"), ({"limit": "x"}, "limit"), ({"since": "yesterday"}, "since"),
                                         ({"until": "never"}, "until"), ({"cursor": "***"}, "cursor")])
def test_a_wrong_query_is_named(http, query, word):
    assert word in envelope(http.get("/logs", params=query), 400)["message"]


@pytest.mark.parametrize("q", ['"', "'", "a AND", "NEAR(", "*", "name:x", "-x", "(", "\\", "%", "a\"b", "🦀", "^"])
def test_search_takes_any_text(http, q):
    envelope(http.get("/logs", params={"q": q}), 200)


@embedded_only("the mailbox: of what SMTP took no content is kept")
def test_a_mail_can_be_read_and_deleted(http, unique):
    mail = MAIL | {"subject": f"{unique} größer", "message": "Hello <b>world</b> & co"}
    envelope(http.post("/send", json=mail), 202)
    listed = next(mail for mail in http.get("/mails").json()["data"] if mail["subject"].startswith(unique))
    assert listed["to"] == ["you@example.com"] and listed["from"] == "me@example.com"
    full = envelope(http.get(f"/mails/{listed['id']}"), 200)["data"]
    assert "Hello &lt;b&gt;world&lt;/b&gt; &amp; co" in full["html"], "user text is escaped"
    assert "Hello <b>world</b> & co" in full["plain"]
    assert "MIME-Version: 1.0" in full["source"] and "multipart/alternative" in full["source"]
    assert "größer" not in full["source"].split("\r\n\r\n")[0], "headers are encoded"
    assert envelope(http.delete(f"/mails/{listed['id']}"), 200)["message"] == "deleted"
    envelope(http.get(f"/mails/{listed['id']}"), 404)
    envelope(http.delete(f"/mails/{listed['id']}"), 404)


def test_release_without_a_mail_server_says_so(http, unique):
    envelope(http.post("/send", json=MAIL | {"subject": unique}), 202)
    mail = next(mail for mail in http.get("/mails").json()["data"] if mail["subject"] == unique)
    message = envelope(http.post(f"/mails/{mail['id']}/release", json={}), 501)["message"]
    assert "SMTP" in message or "mail server" in message


def test_many_at_once(http, shared, unique):
    def one(number):
        with shared.client() as client:
            return [envelope(post_log(client, unique, f"{number}-{i}", via=DIRECT), 202) for i in range(20)]

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(16)))
    assert len({entry["data"] for entry in all_logs(http, name=unique)}) == 320
