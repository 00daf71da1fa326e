# SPDX-License-Identifier: Apache-2.0
"""Actions of the user's own: examples/custom-action/words.py behind the broker and behind the queue, and services that fail."""

import collections
import contextlib
import http.server
import json
import re
import socket
import sqlite3
import subprocess
import sys
import threading

import pytest
from conftest import BINARY, ON_SERVICES, ROOT, envelope, eventually, run_cli, system
from ways_in import generated_grpc

QUICK_RETRIES = {"FLEXI_QUEUE_RETRY_DELAY": "20ms", "FLEXI_QUEUE_RETRY_FACTOR": "1"}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Service:
    """A service of somebody else's: answers what it is told to, and keeps what it was asked."""

    def __init__(self, address="127.0.0.1", port=0, name="service"):
        self.requests, self.connections = [], []
        self.script = collections.deque()  # answers to come: (status, body, headers), "cut" or "silence"; then 200 {"n": count}
        self.always = None
        self.release = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                outer.connections.append(self.connection)

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.requests.append({"path": self.path, "headers": {key.lower(): value for key, value in self.headers.items()}, "body": body})
                answer = outer.script.popleft() if outer.script else outer.always or (200, json.dumps({"n": len(outer.requests), "by": name}).encode(), {})
                if answer == "silence":
                    outer.release.wait(60)
                if answer in ("cut", "silence"):
                    self.close_connection = True
                    return
                status, content, headers = answer
                self.send_response(status)
                for key, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((address, port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.url = f"http://{address}:{self.port}/v1/do?x=1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def ids(self):
        return [request["headers"]["x-flexi-id"] for request in self.requests]

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def service():
    made = Service()
    yield made
    made.close()


@pytest.fixture(scope="module")
def answering(request):
    """A service, and an instance that hands it `do`: for tests that script what it answers."""
    made = Service()
    with system(request, QUICK_RETRIES | {"FLEXI_ACTIONS_DO_URL": made.url, "FLEXI_BROKER_CIRCUIT_FAILURES": "0", "FLEXI_HTTP_CLIENT_FAILURES": "0"}) as instance:
        yield made, instance
    made.close()


@pytest.fixture
def words(tmp_path):
    """The documented example, as a user runs it."""
    process = subprocess.Popen([sys.executable, str(ROOT / "examples/custom-action/words.py"), "--port", "0", "--database", str(tmp_path / "words.db")],
                               stdout=subprocess.PIPE, text=True)
    url = process.stdout.readline().split()[-1]
    yield url, tmp_path / "words.db"
    process.kill()
    process.wait()


def instance_for(make_instance, url, settings=None, name="DO"):
    return make_instance(settings={f"FLEXI_ACTIONS_{name}_URL": url} | QUICK_RETRIES | (settings or {})).start()


def instance_for_both(make_instance, folder, port, settings):
    """Its service has two addresses. A list of hosts stands in a file: in a variable the comma ends an entry."""
    file = folder / "two.toml"
    file.write_text(f'[actions.do]\nurl = ["http://127.0.0.1,127.0.0.2:{port}/"]\n')
    return make_instance(settings={"FLEXI_CONFIG": file} | QUICK_RETRIES | settings).start()


def ask(client, payload, action="do", headers=None, **fields):
    return client.post("/handle", json={"action": action, **fields, action: payload}, headers=headers)


def counted(database):
    """Ids and answers that the example has stored."""
    if not database.exists():
        return {}
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        return dict(connection.execute("SELECT id, answer FROM counted"))


# --- the documented example

@pytest.mark.parametrize("via, ack", [("auto", None), ("http", None), ("http", "stored"), ("http", "accepted"), ("amqp", "stored"), ("amqp", "accepted"), ("auto", "accepted")])
def test_the_example_over_every_way(make_instance, words, via, ack):
    url, database = words
    with instance_for(make_instance, url, name="WORDS").client() as client:
        response = ask(client, {"text": "to be or not to be"}, "words", via=via, **({"ack": ack} if ack else {}))
        body = envelope(response, 202)
        way = response.headers["x-flexi-way"].split(";")[0]
        queued = ack == "accepted" and way == "amqp"
        assert way == (via if via != "auto" else "amqp" if ack == "accepted" else "http")
        if queued:
            assert body["message"] == "queued" and "data" not in body
        else:
            assert body == {"error": False, "message": "done", "data": {"words": 6, "characters": 18}}
        stored = eventually(lambda: counted(database), "the service has counted")
        assert list(stored) == [response.headers["x-flexi-id"]], "exactly one message, under the caller's id"


def test_actions_objects_of_grpc_and_rpc_find_it_like_the_broker(make_instance, service, unique):
    """Actions.Call of gRPC and Actions.call of RPC: what no service here owns is the broker's to hand on."""
    import grpc

    instance = instance_for(make_instance, service.url)
    with instance.client() as client:
        listening = {row["via"]: row["endpoint"].split("://")[1] for row in client.get("/system").json()["data"]["listening"]}
    messages, stubs = generated_grpc()
    with grpc.insecure_channel(listening["grpc"], options=[("grpc.enable_http_proxy", 0)]) as channel:
        actions = stubs.ActionsStub(channel)
        reply = actions.Call(messages.CallRequest(action="do", json='{"from":"grpc"}'), metadata=[("idempotency-key", unique), ("x-flexi-via", "http")], timeout=20)
        assert (json.loads(reply.data)["n"], reply.way, reply.id) == (1, "http", unique)
        with pytest.raises(grpc.RpcError) as unknown:
            actions.Call(messages.CallRequest(action="else"), timeout=20)
        assert (unknown.value.code(), unknown.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "unknown action")
    calls = [{"action": "do", "payload": {"from": "rpc"}, "id": unique + "-2"}, {"action": "else", "payload": {}}]
    done = subprocess.run([str(BINARY.parent / "rpc_call"), listening["rpc"]], input="".join(json.dumps(call) + "\n" for call in calls), capture_output=True, text=True, timeout=60)
    found, unknown = map(json.loads, done.stdout.splitlines())
    assert found["ok"] and json.loads(found["data"])["n"] == 2 and found["id"] == unique + "-2", found
    assert not unknown["ok"] and unknown["message"] == "unknown action", unknown
    assert [json.loads(request["body"]) for request in service.requests] == [{"from": "grpc"}, {"from": "rpc"}]
    assert service.ids() == [unique, unique + "-2"]


def test_the_same_key_is_counted_once_by_whatever_way(make_instance, words, unique):
    url, database = words
    with instance_for(make_instance, url, name="WORDS").client() as client:
        for via in ("http", "amqp", "http", "auto"):
            body = envelope(ask(client, {"text": "one two"}, "words", via=via, ack="stored", headers={"Idempotency-Key": unique}), 202)
            assert body["data"]["words"] == 2
        assert len(counted(database)) == 1
        again = ask(client, {"text": "one two"}, "words", via="http", headers={"Idempotency-Key": unique})
        assert again.headers["x-flexi-duplicate"] == "true"
        envelope(ask(client, {"text": "something else"}, "words", via="http", headers={"Idempotency-Key": unique}), 409)


def test_what_the_example_refuses_is_400_and_a_dead_letter(make_instance, words):
    url, database = words
    with instance_for(make_instance, url, name="WORDS").client() as client:
        assert envelope(ask(client, {"txt": "x"}, "words", via="http"), 400)["message"] == "text is required and must be a string"
        assert envelope(ask(client, {"txt": "x"}, "words", via="amqp", ack="stored"), 400)["message"] == "text is required and must be a string"
        envelope(ask(client, {"txt": "x"}, "words", via="amqp", ack="accepted"), 202)
        letter = eventually(lambda: client.get("/dlq").json()["data"], "a dead letter")[0]
        assert letter["action"] == "words" and letter["payload"] == {"txt": "x"} and letter["attempts"] == 1
        assert letter["reason"] == "invalid_argument: text is required and must be a string"
        assert counted(database) == {}


def test_the_command_line_sends_it(make_instance, words):
    url, _ = words
    instance = instance_for(make_instance, url, name="WORDS")
    sent = run_cli("send", "words", "text=to be or not", "--url", instance.url)
    assert sent.returncode == 0 and '{"words":4,"characters":12}' in sent.stdout, sent.stdout + sent.stderr


def test_the_documented_commands_are_those_of_the_example():
    text = (ROOT / "docs/custom-actions.md").read_text()
    assert "FLEXI_ACTIONS_WORDS_URL=http://127.0.0.1:9000/words" in text and (ROOT / "examples/custom-action/words.py").exists()
    source = (ROOT / "examples/custom-action/words.py").read_text()
    imported = set(re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE))
    assert imported <= set(sys.stdlib_module_names), imported


# --- what goes over the wire

def test_what_the_service_sees(make_instance, service, unique, tmp_path):
    token = "t0ken-of-the-administrator"
    (tmp_path / "token").write_text(token)
    instance = instance_for(make_instance, service.url, {"FLEXI_ADMIN_TOKEN_FILE": tmp_path / "token"})
    with instance.client() as client:
        payload = {"text": "größer 🦀", "list": [1, 2.5, None], "nested": {"a": {"b": "\u0000 NUL"}}}
        response = ask(client, payload, ack="stored", headers={"Idempotency-Key": unique, "traceparent": TRACE, "X-Flexi-Timeout-Ms": "5000", "Authorization": f"Bearer {token}"})
        assert envelope(response, 202)["data"] == {"n": 1, "by": "service"}
    seen = service.requests[0]
    assert seen["path"] == "/v1/do?x=1"
    assert json.loads(seen["body"]) == payload, "passed through"
    headers = seen["headers"]
    assert headers["x-flexi-id"] == headers["idempotency-key"] == response.headers["x-flexi-id"]
    assert headers["x-flexi-action"] == "do" and headers["content-type"] == "application/json" and headers["x-flexi-ack"] == "stored"
    assert 0 < int(headers["x-flexi-timeout-ms"]) <= 5000
    assert headers["traceparent"].split("-")[1] == TRACE.split("-")[1], "the same trace"
    assert headers["x-flexi-accepted-at"].endswith("Z")
    assert "authorization" not in headers and token not in str(seen), "the administrator's token is ours"


@pytest.mark.parametrize("status, content, expected, message, data", [
    (200, b'{"error":false,"message":"resized","data":{"id":7}}', 202, "resized", {"id": 7}),
    (201, b"[1, 2]", 202, "done", [1, 2]),
    (200, b'"text"', 202, "done", "text"),
    (204, b"", 202, "done", None),
    (200, b"<html>", 500, "the service's answer is not JSON", None),
    (200, b'{"error":true,"message":"no room"}', 500, "no room", None),
    (422, b'{"message":"width is missing"}', 400, "width is missing", None),
    (404, b"nothing", 404, "the service answered 404", None),
    (409, b'{"error":true,"message":"taken"}', 409, "taken", None),
    (500, b"", 500, "the service answered 500", None),
    (503, b'{"error":true,"message":"busy"}', 503, None, None),
    (301, b"", 500, "the service answered 301", None),
])
def test_answers(answering, status, content, expected, message, data):
    service, instance = answering
    service.always = (status, content, {})
    service.requests.clear()
    with instance.client() as client:
        body = envelope(ask(client, {}, via="http"), expected)
        assert message is None or body["message"] == message
        assert body.get("data") == data
    assert len(service.requests) == 1, "what may have been done is not done again"


def test_an_http_1_0_service_will_do(make_instance, service):
    service.server.RequestHandlerClass.protocol_version = "HTTP/1.0"
    with instance_for(make_instance, service.url).client() as client:
        for number in range(3):
            assert envelope(ask(client, {}), 202)["data"]["n"] == number + 1


def test_a_long_answer_comes_whole(make_instance, service):
    service.always = (200, json.dumps({"text": "x" * 3_000_000}).encode(), {})
    with instance_for(make_instance, service.url).client() as client:
        assert len(envelope(ask(client, {}), 202)["data"]["text"]) == 3_000_000


# --- failures

def nobody_there():
    """A port where nobody listens, and which nobody else is given while the socket is open."""
    gone = socket.socket()
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    gone.bind(("127.0.0.1", 0))
    return gone, gone.getsockname()[1]


def test_a_service_that_is_not_there_is_503_and_then_heals(make_instance):
    gone, port = nobody_there()
    with instance_for(make_instance, f"http://127.0.0.1:{port}/do").client() as client:
        assert "http" in envelope(ask(client, {}, via="http"), 503)["message"]
        gone.close()
        back = Service(port=port)
        try:
            eventually(lambda: ask(client, {}, via="http").status_code == 202, "the service is found again")
        finally:
            back.close()


def test_what_surely_was_not_sent_goes_another_way(make_instance):
    """`auto` for stored tries http first; nobody listens there, so the queue takes it, and its listener finds nobody either until later."""
    gone, port = nobody_there()
    settings = {"FLEXI_ACTIONS_DO_ACCEPTED_ORDER": "http,amqp"}
    with instance_for(make_instance, f"http://127.0.0.1:{port}/do", settings).client() as client:
        response = ask(client, {}, ack="accepted")
        assert envelope(response, 202)["message"] == "queued"
        assert response.headers["x-flexi-way"].startswith("amqp") and "fallback-from=http" in response.headers["x-flexi-way"]
        gone.close()
        back = Service(port=port)
        try:
            eventually(lambda: back.requests, "the queue delivers it once the service is there")
            assert back.ids() == [response.headers["x-flexi-id"]]
        finally:
            back.close()


@pytest.mark.parametrize("idempotent, calls", [("false", 1), ("true", 3)])
def test_a_lost_answer_is_repeated_only_where_that_is_declared(make_instance, service, idempotent, calls):
    service.script.extend(["cut", "cut"])
    with instance_for(make_instance, service.url, {"FLEXI_ACTIONS_DO_IDEMPOTENT": idempotent}).client() as client:
        response = ask(client, {}, via="http")
        assert response.status_code == (202 if calls == 3 else 503), response.text
    assert len(service.requests) == calls and len(set(service.ids())) == 1, "the same message each time"


def test_a_deadline_holds_for_a_silent_service(make_instance, service):
    service.always = "silence"
    with instance_for(make_instance, service.url).client() as client:
        envelope(ask(client, {}, via="http", headers={"X-Flexi-Timeout-Ms": "300"}), 504)
        service.always = None
        envelope(ask(client, {}, via="http"), 202)


def test_the_queue_tries_again_until_it_is_done(make_instance, service):
    service.script.extend([(503, b"", {}), "cut", (500, b'{"error":true,"message":"hiccup"}', {}), (429, b"", {"Retry-After": "0"}), (200, b"<html>", {})])
    with instance_for(make_instance, service.url).client() as client:
        response = ask(client, {"a": 1}, via="amqp", ack="accepted")
        envelope(response, 202)
        eventually(lambda: len(service.requests) == 6, "six attempts")
        assert set(service.ids()) == {response.headers["x-flexi-id"]} and {request["body"] for request in service.requests} == {b'{"a":1}'}
        if not ON_SERVICES:  # RabbitMQ's depth is RabbitMQ's to tell
            eventually(lambda: "flexi_queue_depth 0" in client.get("/metrics").text, "the queue is empty")
        assert envelope(client.get("/dlq"), 200)["data"] == []
    assert len(service.requests) == 6


def test_after_the_last_attempt_it_is_a_dead_letter_that_can_be_replayed(make_instance, service):
    service.always = (500, b'{"error":true,"message":"still broken"}', {})
    with instance_for(make_instance, service.url, {"FLEXI_QUEUE_MAX_ATTEMPTS": "3", "FLEXI_AMQP_MAX_ATTEMPTS": "3"}).client() as client:
        envelope(ask(client, {"a": 1}, via="amqp", ack="accepted"), 202)
        letter = eventually(lambda: client.get("/dlq").json()["data"], "a dead letter")[0]
        assert letter["reason"] == "internal: still broken" and letter["attempts"] == 3 and len(service.requests) == 3
        service.always = None
        envelope(client.post(f"/dlq/{letter['id']}/replay"), 200)
        eventually(lambda: len(service.requests) == 4, "replayed")
        eventually(lambda: client.get("/dlq").json()["data"] == [], "no dead letter is left")


def test_nothing_accepted_is_lost_when_the_process_is_killed(make_instance, service):
    """Accepted while the service is down; killed; started again; delivered."""
    port = service.port
    service.close()
    instance = instance_for(make_instance, f"http://127.0.0.1:{port}/do", {"FLEXI_QUEUE_RETRY_DELAY": "100ms"})
    with instance.client() as client:
        ids = {ask(client, {"n": number}, via="amqp", ack="accepted").headers["x-flexi-id"] for number in range(20)}
    instance.kill()
    back = Service(port=port)
    try:
        instance.start()
        eventually(lambda: set(back.ids()) == ids, "all twenty arrive")
    finally:
        back.close()


def test_an_address_that_fails_is_set_aside(make_instance, tmp_path):
    """Two addresses, of which one takes each request and answers none."""
    good = Service("127.0.0.1", name="good")
    try:
        bad = Service("127.0.0.2", good.port, name="bad")
    except OSError:
        good.close()
        pytest.skip("not run: 127.0.0.2 can't be used here")
    bad.always = "cut"
    settings = {"FLEXI_THREADS": "1", "FLEXI_HTTP_CLIENT_SET_ASIDE": "1h", "FLEXI_HTTP_CLIENT_MAX_SET_ASIDE": "1h", "FLEXI_BROKER_CIRCUIT_FAILURES": "0"}
    try:
        with instance_for_both(make_instance, tmp_path, good.port, settings).client() as client:
            codes = [ask(client, {}, via="http").status_code for _ in range(60)]
            assert codes.count(503) == len(bad.requests) == 5, codes
            assert codes[-40:] == [202] * 40, "five failures in a row, then nobody goes there"
            addresses = {row["address"]: row for peer in client.get("/system").json()["data"]["peers"] for row in peer["addresses"]}
            assert addresses[f"127.0.0.1:{good.port}"]["state"] == "used"
            assert addresses[f"127.0.0.2:{good.port}"]["state"] == "set_aside" and addresses[f"127.0.0.2:{good.port}"]["because"] == "its calls fail"
    finally:
        good.close()
        bad.close()


def test_an_address_that_heals_is_used_again(make_instance, tmp_path):
    good = Service("127.0.0.1", name="good")
    try:
        bad = Service("127.0.0.2", good.port, name="bad")
    except OSError:
        good.close()
        pytest.skip("not run: 127.0.0.2 can't be used here")
    bad.always = "cut"
    settings = {"FLEXI_THREADS": "1", "FLEXI_HTTP_CLIENT_SET_ASIDE": "50ms", "FLEXI_BROKER_CIRCUIT_FAILURES": "0"}
    try:
        with instance_for_both(make_instance, tmp_path, good.port, settings).client() as client:
            for _ in range(20):
                ask(client, {}, via="http")
            bad.always = None
            before = len(bad.requests)
            eventually(lambda: ask(client, {}, via="http").status_code == 202 and len(bad.requests) > before + 5, "the probe finds it well, then it has its share")
            assert all(ask(client, {}, via="http").status_code == 202 for _ in range(20))
    finally:
        good.close()
        bad.close()


# --- what may be asked

def test_ways_that_lead_nowhere_are_named(make_instance, service):
    with instance_for(make_instance, service.url).client() as client:
        for via in ("inproc", "grpc", "rpc"):
            message = envelope(ask(client, {}, via=via), 400)["message"]
            assert via in message and "http" in message and "amqp" in message
        assert envelope(ask(client, {}, "undo"), 400)["message"] == "unknown action"


def test_a_forbidden_way_is_forbidden_to_callers_only(make_instance, service):
    with instance_for(make_instance, service.url, {"FLEXI_ACTIONS_DO_FORBIDDEN": "http"}).client() as client:
        envelope(ask(client, {}, via="http"), 403)
        assert envelope(ask(client, {}, via="amqp", ack="stored"), 202)["data"]["n"] == 1
        response = ask(client, {})
        envelope(response, 202)
        assert response.headers["x-flexi-way"].startswith("amqp")


def test_the_default_acknowledgement_is_the_actions_own(make_instance, service):
    with instance_for(make_instance, service.url, {"FLEXI_ACTIONS_DO_ACK": "accepted"}).client() as client:
        assert envelope(ask(client, {}), 202)["message"] == "queued"
        eventually(lambda: service.requests, "it arrives")


def test_several_actions_in_a_file(make_instance, service, tmp_path):
    other = Service(name="other")
    (tmp_path / "flexi.toml").write_text(f'[actions.first]\nurl = "{service.url}"\n[actions.second-one]\nurl = ["{other.url}"]\nack = "accepted"\n')
    try:
        instance = make_instance(settings={"FLEXI_CONFIG": tmp_path / "flexi.toml"}).start()
        with instance.client() as client:
            assert envelope(ask(client, {}, "first"), 202)["data"]["by"] == "service"
            envelope(ask(client, {}, "second-one"), 202)
            eventually(lambda: other.requests, "by the queue")
            assert {row["action"] for row in client.get("/system").json()["data"]["actions"]} >= {"first", "second-one", "log", "mail", "auth"}
    finally:
        other.close()


@pytest.mark.parametrize("toml, path, word", [
    ('[actions.log]\nurl = "http://a:1/"\n', "actions.log", "taken"),
    ('[actions.via]\nurl = "http://a:1/"\n', "actions.via", "taken"),
    ('[actions."logs.list"]\nurl = "http://a:1/"\n', "actions.logs.list", "letters"),
    ('[actions.a]\nidempotent = true\n', "actions.a.url", "required"),
    ('[actions.a]\nurl = "ftp://a:1/"\n', "actions.a.url", "http://host:port/path"),
    ('[actions.a]\nurl = "http://a:1/"\nurll = "x"\n', "actions.a.urll", "did you mean actions.a.url"),
    ('[actions.a]\nurl = "http://a:1/"\nforbidden = ["http", "amqp"]\n', "actions.a.stored_order", "url"),
    ('[actions.a]\nurl = "http://a:1/"\nack = "maybe"\n', "actions.a.ack", "accepted or stored"),
])
def test_check_config_names_every_problem(tmp_path, toml, path, word):
    (tmp_path / "flexi.toml").write_text(toml)
    checked = run_cli("check-config", "--config", tmp_path / "flexi.toml", cwd=tmp_path)
    assert checked.returncode == 1
    line = next((line for line in checked.stderr.splitlines() if line.startswith(path + ":")), None)
    assert line and word in line, checked.stderr


def test_print_config_reads_back(tmp_path):
    (tmp_path / "flexi.toml").write_text('[actions.resize]\nurl = "http://images:9000/v1"\nidempotent = true\n')
    printed = run_cli("print-config", "--config", tmp_path / "flexi.toml", cwd=tmp_path)
    assert printed.returncode == 0 and "[actions.resize]" in printed.stdout
    (tmp_path / "again.toml").write_text(printed.stdout)
    assert run_cli("check-config", "--config", tmp_path / "again.toml", cwd=tmp_path).returncode == 0
