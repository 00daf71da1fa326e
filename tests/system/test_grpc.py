# SPDX-License-Identifier: Apache-2.0
"""Python's grpcio as client and as server: our services, errors, streams, metadata, health, reflection."""

import concurrent.futures
import json
import queue
import subprocess
import threading
import time

import pytest

import grpc_peers
from conftest import eventually

if reason := grpc_peers.why_not():
    pytest.skip(reason, allow_module_level=True)
import grpc

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CODES = {"invalid_argument": "INVALID_ARGUMENT", "unauthenticated": "UNAUTHENTICATED", "permission_denied": "PERMISSION_DENIED", "not_found": "NOT_FOUND",
         "conflict": "ALREADY_EXISTS", "overloaded": "RESOURCE_EXHAUSTED", "unavailable": "UNAVAILABLE", "deadline_exceeded": "DEADLINE_EXCEEDED",
         "cancelled": "CANCELLED", "unimplemented": "UNIMPLEMENTED", "internal": "INTERNAL"}


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    return grpc_peers.Stubs(tmp_path_factory.mktemp("stubs"))


@pytest.fixture(scope="module")
def server():
    with grpc_peers.test_server("--token", "s3cret", "--test-service") as program:
        yield program


class Caller:
    """The services of one server."""

    def __init__(self, stubs, channel):
        self.channel = channel
        self.logs = stubs.logs_grpc.LogServiceStub(channel)
        for name in ("Broker", "Authentication", "Logger", "Mail", "Actions"):
            setattr(self, name.lower(), getattr(stubs.flexi_grpc, name + "Stub")(channel))
        self.health = stubs.health_grpc.HealthStub(channel)
        self.stubs = stubs

    def echo(self, metadata=(), timeout=10, **fields):
        """How a request for the broker arrived."""
        request = self.stubs.flexi.HandleRequest(action="echo", json="{}", **fields)
        return json.loads(self.broker.Handle(request, metadata=metadata, timeout=timeout).data)

    def counts(self):
        """How many calls wait and how many were cancelled."""
        return self.all_counts("waiting", "cancelled")

    def all_counts(self, *names):
        counts = json.loads(self.actions.Call(self.stubs.flexi.CallRequest(action="counts"), timeout=10).data)
        return {name: counts[name] for name in names}


@pytest.fixture
def caller(stubs, server):
    with grpc.insecure_channel(server.target) as channel:
        yield Caller(stubs, channel)


def own_server(*arguments):
    return grpc_peers.test_server(*arguments)


def refused(call, code):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code().name == code, f"{caught.value.code()} {caught.value.details()}"
    return caught.value


# --- unary calls ---


def test_the_references_log_service(stubs, caller, unique):
    request = stubs.logs.LogRequest(logEntry=stubs.logs.Log(name="event", data="Some kind of data"))
    reply, call = caller.logs.WriteLog.with_call(request, timeout=10)
    assert reply.result == "logged!"
    assert len(dict(call.trailing_metadata())["x-flexi-id"]) == 36

    metadata = [("idempotency-key", unique)]
    first, call = caller.logs.WriteLog.with_call(request, metadata=metadata, timeout=10)
    assert dict(call.trailing_metadata()) == {"x-flexi-id": unique}
    again, call = caller.logs.WriteLog.with_call(request, metadata=metadata, timeout=10)
    assert again.result == "logged!" and dict(call.trailing_metadata()) == {"x-flexi-id": unique, "x-flexi-duplicate": "true"}
    other = stubs.logs.LogRequest(logEntry=stubs.logs.Log(name="event", data="other"))
    refused(lambda: caller.logs.WriteLog(other, metadata=metadata, timeout=10), "ALREADY_EXISTS")


def test_typed_calls_of_the_services(stubs, caller, unique):
    flexi = stubs.flexi
    assert caller.logger.WriteLog(flexi.LogEntry(name="n", data="d"), timeout=10).message == "logged"
    assert caller.mail.Send(flexi.Email(to="you@b.example", subject="s", message="m"), timeout=10).message == "sent to you@b.example"
    reply = caller.authentication.Authenticate(flexi.Credentials(email="a@b.example", password="right"), timeout=10)
    assert reply.message == "Logged in user a@b.example" and json.loads(reply.data)["id"] == 7
    user = reply.user
    assert (user.id, user.email, user.first_name, user.last_name, user.active) == (7, "a@b.example", "Ann", "", True)
    assert user.created_at.ToJsonString() == "2026-11-24T09:30:00.123456Z" and user.updated_at.ToJsonString() == "1969-12-31T23:59:59.500Z"
    wrong = refused(lambda: caller.authentication.Authenticate(flexi.Credentials(email="a@b.example", password="wrong"), timeout=10), "UNAUTHENTICATED")
    assert wrong.details() == "invalid credentials"
    reply = caller.actions.Call(flexi.CallRequest(action="echo", json='{"a": [1, 2]}'), metadata=[("idempotency-key", unique)], timeout=10)
    assert json.loads(reply.data)["payload"] == {"a": [1, 2]} and reply.id == unique
    # The contract's actions by name take their JSON, too.
    assert caller.actions.Call(flexi.CallRequest(action="log", json='{"name":"n","data":"d"}'), timeout=10).message == "logged"
    assert "name" in refused(lambda: caller.actions.Call(flexi.CallRequest(action="log", json='{"data":"d"}'), timeout=10), "INVALID_ARGUMENT").details()


