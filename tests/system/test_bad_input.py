# SPDX-License-Identifier: Apache-2.0
"""What bad input gets: a 4xx in the contract's JSON that names the field, or a closed connection. Never a 500, a crash, a hang
or a lost earlier request."""

import json
import random
import socket
import time
import uuid

import pytest
from amqp_support import ready, settings
from conftest import DIRECT, INPROC, all_logs, embedded_only, envelope, post_log
from ways_in import Amqp, Rpc, all_ways_in

LOG = b'{"action":"log","via":"%s","log":{"name":"n","data":"d"}}' % DIRECT.encode()
MAIL = {"from": "me@example.com", "to": "you@example.com", "subject": "Hello", "message": "Hello world!"}
CONTRACT_CALLS = ["/", "/handle", "/log-gRPC", "/authenticate", "/log", "/send"]


def raw(instance, data, half_close=False, seconds=15):
    """Sends bytes, reads until the server closes or falls silent after a whole answer."""
    with socket.create_connection(("127.0.0.1", instance.port), timeout=seconds) as connection:
        received = b""
        try:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                received += chunk
                if not half_close and whole(received):
                    break
        except (ConnectionResetError, BrokenPipeError):
            pass
        return received


def whole(received):
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return False


def refused_or_closed(received):
    """A 4xx with the contract's envelope, or nothing at all; never a 2xx or a 5xx."""
    if not received:
        return
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    assert 400 <= status < 500, received
    if body:
        envelope_ = json.loads(body)
        assert envelope_["error"] is True and envelope_["message"]


