# SPDX-License-Identifier: Apache-2.0
"""The product's gRPC port: what goes in there is where it should be, also when the process is stopped or killed."""

import contextlib
import json
import queue
import threading

import pytest

import grpc_peers
from conftest import DIRECT, EXAMPLE_USER, ON_SERVICES, all_logs, eventually

if reason := grpc_peers.why_not():
    pytest.skip(reason, allow_module_level=True)
import grpc

LISTEN = {} if ON_SERVICES else {"FLEXI_GRPC_LISTEN": "127.0.0.1:0", "FLEXI_RPC_LISTEN": ""}
# Who serves each, by the contract's call that the same process has.
PATHS = {"Broker": "/handle", "Authentication": "/authenticate", "Logger": "/log", "Mail": "/send", "Actions": "/handle"}


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    return grpc_peers.Stubs(tmp_path_factory.mktemp("stubs"))


def target_of(instance):
    """Where the running instance's gRPC port is: its log says so."""
    for line in reversed(instance.log_files[-1].read_text().splitlines()):
        for endpoint in json.loads(line).get("also", "").split():
            if endpoint.startswith("grpc://"):
                return endpoint.removeprefix("grpc://")
    pytest.fail("the log names no gRPC endpoint")


@pytest.fixture
def instance(make_instance):
    return make_instance(settings=LISTEN).start()