def test_the_broker_takes_every_payload(stubs, caller):
    flexi = stubs.flexi
    handle = lambda **fields: caller.broker.Handle(flexi.HandleRequest(**fields), timeout=10)  # noqa: E731
    assert handle(log=flexi.LogEntry(name="n", data="d")).message == "logged"
    assert handle(action="log", log=flexi.LogEntry(name="n", data="d")).message == "logged"
    assert handle(mail=flexi.Email(to="x@y.example")).message == "sent to x@y.example"
    assert handle(credentials=flexi.Credentials(email="a@b.example", password="right")).user.email == "a@b.example"
    assert handle(action="log", json='{"name":"n","data":"d"}').message == "logged"
    assert json.loads(handle(action="echo").data)["payload"] == {}


@pytest.mark.parametrize("fields, words", [
    ({}, "action is required"),
    ({"json": "{}"}, "action is required"),
    ({"action": "log"}, "wants its payload"),
    ({"action": "mail", "log": {"name": "n"}}, "action says mail, but the payload is for log"),
    ({"action": "echo", "json": "{"}, "valid JSON"),
    ({"log": {"name": "a\0b"}}, "log.name must not hold a NUL character"),
    ({"action": "echo", "via": 99}, "via must be one of"),
    ({"action": "echo", "ack": 99}, "ack must be"),
    ({"action": "echo", "id": "two words"}, "id may hold"),
])
def test_what_is_wrong_with_a_request_is_said(stubs, caller, fields, words):
    error = refused(lambda: caller.broker.Handle(stubs.flexi.HandleRequest(**fields), timeout=10), "INVALID_ARGUMENT")
    assert words in error.details()
    assert stubs.details_of(error)[1]["ErrorInfo"].reason == "INVALID_ARGUMENT"


@pytest.mark.parametrize("path", ["/logs.LogService/WriteLog", "/flexiconnect.v1.Logger/WriteLog", "/flexiconnect.v1.Broker/Handle", "/flexiconnect.v1.Actions/Call",
                                  "/flexiconnect.v1.Authentication/Authenticate", "/flexiconnect.v1.Mail/Send", "/grpc.health.v1.Health/Check"])
def test_bytes_that_are_no_message(caller, path):
    raw = caller.channel.unary_unary(path)
    for garbage in (b"\xff" * 50, b"\x0a\xff", b"\x0a\x02\xff\xfe", b"\x12\x05abc"):
        refused(lambda: raw(garbage, timeout=10), "INVALID_ARGUMENT")
    assert caller.counts() is not None


def test_metadata_says_what_the_message_does_not(stubs, caller, unique):
    arrived = caller.echo(metadata=[("idempotency-key", unique), ("x-flexi-via", "grpc"), ("x-flexi-ack", "stored"), ("traceparent", TRACE)])
    assert arrived["id"] == unique and arrived["id_from_caller"] and arrived["via"] == "grpc" and arrived["ack"] == "stored" and arrived["trace"].split("-")[1] == TRACE.split("-")[1]
    assert 8000 < arrived["remaining_ms"] <= 10500  # grpcio rounds up
    flexi = stubs.flexi
    arrived = caller.echo(id=unique, via=flexi.VIA_AMQP, ack=flexi.ACK_ACCEPTED)
    assert (arrived["id"], arrived["via"], arrived["ack"]) == (unique, "amqp", "accepted")
    for metadata, words in (([("x-flexi-via", "pigeon")], "x-flexi-via must be"), ([("x-flexi-ack", "perhaps")], "x-flexi-ack must be"),
                            ([("idempotency-key", "~admin~x")], "idempotency-key")):
        error = refused(lambda: caller.echo(metadata=metadata), "INVALID_ARGUMENT")
        assert words.lower() in error.details().lower()
    for metadata, fields in (([("x-flexi-via", "http")], {"via": flexi.VIA_AMQP}), ([("x-flexi-ack", "stored")], {"ack": flexi.ACK_ACCEPTED}),
                             ([("idempotency-key", "a")], {"id": "b"})):
        assert "differ" in refused(lambda: caller.echo(metadata=metadata, **fields), "INVALID_ARGUMENT").details()