def request(body=LOG, path="/handle", headers=(), host=b"Host: localhost"):
    lines = [b"POST " + path.encode() + b" HTTP/1.1", *([host] if host else []), b"Content-Type: application/json", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.fixture(scope="module")
def callers(shared):
    """One for each port, by its name."""
    made = {way.name: way for way in all_ways_in(shared)}
    assert set(made) == {"http", "grpc", "rpc"}
    yield made
    for way in made.values():
        way.close()


@pytest.fixture(autouse=True)
def still_well(shared, callers):
    yield
    with shared.client() as client:
        assert client.get("/ping").status_code == 200
    for way in callers.values():
        answer = way.call("log", {"name": "after", "data": "bad input"}, DIRECT, "stored", uuid.uuid4().hex)
        assert answer.ok, answer


# --- bodies

NO_ONE_VALUE = [b"", b"{", b"nope", b'{"action":}', b'{"a":1}{"b":2}', b"{} {}", b"{}x", b"\xff\xfe", b'{"action":"log\xff"}', b"[1,2", b'"\\u12"',
                b"\x00", b'{"a":1,}', b"{'a':1}", b"[" * 100000, b'{"a":' * 50000]


@pytest.mark.parametrize("path, body", [(path, body) for path in CONTRACT_CALLS for body in NO_ONE_VALUE if body or path != "/"])
def test_what_is_not_one_json_value(http, path, body):
    envelope(http.post(path, content=body, headers={"Content-Type": "application/json"}), 400)


@pytest.mark.parametrize("path", CONTRACT_CALLS)
@pytest.mark.parametrize("body", [b"[]", b"1", b'"text"', b"null", b"true"])
def test_json_that_is_no_object(http, path, body):
    """Only POST /, which has nothing to read of it, takes any value."""
    envelope(http.post(path, content=body, headers={"Content-Type": "application/json"}), 200 if path == "/" else 400)


@pytest.mark.parametrize("path", CONTRACT_CALLS)
def test_a_body_over_the_limit(http, path):
    body = b'{"action":"log","log":{"name":"n","data":"' + b"x" * (1 << 20) + b'"}}'
    envelope(http.post(path, content=body, headers={"Content-Type": "application/json"}), 400)


@pytest.mark.parametrize("path", ["/mails/x/release", "/actions/logs.list", "/actions/log", "/actions/mine"])
def test_a_body_over_the_limit_elsewhere(http, path):
    envelope(http.post(path, content=b" " * (1 << 20) + b"{}", headers={"Content-Type": "application/json"}), 413)


def test_a_body_at_the_limit(http):
    frame = b'{"action":"log","via":"' + DIRECT.encode() + b'","log":{"name":"limit","data":"%s"}}'
    body = frame % (b"x" * ((1 << 20) - len(frame) + 2))
    assert len(body) == 1 << 20
    envelope(http.post("/handle", content=body, headers={"Content-Type": "application/json"}), 202)


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json", "application/jsonx"])
def test_a_wrong_content_type(http, content_type):
    message = envelope(http.post("/handle", content=LOG, headers={"Content-Type": content_type}), 415)["message"]
    assert "application/json" in message


# --- fields

@pytest.mark.parametrize("body, word", [
    ({}, "action"), ({"action": 5}, "action"), ({"action": None}, "action"), ({"action": {}}, "action"),
    ({"action": "log"}, "log"), ({"action": "log", "log": "text"}, "log"), ({"action": "log", "log": []}, "log"), ({"action": "log", "log": None}, "log"),
    ({"action": "log", "log": {}}, "name"), ({"action": "log", "log": {"name": 5, "data": "d"}}, "name"), ({"action": "log", "log": {"name": "n"}}, "data"),
    ({"action": "log", "log": {"name": "n", "data": {}}}, "data"), ({"action": "log", "log": {"name": "n", "data": None}}, "data"),
    ({"action": "auth", "auth": {"email": "a@example.com"}}, "password"), ({"action": "auth", "auth": {"password": "x"}}, "email"),
    ({"action": "auth", "auth": {"email": 1, "password": "x"}}, "email"), ({"action": "auth", "auth": {"email": "a@example.com", "password": 1}}, "password"),
    ({"action": "mail", "mail": {"subject": "s", "message": "m"}}, "to"), ({"action": "mail", "mail": {"to": [5], "subject": "s", "message": "m"}}, "to"),
    ({"action": "mail", "mail": {"to": "a@example.com", "subject": 1, "message": "m"}}, "subject"), ({"action": "mail", "mail": {"to": "a@example.com", "subject": "s"}}, "message"),
    ({"action": "log", "via": "pigeon", "log": {"name": "n", "data": "d"}}, "via"), ({"action": "log", "via": 1, "log": {"name": "n", "data": "d"}}, "via"),
    ({"action": "log", "ack": "maybe", "log": {"name": "n", "data": "d"}}, "ack"), ({"action": "log", "ack": True, "log": {"name": "n", "data": "d"}}, "ack"),
    ({"action": "log", "log": {"name": "n\u0000x", "data": "d"}}, "name"), ({"action": "log", "log": {"name": "n", "data": "d\u0000"}}, "data"),
])
def test_a_missing_or_wrong_field_is_named(http, body, word):
    response = http.post("/handle", json=body)
    assert word in envelope(response, 400)["message"]
    assert response.headers["x-flexi-error"] == "invalid_argument"


@pytest.mark.parametrize("header, value", [("X-Flexi-Via", "pigeon"), ("X-Flexi-Ack", "maybe"), ("X-Flexi-Timeout-Ms", "-1"), ("X-Flexi-Timeout-Ms", ""),
                                           ("X-Flexi-Timeout-Ms", "soon"), ("X-Flexi-Timeout-Ms", "1e3"), ("Idempotency-Key", "a b")])
def test_a_wrong_header_is_named(http, header, value):
    response = post_log(http, "n", "d", headers={header: value})
    assert header.lower() in envelope(response, 400)["message"].lower()


def test_a_time_out_over_the_cap_is_capped(http):
    envelope(post_log(http, "n", "d", headers={"X-Flexi-Timeout-Ms": "99999999999999999999"}), 202)


def test_no_time_at_all_is_a_time_out(http, unique):
    envelope(post_log(http, unique, "d", headers={"X-Flexi-Timeout-Ms": "0"}, via=DIRECT), 504)


@pytest.mark.parametrize("header, fields", [({"X-Flexi-Via": "http"}, {"via": "inproc"}), ({"X-Flexi-Ack": "stored"}, {"ack": "accepted"}), ({"Idempotency-Key": "a"}, {"id": "b"})])
def test_header_and_body_must_agree(http, header, fields):
    assert "differ" in envelope(post_log(http, "n", "d", headers=header, **fields), 400)["message"]


@pytest.mark.parametrize("field, value", [
    ("to", "not an address"), ("to", ""), ("to", "a@b@c"), ("to", "you@example.com\r\nBcc: all@example.com"), ("to", "you@example.com\n"), ("to", "x" * 400 + "@example.com"),
    ("from", "nobody"), ("from", "me@example.com\r\nX: y"), ("subject", "Hi\r\nBcc: all@example.com"), ("subject", "Hi\nthere"), ("subject", "a\u0000b"), ("to", "a@exa mple.com"),
    ("to", "@example.com"), ("to", "a@"), ("message", "a\u0000b"),
])
@pytest.mark.parametrize("path", ["/handle", "/send"])
def test_an_address_or_header_that_can_not_be(http, path, field, value):
    mail = MAIL | {field: value}
    response = http.post(path, json=mail if path == "/send" else {"action": "mail", "mail": mail})
    assert field in envelope(response, 400)["message"]


@pytest.mark.parametrize("data", ["😀 größer\n\t", "'; DROP TABLE logs; --", "<script>alert(1)</script>", "\u202e", "x" * 100000, "", " ", "\ud7ff\uffff"])
def test_hostile_text_is_data(http, unique, data):
    envelope(post_log(http, unique, data, via=DIRECT), 202)
    assert [entry["data"] for entry in all_logs(http, name=unique)] == [data]


@pytest.mark.parametrize("path", ["/mails/nope", "/mails/..%2f..%2fetc%2fpasswd", "/mails/%00", "/dlq/nope", "/users/nope", "/users/-1", "/mails/" + "x" * 5000, "/users/1%27", "/dlq/%ff"])
def test_ids_that_are_none(http, path):
    response = http.get(path)
    assert response.status_code in (400, 404, 414, 431), response.text
    assert response.json()["error"] is True


@pytest.mark.parametrize("path", ["/../etc/passwd", "/app/../../etc/passwd", "/%2e%2e/etc/passwd", "/app/%00", "//", "/app/"])
def test_paths_outside_are_not_found(shared, path):
    received = raw(shared, b"GET " + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"root:" not in received
    refused_or_closed(received)


# --- the wire

@pytest.mark.parametrize("data", [
    request(host=None),
    request(headers=[b"Host: other"]),
    request(headers=[b"Transfer-Encoding: chunked"]),
    request(headers=[b"Content-Length: 5"]),
    request(headers=[b"Transfer-Encoding: xchunked"]),
    request(headers=[b"Content-Length : 61"]),
    request(headers=[b"Bad Header: x"]),
    request(headers=[b"X: a\x00b"]),
    request(headers=[b": empty"]),
    b"POST /handle HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /handle HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    b"POST /handle HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x10\r\n\r\n",
    b"POST /handle HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /handle HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / \x00 HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\r\n" * 4096,
    b"G" * 70000,
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * 70000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(10000)) + b"\r\n",
    b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
], ids=lambda data: repr(data[:60]))
def test_what_is_not_http(shared, data):
    refused_or_closed(raw(shared, data, half_close=True))


def test_two_lengths_smuggle_nothing(shared, unique):
    """A front proxy that believes the one length and we the other would let a second request slip in."""
    hidden = request(b'{"name":"%s","data":"smuggled"}' % unique.encode(), path="/log")
    for headers in ([b"Content-Length: 6", b"Transfer-Encoding: chunked"], [b"Transfer-Encoding: chunked", b"Content-Length: 6"],
                    [b"Content-Length: 6", b"Content-Length: %d" % (len(hidden) + 5)], [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Content-Length: 6"]):
        data = b"\r\n".join([b"POST / HTTP/1.1", b"Host: localhost", *headers]) + b"\r\n\r\n0\r\n\r\n" + hidden
        refused_or_closed(raw(shared, data, half_close=True))
    with shared.client() as client:
        assert all_logs(client, name=unique) == []


def test_an_earlier_request_is_not_lost_to_later_garbage(shared, unique):
    good = request(b'{"name":"%s","data":"kept"}' % unique.encode(), path="/log")
    received = raw(shared.at("/log"), good + b"GARBAGE\r\n\r\n", half_close=True)
    assert received.startswith(b"HTTP/1.1 202")
    with shared.client() as client:
        assert len(all_logs(client, name=unique)) == 1


def test_pipelined_requests_are_answered_in_order(shared, unique):
    requests = [request(json.dumps({"name": unique, "data": str(number)}).encode(), path="/log", headers=[b"Idempotency-Key: %s-%d" % (unique.encode(), number)]) for number in range(50)]
    received = raw(shared.at("/log"), b"".join(requests), half_close=True)
    assert received.count(b"HTTP/1.1 202") == 50
    lower = received.lower()
    positions = [lower.find(f"x-flexi-id: {unique}-{number}\r\n".encode()) for number in range(50)]
    assert -1 not in positions and positions == sorted(positions)


def test_a_half_closed_socket_gets_its_answer(shared):
    assert raw(shared, request(), half_close=True).startswith(b"HTTP/1.1 202")


def test_byte_by_byte(shared):
    with socket.create_connection(("127.0.0.1", shared.port), timeout=15) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request():
            connection.sendall(bytes([byte]))
        assert connection.recv(65536).startswith(b"HTTP/1.1 202")


def test_chunked_bodies_are_read(shared):
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (LOG[:7], LOG[7:20], LOG[20:])) + b"0\r\n\r\n"
    data = b"POST /handle HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    assert raw(shared, data).startswith(b"HTTP/1.1 202")


def test_expect_continue_is_answered(shared):
    with socket.create_connection(("127.0.0.1", shared.port), timeout=15) as connection:
        head, _, body = request(headers=[b"Expect: 100-continue"]).partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n")
        received = connection.recv(65536)
        assert received.startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        if received.endswith(b"100 Continue\r\n\r\n"):
            received = connection.recv(65536)
        assert b"HTTP/1.1 202" in received


def test_closing_in_the_middle_harms_nobody(shared):
    whole_request = request()
    for cut in range(0, len(whole_request), 7):
        with socket.create_connection(("127.0.0.1", shared.port), timeout=15) as connection:
            connection.sendall(whole_request[:cut])


def test_a_slow_header_or_body_is_closed(make_instance):
    instance = make_instance(settings={"FLEXI_HTTP_HEADER_TIMEOUT": "300ms", "FLEXI_HTTP_BODY_TIMEOUT": "300ms"}).start()
    for start in (b"POST /handle HTTP/1.1\r\nHost: loc", request()[:-5]):
        with socket.create_connection(("127.0.0.1", instance.port), timeout=10) as connection:
            began = time.monotonic()
            connection.sendall(start)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
            assert time.monotonic() - began < 5
            refused_or_closed(received)


def test_too_many_connections_are_refused_not_queued(make_instance):
    instance = make_instance(settings={"FLEXI_HTTP_MAX_CONNECTIONS": "8"}).start()
    held = []
    try:
        for _ in range(8):
            connection = socket.create_connection(("127.0.0.1", instance.port), timeout=10)
            connection.sendall(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            held.append(connection)
        received = raw(instance, b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not received or received.startswith(b"HTTP/1.1 503")
    finally:
        for connection in held:
            connection.close()


@pytest.mark.parametrize("via", ["auto", "amqp", INPROC, "http"])
@pytest.mark.parametrize("action, payload, field", [
    ("log", {"name": "", "data": "x"}, "name"), ("log", {"name": "n" * 5000, "data": "x"}, "name"),
    ("mail", {"to": "nope", "subject": "s", "message": "m"}, "to"), ("mail", {"to": "you@example.com", "subject": "a\r\nBcc: x@y.z", "message": "m"}, "subject")])
def test_what_its_service_would_refuse_is_refused_before_a_queue_accepts_it(http, action, payload, field, via):
    for ack in ("accepted", "stored"):
        answer = http.post("/handle", json={"action": action, "via": via, "ack": ack, action: payload})
        assert answer.status_code == 400 and field in answer.json()["message"], answer.text


# --- sizes: one limit, whichever way it comes

LIMIT = 1 << 20  # of a payload as JSON
NAMES = len('{"name":"size","data":""}')


def size_refused(answer):
    return not answer.ok and answer.kind in ("invalid_argument", "exception")  # over RPC's limit of a message its connection ends


@pytest.mark.parametrize("ack", ["accepted", "stored"])
@pytest.mark.parametrize("way_in", ["http", "grpc", "rpc"])
@pytest.mark.parametrize("data", ["x" * (2 << 20), '"' * (LIMIT // 2), "\x01" * (LIMIT // 6)], ids=["long", "quotes", "controls"])
def test_a_payload_that_some_way_could_not_carry_is_refused_before_a_queue_accepts_it(shared, way_in, ack, data):
    caller = next(way for way in all_ways_in(shared) if way.name == way_in)
    try:
        assert size_refused(caller.call("log", {"name": "size", "data": data}, "auto", ack, uuid.uuid4().hex))
    finally:
        caller.close()
    with shared.client() as client:
        assert client.get("/dlq").json()["data"] == []


@pytest.mark.parametrize("via, ack", [("amqp", "accepted"), ("http", "stored"), ("grpc", "stored"), ("rpc", "stored"), pytest.param("inproc", "stored", marks=embedded_only("a way inside one process"))])
@pytest.mark.parametrize("way_in", ["grpc", "rpc"])
def test_a_payload_at_the_limit_goes_every_way(shared, callers, way_in, via, ack):
    fits = "\n" * ((LIMIT - NAMES) // 2)
    answer = callers[way_in].call("log", {"name": "size", "data": fits}, via, ack, uuid.uuid4().hex)
    assert answer.ok and answer.way_name == via, answer
    over = callers[way_in].call("log", {"name": "size", "data": fits + "\n"}, via, ack, uuid.uuid4().hex)
    assert (over.ok, over.kind) == (False, "invalid_argument") and str(LIMIT) in over.message, over
    with shared.client() as client:
        assert client.get("/dlq").json()["data"] == []


def test_a_payload_over_the_limit_from_rabbitmq(make_instance, vhost):
    instance = ready(make_instance(settings=settings(vhost.url)).start())
    caller = Amqp(vhost.url)
    try:
        for ack in ("accepted", "stored"):
            answer = caller.call("log", {"name": "size", "data": "x" * (2 << 20)}, "auto", ack, uuid.uuid4().hex)
            assert (answer.ok, answer.kind) == (False, "invalid_argument") and str(LIMIT) in answer.message, answer
    finally:
        caller.close()
    with instance.client() as client:
        assert client.get("/dlq").json()["data"] == []


# --- the gRPC and the RPC port

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def port_of(shared, via):
    with shared.client() as client:
        return next(int(row["endpoint"].rsplit(":", 1)[1]) for row in client.get("/system").json()["data"]["listening"] if row["via"] == via)


def ends(port, data, half_close=False, seconds=20):
    """Sends bytes; fails unless the server ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        received = b""
        try:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                received += chunk
        except (ConnectionResetError, BrokenPipeError):
            pass
        return received


@pytest.mark.parametrize("via", ["grpc", "rpc"])
@pytest.mark.parametrize("garbage", [b"\xff" * 100_000, b"\r\n\r\n\r\n", random.Random(1).randbytes(10_000), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                                     b"AMQP\x00\x00\x09\x01", PREFACE + b"\xff" * 100, request()], ids=["ff", "lines", "random", "http", "amqp", "http2", "handle"])
def test_garbage_on_another_port_ends_its_connection(shared, via, garbage):
    ends(port_of(shared, via), garbage)


@pytest.mark.parametrize("via, data", [
    ("grpc", PREFACE[:-3]), ("grpc", PREFACE + b"\x00\x00\x64\x04\x00\x00\x00\x00\x00abc"),
    ("grpc", PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x00\x20\x01\x05\x00\x00\x00\x01abc"),
    ("rpc", b"\x00\x00\x00\x00\x64\x00\x00\x00abcdefgh"), ("rpc", b"\x00\x00"), ("rpc", b"\x03\x00\x00\x00\x01\x00\x00\x00")])
def test_a_frame_that_is_cut_short_ends_with_its_connection(shared, via, data):
    ends(port_of(shared, via), data, half_close=True)


@pytest.mark.parametrize("via, data", [
    ("grpc", PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"),  # a frame of 16 MiB
    ("rpc", b"\x00\x00\x00\x00\xff\xff\xff\x0f"), ("rpc", b"\xff\xff\xff\x7f")])  # 2 GiB of words; two thousand million segments
def test_a_frame_that_is_announced_too_long_ends_its_connection(shared, via, data):
    ends(port_of(shared, via), data)


@embedded_only("the doors of one process")
def test_a_message_over_the_limit_and_bytes_that_are_no_message(callers):
    grpc, channel = callers["grpc"].grpc, callers["grpc"].channel

    def code(path, message):
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(path)(message, timeout=20)
        return error.value.code()

    for path in ("/flexiconnect.v1.Broker/Handle", "/logs.LogService/WriteLog", "/flexiconnect.v1.Logger/WriteLog", "/flexiconnect.v1.Actions/Call"):
        assert code(path, b"\xff\xff\xff") == grpc.StatusCode.INVALID_ARGUMENT, path
        assert code(path, b"x" * (5 << 20)) == grpc.StatusCode.RESOURCE_EXHAUSTED, path
    with pytest.raises(grpc.RpcError) as ended:
        list(channel.stream_stream("/flexiconnect.v1.Broker/HandleStream")(iter([b"\xff\xff\xff"]), timeout=20))
    assert ended.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_full_of_objects_ends_its_connection(shared):
    caller = Rpc(f"127.0.0.1:{port_of(shared, 'rpc')}")
    try:
        caller.process.stdin.write(json.dumps({"bomb": 1000}) + "\n")
        caller.process.stdin.flush()
        answer = json.loads(caller.process.stdout.readline())
        assert not answer["ok"] and answer["kind"] == "exception", answer
    finally:
        caller.close()


# --- parameters that nobody knows

@pytest.mark.parametrize("path, known", [("/logs", "limit"), ("/logs/tail", "name"), ("/mails", "cursor"), ("/mails/x", "id"), ("/users", None), ("/users/1", "id"),
                                         ("/dlq", "limit"), ("/dlq/x", "id")])
def test_an_unknown_parameter_is_named_with_those_that_are_known(http, path, known):
    refused = envelope(http.get(path, params={"limt": 3}), 400)["message"]
    assert '"limt"' in refused
    assert ("known are" in refused and known in refused) if known else "there are none here" in refused


def test_what_is_known_passes(http):
    envelope(http.get("/logs", params={"name": "n", "q": "x", "since": "2026-01-01", "until": "2027-01-01", "limit": 3, "cursor": ""}), 200)