@pytest.fixture
def channels(instance):
    """A channel to the process of each service."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(grpc.insecure_channel(target_of(instance.at(path)), options=[("grpc.enable_http_proxy", 0)])) for name, path in PATHS.items()}


def services(stubs, channels):
    return {name: getattr(stubs.flexi_grpc, name + "Stub")(channel) for name, channel in channels.items()}


def test_every_service_answers_for_real(stubs, instance, channels, unique):
    flexi, of = stubs.flexi, services(stubs, channels)
    assert stubs.logs_grpc.LogServiceStub(channels["Logger"]).WriteLog(stubs.logs.LogRequest(logEntry=stubs.logs.Log(name=unique, data="1")), timeout=10).result == "logged!"
    assert of["Logger"].WriteLog(flexi.LogEntry(name=unique, data="2"), timeout=10).message == "logged"
    reply = of["Broker"].Handle(flexi.HandleRequest(log=flexi.LogEntry(name=unique, data="3"), id=unique, ack=flexi.ACK_STORED), timeout=10)
    assert reply.id == unique and reply.way and not reply.duplicate
    assert of["Broker"].Handle(flexi.HandleRequest(log=flexi.LogEntry(name=unique, data="3"), id=unique, ack=flexi.ACK_STORED), timeout=10).duplicate
    queued = of["Broker"].Handle(flexi.HandleRequest(log=flexi.LogEntry(name=unique, data="4"), ack=flexi.ACK_ACCEPTED), timeout=10)
    assert queued.message == "logger via RabbitMQ" and queued.way.startswith("amqp")
    with instance.client() as http:
        eventually(lambda: sorted(entry["data"] for entry in all_logs(http, name=unique)) == ["1", "2", "3", "4"], "all four are stored")
    listed = of["Actions"].Call(flexi.CallRequest(action="logs.list", json=json.dumps({"name": unique, "limit": 2})), timeout=10)
    assert len(json.loads(listed.data)) == 2 and listed.next
    user = of["Authentication"].Authenticate(flexi.Credentials(**EXAMPLE_USER), timeout=20).user
    assert (user.email, user.first_name, user.last_name, user.active) == (EXAMPLE_USER["email"], "Admin", "User", True) and user.created_at.seconds > 0
    with pytest.raises(grpc.RpcError) as refused:
        of["Broker"].Handle(flexi.HandleRequest(credentials=flexi.Credentials(email="x@y.example", password="z")), timeout=20)
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.UNAUTHENTICATED, "invalid credentials")
    named = dict(refused.value.trailing_metadata())
    assert named["x-flexi-way"] == DIRECT and len(named["x-flexi-id"]) == 36
    failed, = of["Broker"].HandleStream(iter([flexi.NumberedRequest(request=flexi.HandleRequest(
        credentials=flexi.Credentials(email="x@y.example", password="z"), via=flexi.VIA_HTTP, id=unique + "-auth"))]), timeout=20)
    info = stubs.details.ErrorInfo.FromString(failed.error.details[0].value)
    assert info.metadata["way"] == "http" and info.metadata["id"] == unique + "-auth"
    assert of["Mail"].Send(flexi.Email(to="you@example.com", subject=unique, message="Hello"), timeout=20).message == "sent to you@example.com"
    with pytest.raises(grpc.RpcError) as unknown:
        of["Broker"].Handle(flexi.HandleRequest(action="no-such-action"), timeout=20)
    assert (unknown.value.code(), unknown.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "unknown action")
    assert "x-flexi-way" not in dict(unknown.value.trailing_metadata()), "no way was tried"
    with pytest.raises(grpc.RpcError) as wrong:
        of["Broker"].Handle(flexi.HandleRequest(action="log", json="{"), metadata=[("idempotency-key", unique + "-wrong")], timeout=20)
    assert wrong.value.code() == grpc.StatusCode.INVALID_ARGUMENT and dict(wrong.value.trailing_metadata())["x-flexi-id"] == unique + "-wrong"


def test_the_log_is_followed_live(stubs, instance, channels, unique):
    flexi, of = stubs.flexi, services(stubs, channels)
    tail = of["Actions"].Follow(flexi.CallRequest(action="logs.tail", json="{}"), timeout=60)
    assert next(tail).HasField("reply")
    of["Logger"].WriteLog(flexi.LogEntry(name=unique, data="live"), timeout=10)
    for message in tail:
        if json.loads(message.event)["name"] == unique:
            break
    instance.at("/log").terminate()  # whose log it is, not the broker that handed it on
    with pytest.raises(grpc.RpcError) as ended:
        list(tail)
    assert ended.value.code() == grpc.StatusCode.UNAVAILABLE


class Bulk:
    """Entries sent by one stream as fast as it takes them; `acknowledged` are the numbers of those that were stored."""

    def __init__(self, stubs, channel, name, count):
        self.acknowledged, self.failed, self.code = set(), [], None
        requests = (stubs.flexi.NumberedLog(sequence=n, entry=stubs.flexi.LogEntry(name=name, data=str(n)), id=f"{name}-{n}") for n in range(count))
        self._replies = stubs.flexi_grpc.LoggerStub(channel).WriteLogs(requests, timeout=120)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        try:
            for reply in self._replies:
                if reply.HasField("reply"):
                    self.acknowledged.add(reply.sequence)
                else:
                    self.failed.append(reply)
        except grpc.RpcError:
            pass
        self.code = self._replies.code()

    def join(self):
        self._thread.join(120)
        assert not self._thread.is_alive()
        return self


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_what_a_stream_acknowledged_outlives_the_process(stubs, make_instance, unique, end):
    instance = make_instance(settings=LISTEN).start()
    logger = instance.at("/log")
    with grpc.insecure_channel(target_of(logger)) as channel:
        bulk = Bulk(stubs, channel, unique, 200_000)
        eventually(lambda: len(bulk.acknowledged) > 1000, "the stream is under way", seconds=60)
        getattr(logger, end)()
        bulk.join()
    assert bulk.code == grpc.StatusCode.UNAVAILABLE and 1000 < len(bulk.acknowledged) < 200_000
    logger.start()
    with logger.client() as http:
        eventually(lambda: http.get("/readyz").status_code == 200, "it has its database again")
    with grpc.insecure_channel(target_of(logger)) as channel:
        # Those without acknowledgement again, under the same ids: nothing is lost, nothing is there twice.
        again = Bulk(stubs, channel, unique, max(bulk.acknowledged) + 1).join()
        assert again.code == grpc.StatusCode.OK and again.acknowledged == set(range(max(bulk.acknowledged) + 1)) and not again.failed
    with instance.client() as http:
        stored = [int(entry["data"]) for entry in all_logs(http, name=unique)]
    assert len(stored) == len(set(stored)) and set(stored) >= bulk.acknowledged


def test_health_and_a_stop_that_loses_no_call(stubs, instance, channels):
    health, flexi = stubs.health, stubs.flexi
    watch = stubs.health_grpc.HealthStub(channels["Logger"]).Watch(health.HealthCheckRequest(service="logs.LogService"), timeout=60)
    assert next(watch).status == health.HealthCheckResponse.SERVING
    logger, outcomes = stubs.flexi_grpc.LoggerStub(channels["Logger"]), queue.Queue()

    def call_until_refused():
        while True:
            try:
                outcomes.put(logger.WriteLog(flexi.LogEntry(name="n", data="d"), timeout=30).message)
            except grpc.RpcError as error:
                outcomes.put(error.code())
                return

    threads = [threading.Thread(target=call_until_refused) for _ in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: outcomes.qsize() > 200, "calls are answered")
    instance.at("/log").terminate()
    for thread in threads:
        thread.join(60)
    seen = set(outcomes.queue)
    assert seen == {"logged", grpc.StatusCode.UNAVAILABLE}, "a call is answered or certainly refused, never cut"