def test_only_a_broker_says_when_where_and_under_which_id(stubs, caller, unique):
    metadata = [("x-flexi-id", unique), ("x-flexi-hops", "broker@1795000000000000"), ("x-flexi-accepted-at", "1795000000000000")]
    arrived = caller.echo(metadata=metadata)
    assert arrived["id"] != unique and arrived["hops"] == "" and not arrived["id_from_caller"]
    arrived = json.loads(caller.actions.Call(stubs.flexi.CallRequest(action="echo"), metadata=metadata, timeout=10).data)
    assert arrived["id"] != unique and arrived["hops"] == "", "what no service owns is the broker's"
    with own_server("--token", "s3cret", "--role", "services") as services, grpc.insecure_channel(services.target) as channel:
        actions = Caller(stubs, channel).actions
        reply = actions.Call(stubs.flexi.CallRequest(action="echo"), metadata=metadata, timeout=10)
        arrived = json.loads(reply.data)
        assert arrived["id"] == reply.id == unique and arrived["hops"] == "broker@1795000000000000"
        call = lambda *metadata: actions.Call(stubs.flexi.CallRequest(action="echo"), metadata=metadata, timeout=10)  # noqa: E731
        assert call(("x-flexi-accepted-at", "2026-11-24T09:30:00Z")).message == "echoed"
        assert "x-flexi-accepted-at" in refused(lambda: call(("x-flexi-accepted-at", "yesterday")), "INVALID_ARGUMENT").details()
        refused(lambda: call(("x-flexi-id", "~admin~1")), "INVALID_ARGUMENT")
        assert call(("x-flexi-id", "~admin~1"), ("authorization", "Bearer s3cret")).id == "~admin~1"


@pytest.mark.parametrize("kind", CODES)
def test_each_error_kind_has_its_code_and_details(stubs, caller, kind):
    error = refused(lambda: caller.actions.Call(stubs.flexi.CallRequest(action=kind), timeout=10), CODES[kind])
    assert error.details() == f"message of {kind} in UTF-8: é"
    status, details = stubs.details_of(error)
    assert status.code == error.code().value[0] and status.message == error.details() and "secret" not in str(status)
    info = details["ErrorInfo"]
    assert (info.reason, info.domain) == (kind.upper(), "flexiconnect")
    assert dict(info.metadata) == ({"sent": "maybe"} if kind == "unavailable" else {})
    assert ("RetryInfo" in details) == (kind == "overloaded")
    if kind == "overloaded":
        assert details["RetryInfo"].retry_delay.ToMilliseconds() == 3000
    assert dict(error.trailing_metadata())["x-flexi-id"]


def test_an_exception_is_internal_and_tells_nothing(stubs, caller):
    error = refused(lambda: caller.actions.Call(stubs.flexi.CallRequest(action="throw"), timeout=10), "INTERNAL")
    assert "secret" not in error.details()
    assert refused(lambda: caller.actions.Call(stubs.flexi.CallRequest(action="no such thing"), timeout=10), "UNIMPLEMENTED").details() == "unknown action"


def test_a_process_without_services_or_broker_says_unimplemented(stubs):
    flexi = stubs.flexi
    with own_server("--role", "broker") as program, grpc.insecure_channel(program.target) as channel:
        caller = Caller(stubs, channel)
        assert caller.logs.WriteLog(stubs.logs.LogRequest(), timeout=10).result == "logged!"
        assert caller.actions.Call(flexi.CallRequest(action="echo"), timeout=10).message == "echoed"
        refused(lambda: caller.logger.WriteLog(flexi.LogEntry(), timeout=10), "UNIMPLEMENTED")
    with own_server("--role", "services") as program, grpc.insecure_channel(program.target) as channel:
        caller = Caller(stubs, channel)
        assert caller.logger.WriteLog(flexi.LogEntry(), timeout=10).message == "logged"
        refused(lambda: caller.broker.Handle(flexi.HandleRequest(action="echo"), timeout=10), "UNIMPLEMENTED")


def test_administration_is_for_this_machine_or_the_token(stubs, caller):
    listing = lambda *metadata: caller.actions.Call(stubs.flexi.CallRequest(action="logs.list"), metadata=metadata, timeout=10)  # noqa: E731
    assert json.loads(listing().data)["caller"] == "admin"
    proxied = ("x-forwarded-for", "203.0.113.9")
    assert "authorization" in refused(lambda: listing(proxied), "UNAUTHENTICATED").details()
    refused(lambda: listing(("authorization", "Bearer wrong")), "UNAUTHENTICATED")
    assert json.loads(listing(proxied, ("authorization", "bearer s3cret")).data)["caller"] == "admin"
    assert caller.echo()["caller"] == "" and caller.echo(metadata=[("authorization", "Bearer s3cret")])["caller"] == "admin"
    # By whichever method it is asked.
    refused(lambda: caller.broker.Handle(stubs.flexi.HandleRequest(action="logs.list"), metadata=[proxied], timeout=10), "UNAUTHENTICATED")
    refused(lambda: list(caller.actions.Follow(stubs.flexi.CallRequest(action="logs.tail"), metadata=[proxied], timeout=10)), "UNAUTHENTICATED")
    with own_server() as program, grpc.insecure_channel(program.target) as channel:
        refused(lambda: Caller(stubs, channel).actions.Call(stubs.flexi.CallRequest(action="logs.list"), metadata=[proxied], timeout=10), "PERMISSION_DENIED")


def test_deadline_and_cancellation_reach_the_handler(stubs, caller):
    wait = stubs.flexi.CallRequest(action="wait")
    before = caller.counts()["cancelled"]
    refused(lambda: caller.actions.Call(wait, timeout=0.2), "DEADLINE_EXCEEDED")
    eventually(lambda: caller.counts()["cancelled"] == before + 1, "the deadline cancels")
    call = caller.actions.Call.future(wait, timeout=30)
    eventually(lambda: caller.counts()["waiting"] == 1, "the call waits")
    call.cancel()
    eventually(lambda: caller.counts() == {"waiting": 0, "cancelled": before + 2}, "the caller's cancellation cancels")


def test_large_messages_and_compression(stubs, tmp_path):
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with own_server("--compress-from", "1", "--test-service") as program:
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            with grpc.insecure_channel(program.target, options=limits, compression=compression) as channel:
                caller = Caller(stubs, channel)
                for size in (0, 1, 100_000, 4 * 1024 * 1024 - 100):
                    assert caller.logger.WriteLog(stubs.flexi.LogEntry(name="n", data="x" * size), timeout=30).message == "logged"
                interop = stubs.interop_grpc.TestServiceStub(channel)
                reply = interop.UnaryCall(stubs.interop.SimpleRequest(response_size=1_000_000, payload=stubs.interop.Payload(body=bytes(range(256)) * 1000)), timeout=30)
                assert reply.payload.body == bytes(1_000_000)
                over = refused(lambda: caller.logger.WriteLog(stubs.flexi.LogEntry(data="x" * (4 * 1024 * 1024 + 1)), timeout=30), "RESOURCE_EXHAUSTED")
                assert "limit" in over.details() and dict(over.trailing_metadata())["x-flexi-error"] == "invalid_argument"
                assert caller.logger.WriteLog(stubs.flexi.LogEntry(name="n"), timeout=10).message == "logged"


def test_binary_metadata_comes_back(stubs, caller):
    every_byte = bytes(range(256))
    interop = stubs.interop_grpc.TestServiceStub(caller.channel)
    _, call = interop.UnaryCall.with_call(stubs.interop.SimpleRequest(), timeout=10,
                                          metadata=[("x-grpc-test-echo-initial", "text"), ("x-grpc-test-echo-trailing-bin", every_byte)])
    assert dict(call.initial_metadata())["x-grpc-test-echo-initial"] == "text"
    assert dict(call.trailing_metadata())["x-grpc-test-echo-trailing-bin"] == every_byte


def test_tls(stubs, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    with own_server("--certificate", certificate, "--key", key) as program:
        assert program.endpoint.startswith("grpcs://")
        with grpc.secure_channel(program.target, grpc.ssl_channel_credentials(certificate.read_bytes())) as channel:
            assert Caller(stubs, channel).logger.WriteLog(stubs.flexi.LogEntry(name="n"), timeout=10).message == "logged"
        assert grpc_peers.call(program.endpoint, "log", {"name": "n", "data": "d"}, before=["--ca", certificate])["message"] == "logged"
        assert grpc_peers.call(program.endpoint, "log", {"name": "n", "data": "d"})["kind"] == "unavailable"


# --- health and reflection ---


def test_health_tells_readiness_and_each_change(stubs):
    health = stubs.health
    with own_server() as program, grpc.insecure_channel(program.target) as channel:
        caller = Caller(stubs, channel)
        check = lambda service="": caller.health.Check(health.HealthCheckRequest(service=service), timeout=10).status  # noqa: E731
        assert check() == check("logs.LogService") == check("flexiconnect.v1.Broker") == health.HealthCheckResponse.SERVING
        refused(lambda: check("no.such.Service"), "NOT_FOUND")
        watch = caller.health.Watch(health.HealthCheckRequest(service="logs.LogService"), timeout=60)
        unknown = caller.health.Watch(health.HealthCheckRequest(service="no.such.Service"), timeout=60)
        assert next(unknown).status == health.HealthCheckResponse.SERVICE_UNKNOWN
        assert next(watch).status == health.HealthCheckResponse.SERVING
        program.tell("unready")
        assert next(watch).status == health.HealthCheckResponse.NOT_SERVING and check() == health.HealthCheckResponse.NOT_SERVING
        program.tell("unready")
        program.tell("ready")
        assert next(watch).status == health.HealthCheckResponse.SERVING
        program.tell("drain")
        assert next(watch).status == health.HealthCheckResponse.NOT_SERVING
        unknown.cancel()
        program.process.stdin.close()
        refused(lambda: next(watch), "UNAVAILABLE")


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_teaches_the_services_to_a_stranger(stubs, caller, version):
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    messages = getattr(stubs, "reflection_" + version)
    stub = getattr(stubs, f"reflection_{version}_grpc").ServerReflectionStub(caller.channel)
    requests = queue.Queue()
    replies = stub.ServerReflectionInfo(iter(requests.get, None), timeout=30)

    def ask(**fields):
        requests.put(messages.ServerReflectionRequest(host="h", **fields))
        reply = next(replies)
        assert reply.valid_host == "h" and reply.original_request.host == "h"
        return reply

    services = {service.name for service in ask(list_services="").list_services_response.service}
    assert services == {"logs.LogService", "flexiconnect.v1.Broker", "flexiconnect.v1.Authentication", "flexiconnect.v1.Logger", "flexiconnect.v1.Mail",
                        "flexiconnect.v1.Actions", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}
    pool = descriptor_pool.DescriptorPool()
    files = [descriptor_pb2.FileDescriptorProto.FromString(file) for file in
             ask(file_containing_symbol="flexiconnect.v1.Logger.WriteLog").file_descriptor_response.file_descriptor_proto]
    assert files[0].name == "flexiconnect/v1/flexiconnect.proto"
    for file in reversed(files):
        pool.Add(file)
    service = pool.FindServiceByName("flexiconnect.v1.Logger")
    method = service.methods_by_name["WriteLog"]
    factory = message_factory.MessageFactory(pool)
    entry, reply = (factory.GetPrototype(kind) for kind in (method.input_type, method.output_type))
    call = caller.channel.unary_unary(f"/{service.full_name}/{method.name}", entry.SerializeToString, reply.FromString)
    assert call(entry(name="n", data="d"), timeout=10).message == "logged"

    assert ask(file_by_filename="logs.proto").file_descriptor_response.file_descriptor_proto
    assert ask(file_by_filename="logs.proto").file_descriptor_response.file_descriptor_proto, "the same stream may ask again"
    for unknown in ({"file_by_filename": "x.proto"}, {"file_containing_symbol": "a.b"}, {"all_extension_numbers_of_type": "a.b"},
                    {"file_containing_extension": messages.ExtensionRequest(containing_type="logs.Log", extension_number=7)}):
        assert ask(**unknown).error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    extensions = ask(all_extension_numbers_of_type="logs.Log").all_extension_numbers_response
    assert extensions.base_type_name == "logs.Log" and not extensions.extension_number
    assert ask().error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    requests.put(None)
    assert list(replies) == []


# --- streams ---


class Stream:
    """A bidirectional stream, fed from a queue."""

    def __init__(self, method, **options):
        self._requests = queue.Queue()
        self.replies = method(iter(self._requests.get, None), **({"timeout": 60} | options))

    def send(self, message):
        self._requests.put(message)

    def close(self):
        self._requests.put(None)


def test_each_message_of_a_bulk_stream_gets_its_own_acknowledgement(stubs, caller):
    flexi = stubs.flexi
    stream = Stream(caller.broker.HandleStream)
    good = [flexi.NumberedRequest(sequence=n, request=flexi.HandleRequest(log=flexi.LogEntry(name="n", data=f"entry {n}"))) for n in range(500)]
    bad = [flexi.NumberedRequest(sequence=1000, request=flexi.HandleRequest(action="log")),
           flexi.NumberedRequest(sequence=1001, request=flexi.HandleRequest(action="overloaded")),
           flexi.NumberedRequest(sequence=1002, request=flexi.HandleRequest(action="throw")),
           flexi.NumberedRequest(sequence=1003)]
    for message in good[:250] + bad + good[250:]:
        stream.send(message)
    stream.close()
    acknowledged = {}
    for reply in stream.replies:
        assert reply.sequence not in acknowledged
        acknowledged[reply.sequence] = reply
    assert stream.replies.code() == grpc.StatusCode.OK
    assert set(acknowledged) == {*range(500), 1000, 1001, 1002, 1003}
    assert all(acknowledged[n].reply.message == "logged" and acknowledged[n].reply.id for n in range(500))
    codes = {n: grpc.StatusCode(next(c.value for c in grpc.StatusCode if c.value[0] == acknowledged[n].error.code)).name for n in range(1000, 1004)}
    assert codes == {1000: "INVALID_ARGUMENT", 1001: "RESOURCE_EXHAUSTED", 1002: "INTERNAL", 1003: "INVALID_ARGUMENT"}
    assert "secret" not in str(acknowledged[1002]) and len(acknowledged[1001].error.details) == 2


def test_bulk_logs_with_ids_are_stored_once(stubs, caller, unique):
    flexi = stubs.flexi
    for round, duplicate in ((1, False), (2, True)):
        stream = Stream(caller.logger.WriteLogs)
        for n in range(50):
            stream.send(flexi.NumberedLog(sequence=n, entry=flexi.LogEntry(name="n", data=str(n)), id=f"{unique}-{n}"))
        stream.close()
        replies = list(stream.replies)
        assert len(replies) == 50 and all(reply.reply.duplicate == duplicate for reply in replies), round
    stream = Stream(caller.logger.WriteLogs, metadata=[("idempotency-key", unique)])
    assert "its own id" in refused(lambda: next(stream.replies), "INVALID_ARGUMENT").details()


def test_a_bulk_stream_works_on_a_bounded_number_at_a_time(stubs):
    flexi = stubs.flexi
    with own_server("--max-bulk", "4") as program, grpc.insecure_channel(program.target) as channel:
        caller = Caller(stubs, channel)
        stream = Stream(caller.broker.HandleStream)
        for n in range(20):
            stream.send(flexi.NumberedRequest(sequence=n, request=flexi.HandleRequest(action="wait")))
        eventually(lambda: caller.counts()["waiting"] == 4, "four at a time")
        for _ in range(20):
            assert caller.counts()["waiting"] == 4
        stream.replies.cancel()
        eventually(lambda: caller.counts() == {"waiting": 0, "cancelled": 4}, "cancelling the stream cancels what is under way")


def test_large_messages_of_a_bulk_stream_are_held_back_not_refused(stubs):
    flexi = stubs.flexi
    with own_server() as program, grpc.insecure_channel(program.target) as channel:
        caller = Caller(stubs, channel)
        stream = Stream(caller.logger.WriteLogs)
        for n in range(60):  # more than a connection's share of memory
            stream.send(flexi.NumberedLog(sequence=n, entry=flexi.LogEntry(name="wait", data="x" * 900_000)))
        eventually(lambda: caller.counts()["waiting"] == 5, "as many as 4 MiB hold, and one that goes beyond")
        for _ in range(20):
            assert caller.counts()["waiting"] == 5
        stream.replies.cancel()
        eventually(lambda: caller.counts()["waiting"] == 0, "cancelling the stream cancels what is under way")


def test_a_message_of_a_stream_has_a_deadline_of_its_own(stubs, caller):
    flexi = stubs.flexi
    stream = Stream(caller.broker.HandleStream)
    stream.send(flexi.NumberedRequest(sequence=1, request=flexi.HandleRequest(action="wait"), timeout_ms=100))
    stream.send(flexi.NumberedRequest(sequence=2, request=flexi.HandleRequest(action="echo")))
    replies = {reply.sequence: reply for reply in (next(stream.replies), next(stream.replies))}
    assert replies[1].error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0] and replies[2].reply.message == "echoed"
    stream.send(flexi.NumberedRequest(sequence=3, request=flexi.HandleRequest(action="echo")))
    assert next(stream.replies).sequence == 3
    stream.close()
    assert list(stream.replies) == []


def test_a_slow_reader_of_acknowledgements_holds_up_only_itself(stubs, caller):
    flexi = stubs.flexi
    sent = threading.Event()
    count = 5000

    def requests():
        for n in range(count):
            yield flexi.NumberedRequest(sequence=n, request=flexi.HandleRequest(action="echo", json=json.dumps("x" * 2000)))
        sent.set()

    replies = caller.broker.HandleStream(requests(), timeout=60)
    first = next(replies)
    # Nobody reads: the server takes no more than its windows and its bound hold.
    assert not sent.wait(0.5)
    assert caller.echo()["id"]
    rest = list(replies)
    assert sorted([first.sequence, *(reply.sequence for reply in rest)]) == list(range(count)) and sent.is_set()


def test_a_stream_with_bytes_that_are_no_message_ends_after_the_others(stubs, caller):
    raw = caller.channel.stream_stream("/flexiconnect.v1.Broker/HandleStream", response_deserializer=stubs.flexi.Acknowledgement.FromString)
    good = stubs.flexi.NumberedRequest(sequence=5, request=stubs.flexi.HandleRequest(action="echo")).SerializeToString()
    replies = raw(iter([good, b"\xff\xff"]), timeout=30)
    assert next(replies).sequence == 5
    refused(lambda: next(replies), "INVALID_ARGUMENT")


def test_a_draining_process_ends_bulk_streams_after_what_is_under_way(stubs):
    flexi = stubs.flexi
    with own_server() as program, grpc.insecure_channel(program.target) as channel:
        caller = Caller(stubs, channel)
        idle, busy = Stream(caller.broker.HandleStream), Stream(caller.broker.HandleStream)
        idle.send(flexi.NumberedRequest(sequence=1, request=flexi.HandleRequest(action="echo")))
        assert next(idle.replies).sequence == 1
        busy.send(flexi.NumberedRequest(sequence=2, request=flexi.HandleRequest(action="wait"), timeout_ms=1000))
        eventually(lambda: caller.counts()["waiting"] == 1, "a message is under way")
        program.tell("drain")
        refused(lambda: next(idle.replies), "UNAVAILABLE")
        assert next(busy.replies).sequence == 2, "what is under way is answered"
        refused(lambda: next(busy.replies), "UNAVAILABLE")


def test_follow_gives_a_reply_and_then_events(stubs, caller):
    flexi = stubs.flexi
    messages = list(caller.actions.Follow(flexi.CallRequest(action="logs.tail"), timeout=30))
    assert messages[0].reply.message == "ok" and [json.loads(message.event) for message in messages[1:]] == [{"n": 1}, {"n": 2}, {"n": 3}]
    endless = caller.actions.Follow(flexi.CallRequest(action="logs.tail", json='{"endless":true}'), timeout=30)
    assert [next(endless).WhichOneof("kind") for _ in range(20)] == ["reply"] + ["event"] * 19
    endless.cancel()
    eventually(lambda: caller.all_counts("tails") == {"tails": 0}, "a tail ends with its reader")
    assert [message.reply.message for message in caller.actions.Follow(flexi.CallRequest(action="echo"), timeout=30)] == ["echoed"]
    assert "Follow" in refused(lambda: caller.actions.Call(flexi.CallRequest(action="logs.tail"), timeout=10), "INVALID_ARGUMENT").details()
    refused(lambda: list(caller.actions.Follow(flexi.CallRequest(action="not_found"), timeout=30)), "NOT_FOUND")


# --- our client and Python's server ---


class Peer:
    """A service of somebody else's: `answer(request, context)` per method, set by the test."""

    def __init__(self, stubs):
        self.stubs = stubs
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)])
        self.answers = {}
        self.metadata = {}
        for service, method in (("Logger", "WriteLog"), ("Authentication", "Authenticate"), ("Mail", "Send"), ("Actions", "Call")):
            self._add(service, method, grpc.unary_unary_rpc_method_handler)
        self._add("Actions", "Follow", grpc.unary_stream_rpc_method_handler)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.endpoint = f"grpc://127.0.0.1:{self.port}"

    def _add(self, service, method, handler):
        def answer(request, context):
            self.metadata = dict(context.invocation_metadata())
            return self.answers[method](request, context)

        descriptor = self.stubs.flexi.DESCRIPTOR.services_by_name[service].methods_by_name[method]
        flexi = self.stubs.flexi
        request = getattr(flexi, descriptor.input_type.name)
        reply = getattr(flexi, descriptor.output_type.name)
        one = handler(answer, request.FromString, reply.SerializeToString)
        self._handlers = getattr(self, "_handlers", {})
        self._handlers.setdefault(service, {})[method] = one

    def __enter__(self):
        for service, methods in self._handlers.items():
            self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("flexiconnect.v1." + service, methods),))
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop(0).wait()


@pytest.fixture
def peer(stubs):
    with Peer(stubs) as running:
        yield running


def test_our_client_sends_typed_messages_and_metadata(stubs, peer, unique):
    flexi = stubs.flexi
    seen = []

    def answer(request, context):
        seen.append((request, context.time_remaining()))
        return flexi.Reply(message="stored", duplicate=True, way="w", next="n", data="[1]")

    for method in ("WriteLog", "Send", "Call"):
        peer.answers[method] = answer
    outcome = grpc_peers.call(peer.endpoint, "log", {"name": "é", "data": "d"}, "--id", unique, "--ack", "stored", "--hops", "broker@1", "--trace", TRACE, "--timeout-ms", "5000")
    assert outcome == {"ok": True, "message": "stored", "next": "n", "duplicate": True, "way": "w", "data": [1]}
    request, remaining = seen.pop()
    assert (request.name, request.data) == ("é", "d") and 3 < remaining <= 5
    assert peer.metadata["x-flexi-id"] == peer.metadata["idempotency-key"] == unique
    assert peer.metadata["x-flexi-ack"] == "stored" and peer.metadata["x-flexi-hops"] == "broker@1" and peer.metadata["traceparent"].split("-")[1] == TRACE.split("-")[1]
    assert abs(int(peer.metadata["x-flexi-accepted-at"]) / 1e6 - time.time()) < 60
    assert "authorization" not in peer.metadata
    grpc_peers.call(peer.endpoint, "mail", {"from": "f", "to": "t", "subject": "s", "message": "m"})
    request, _ = seen.pop()
    assert getattr(request, "from") == "f" and (request.to, request.subject, request.message) == ("t", "s", "m")
    grpc_peers.call(peer.endpoint, "resize", {"w": 1}, before=["--token", "s3cret"])
    request, _ = seen.pop()
    assert request.action == "resize" and json.loads(request.json) == {"w": 1} and "authorization" not in peer.metadata
    grpc_peers.call(peer.endpoint, "logs.list", {}, before=["--token", "s3cret"])
    assert peer.metadata["authorization"] == "Bearer s3cret"


def test_our_client_reads_an_account_that_is_only_typed(stubs, peer):
    user = stubs.flexi.User(id=3, email="a@b.example", active=True)
    user.created_at.FromJsonString("2026-11-24T09:30:00Z")
    peer.answers["Authenticate"] = lambda request, context: stubs.flexi.Reply(message="in", user=user)
    outcome = grpc_peers.call(peer.endpoint, "auth", {"email": "a@b.example", "password": "p"})
    assert outcome["data"] == {"id": 3, "email": "a@b.example", "active": 1, "created_at": "2026-11-24T09:30:00.000000Z"}


@pytest.mark.parametrize("code, kind, sent", [
    ("INVALID_ARGUMENT", "invalid_argument", "no"), ("UNAUTHENTICATED", "unauthenticated", "no"), ("PERMISSION_DENIED", "permission_denied", "no"),
    ("NOT_FOUND", "not_found", "no"), ("ALREADY_EXISTS", "conflict", "no"), ("RESOURCE_EXHAUSTED", "overloaded", "no"), ("UNIMPLEMENTED", "unimplemented", "no"),
    ("OUT_OF_RANGE", "invalid_argument", "no"), ("FAILED_PRECONDITION", "conflict", "no"), ("UNAVAILABLE", "unavailable", "maybe"),
    ("DEADLINE_EXCEEDED", "deadline_exceeded", "maybe"), ("INTERNAL", "internal", "maybe"), ("UNKNOWN", "internal", "maybe"), ("DATA_LOSS", "internal", "maybe"),
    ("ABORTED", "internal", "maybe"), ("CANCELLED", "cancelled", "maybe")])
def test_codes_of_a_service_that_is_not_ours(peer, code, kind, sent):
    peer.answers["Call"] = lambda request, context: context.abort(getattr(grpc.StatusCode, code), "words\n\u00e9 50%")
    outcome = grpc_peers.call(peer.endpoint, "x", {})
    answered = code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert outcome == {"ok": False, "kind": kind, "message": "words\n\u00e9 50%", "sent": sent, "answered": answered, "retry_after_ms": -1}


def test_rich_errors_of_a_service_are_read(stubs, peer):
    def fail_with(domain, reason, sent=None):
        def answer(request, context):
            status = stubs.status.Status(code=14, message="words")
            status.details.add().Pack(stubs.details.ErrorInfo(domain=domain, reason=reason, metadata={"sent": sent} if sent else {}))
            retry = stubs.details.RetryInfo()
            retry.retry_delay.FromMilliseconds(1500)
            status.details.add().Pack(retry)
            context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
            context.abort(grpc.StatusCode.UNAVAILABLE, "words")

        peer.answers["Call"] = answer
        outcome = grpc_peers.call(peer.endpoint, "x", {})
        assert outcome["retry_after_ms"] == 1500
        return outcome["kind"], outcome["sent"], outcome["answered"]

    assert fail_with("flexiconnect", "NOT_FOUND") == ("not_found", "no", True)
    assert fail_with("flexiconnect", "UNAVAILABLE", "maybe") == ("unavailable", "maybe", True)
    assert fail_with("flexiconnect", "NO_SUCH_KIND") == ("unavailable", "maybe", False)
    assert fail_with("example.com", "NOT_FOUND") == ("unavailable", "maybe", False)


def test_an_answer_that_is_not_understood_is_internal(peer, stubs):
    peer.answers["Call"] = lambda request, context: stubs.flexi.Reply(message="m", data="{not json")
    outcome = grpc_peers.call(peer.endpoint, "x", {})
    assert (outcome["kind"], outcome["message"]) == ("internal", "the service's answer was not understood")


def test_our_client_keeps_its_deadline_and_the_service_hears_of_it(peer, stubs):
    cancelled = threading.Event()

    def answer(request, context):
        context.add_callback(cancelled.set)
        cancelled.wait(20)
        return stubs.flexi.Reply()

    peer.answers["Call"] = answer
    outcome = grpc_peers.call(peer.endpoint, "x", {}, "--timeout-ms", "300")
    assert (outcome["kind"], outcome["sent"]) == ("deadline_exceeded", "maybe")
    assert cancelled.wait(20)


def test_our_client_with_large_and_compressed_messages(peer, stubs):
    peer.answers["WriteLog"] = lambda request, context: stubs.flexi.Reply(message=str(len(request.data)), data=json.dumps("y" * 3_000_000))
    for before in ([], ["--compress-from", "1"]):
        outcome = call_with_large_log(peer.endpoint, before)
        assert outcome["message"] == "100000" and outcome["data"] == "y" * 3_000_000
    outcome = call_with_large_log(peer.endpoint, ["--max-message", "100000"])
    assert not outcome["ok"]


def call_with_large_log(endpoint, before):
    return grpc_peers.call(endpoint, "log", {"name": "n", "data": "x" * 100_000}, before=before)


def test_our_client_follows_a_tail(peer, stubs):
    flexi = stubs.flexi
    left = threading.Event()

    def follow(request, context):
        context.add_callback(left.set)
        yield flexi.FollowReply(reply=flexi.Reply(message="ok"))
        n = 0
        while not left.is_set():
            n += 1
            yield flexi.FollowReply(event=json.dumps({"n": n}))
            left.wait(0.002)

    peer.answers["Follow"] = follow
    outcome = grpc_peers.call(peer.endpoint, "logs.tail", {}, "--events", "200")
    assert outcome["events"] == [{"n": n} for n in range(1, 201)]
    assert left.wait(20), "the service hears that the reader left"
    peer.answers["Follow"] = lambda request, context: context.abort(grpc.StatusCode.NOT_FOUND, "no tail")
    assert grpc_peers.call(peer.endpoint, "logs.tail", {})["kind"] == "not_found"


def test_our_client_and_our_server(server, unique):
    assert grpc_peers.call(server.endpoint, "log", {"name": "n", "data": "d"}, "--id", unique)["duplicate"] is False
    assert grpc_peers.call(server.endpoint, "log", {"name": "n", "data": "d"}, "--id", unique)["duplicate"] is True
    assert grpc_peers.call(server.endpoint, "logs.tail", {})["events"] == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert grpc_peers.call(server.endpoint, "unavailable", {})["sent"] == "maybe"
