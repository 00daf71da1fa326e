# SPDX-License-Identifier: Apache-2.0
"""Actions of the user's own that lead to a gRPC server, a Cap'n Proto server, or a consumer of RabbitMQ, each written with that
protocol's own library; and several at once with fallback."""

import concurrent.futures
import json
import queue as queues
import subprocess
import threading

import pytest
from conftest import BINARY, envelope, eventually
from test_custom_actions import QUICK_RETRIES, TRACE, Service, ask
from ways_in import generated_grpc

TOKEN = "t0ken-of-the-administrator"


class GrpcService:
    """flexiconnect.v1.Actions with grpcio."""

    def __init__(self, address="127.0.0.1:0"):
        import grpc

        messages, services = generated_grpc()
        outer = self
        self.calls = []
        self.fail = None  # (code, message)

        class Actions(services.ActionsServicer):
            def Call(self, request, context):
                outer.calls.append({"action": request.action, "payload": request.json, "metadata": dict(context.invocation_metadata()), "left": context.time_remaining()})
                if outer.fail:
                    context.abort(*outer.fail)
                return messages.Reply(message="did " + request.action, data=request.json)

        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        services.add_ActionsServicer_to_server(Actions(), self.server)
        self.port = self.server.add_insecure_port(address)
        self.server.start()
        self.url = f"grpc://127.0.0.1:{self.port}"
        self.codes = grpc.StatusCode

    def close(self):
        self.server.stop(0).wait()


class RpcService:
    """Actions with Cap'n Proto's own C++ library."""

    def __init__(self):
        tool = BINARY.parent / "rpc_call"
        assert tool.exists(), f"{tool} is not there: it is built with the tests"
        self.process = subprocess.Popen([str(tool), "serve"], stdout=subprocess.PIPE, text=True)
        self.url = f"rpc://127.0.0.1:{self.process.stdout.readline().split()[1]}"
        self.lines = queues.Queue()
        threading.Thread(target=lambda: [self.lines.put(json.loads(line)) for line in self.process.stdout], daemon=True).start()

    def seen(self):
        return self.lines.get(timeout=20)

    def close(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def grpc_service():
    pytest.importorskip("grpc", reason="not run: python3-grpcio is missing")
    made = GrpcService()
    yield made
    made.close()


@pytest.fixture
def rpc_service():
    made = RpcService()
    yield made
    made.close()


@pytest.fixture
def with_token(tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    return {"FLEXI_ADMIN_TOKEN_FILE": tmp_path / "token"} | QUICK_RETRIES


def as_administrator(trace=TRACE):
    return {"Authorization": f"Bearer {TOKEN}", "traceparent": trace, "X-Flexi-Timeout-Ms": "5000"}


@pytest.mark.parametrize("via, ack", [("grpc", "stored"), ("auto", "stored"), ("amqp", "stored"), ("amqp", "accepted")])
def test_a_grpc_service(make_instance, grpc_service, with_token, via, ack):
    instance = make_instance(settings={"FLEXI_ACTIONS_DO_URL": grpc_service.url} | with_token).start()
    with instance.client() as client:
        response = ask(client, {"a": "größer"}, via=via, ack=ack, headers=as_administrator())
        body = envelope(response, 202)
        call = eventually(lambda: grpc_service.calls, "the call")[0]
        assert call["action"] == "do" and json.loads(call["payload"]) == {"a": "größer"}
        if ack == "stored":
            assert body["message"] == "did do" and body["data"] == {"a": "größer"}
        metadata = call["metadata"]
        assert metadata["x-flexi-id"] == response.headers["x-flexi-id"]
        assert metadata["traceparent"].split("-")[1] == TRACE.split("-")[1]
        assert "authorization" not in metadata, "the administrator's token is ours"
        assert 0 < call["left"] <= 31
        assert len(grpc_service.calls) == 1


def test_a_grpc_service_that_fails(make_instance, grpc_service):
    instance = make_instance(settings={"FLEXI_ACTIONS_DO_URL": grpc_service.url} | QUICK_RETRIES).start()
    with instance.client() as client:
        grpc_service.fail = (grpc_service.codes.INVALID_ARGUMENT, "a is missing")
        assert "a is missing" in envelope(ask(client, {}, via="grpc"), 400)["message"]
        envelope(ask(client, {}, via="amqp", ack="accepted"), 202)
        letter = eventually(lambda: client.get("/dlq").json()["data"], "a dead letter")[0]
        assert letter["attempts"] == 1 and "a is missing" in letter["reason"]
        before = len(grpc_service.calls)
        grpc_service.fail = (grpc_service.codes.UNAVAILABLE, "busy")
        response = ask(client, {"n": 2}, via="amqp", ack="accepted")
        envelope(response, 202)
        eventually(lambda: len(grpc_service.calls) >= before + 2, "it is tried again")
        grpc_service.fail = None
        eventually(lambda: client.get("/system").json()["data"]["queue"]["depth"] == 0, "done")
        assert {call["metadata"]["x-flexi-id"] for call in grpc_service.calls[before:]} == {response.headers["x-flexi-id"]}


def test_an_address_of_a_grpc_service_that_fails_is_set_aside(make_instance, grpc_service):
    """Two addresses, of which one answers each call that it is busy."""
    try:
        bad = GrpcService(f"127.0.0.2:{grpc_service.port}")
    except RuntimeError:
        pytest.skip("not run: 127.0.0.2 can't be used here")
    bad.fail = (bad.codes.UNAVAILABLE, "busy")
    instance = make_instance()
    file = instance.folder / "two.toml"
    file.write_text(f'[actions.do]\nurl = ["grpc://127.0.0.1,127.0.0.2:{grpc_service.port}"]\nidempotent = true\n')
    instance.settings |= {"FLEXI_CONFIG": file, "FLEXI_THREADS": "1", "FLEXI_GRPC_CLIENT_SET_ASIDE": "1h", "FLEXI_GRPC_CLIENT_MAX_SET_ASIDE": "1h", "FLEXI_BROKER_CIRCUIT_FAILURES": "0",
                          "FLEXI_BROKER_RETRY_ATTEMPTS": "1"}
    try:
        with instance.start().client() as client:
            codes = [ask(client, {}, via="grpc").status_code for _ in range(60)]
            assert codes.count(503) == len(bad.calls) == 5 and codes[-40:] == [202] * 40, codes
            peer = next(peer for peer in client.get("/system").json()["data"]["peers"] if "127.0.0.2" in peer["peer"])
            assert {row["address"].split(":")[0]: row["state"] for row in peer["addresses"]} == {"127.0.0.1": "used", "127.0.0.2": "set_aside"}
    finally:
        bad.close()


@pytest.mark.parametrize("via, ack", [("rpc", "stored"), ("auto", "stored"), ("amqp", "stored"), ("amqp", "accepted")])
def test_an_rpc_service(make_instance, rpc_service, with_token, via, ack):
    instance = make_instance(settings={"FLEXI_ACTIONS_DO_URL": rpc_service.url} | with_token).start()
    with instance.client() as client:
        response = ask(client, {"a": "größer"}, via=via, ack=ack, headers=as_administrator())
        body = envelope(response, 202)
        call = rpc_service.seen()
        assert call["action"] == "do" and json.loads(call["payload"]) == {"a": "größer"} and call["id"] == response.headers["x-flexi-id"]
        assert call["traceparent"].split("-")[1] == TRACE.split("-")[1]
        assert call["authorization"] == "", "the administrator's token is ours"
        if ack == "stored":
            assert body["message"] == "echoed" and body["data"] == {"a": "größer"}
        eventually(lambda: client.get("/system").json()["data"]["queue"]["depth"] == 0, "done")
        assert rpc_service.lines.empty(), "once"


def test_an_rpc_service_that_refuses(make_instance, rpc_service):
    instance = make_instance(settings={"FLEXI_ACTIONS_DO_URL": rpc_service.url} | QUICK_RETRIES).start()
    with instance.client() as client:
        assert envelope(ask(client, {"how": "refuse"}, via="rpc"), 400)["message"] == "refused as told"
        envelope(ask(client, {"how": "refuse"}, via="amqp", ack="accepted"), 202)
        letter = eventually(lambda: client.get("/dlq").json()["data"], "a dead letter")[0]
        assert letter["attempts"] == 1 and "refused as told" in letter["reason"]


def test_one_of_each_with_fallback(make_instance, grpc_service, rpc_service):
    """`auto` takes http first; when that is gone the next, and says so."""
    service = Service()
    settings = {"FLEXI_ACTIONS_DO_URL": f"{service.url},{grpc_service.url},{rpc_service.url}"} | QUICK_RETRIES
    with make_instance(settings=settings).start().client() as client:
        for via in ("http", "grpc", "rpc"):
            response = ask(client, {}, via=via)
            envelope(response, 202)
            assert response.headers["x-flexi-way"] == via
        assert ask(client, {}).headers["x-flexi-way"] == "http"
        service.close()
        response = ask(client, {})
        assert envelope(response, 202)["message"] == "did do"
        assert response.headers["x-flexi-way"] == "grpc;fallback-from=http"
        grpc_service.close()
        response = eventually(lambda: (answer := ask(client, {})).status_code == 202 and answer, "the last is found")
        assert response.headers["x-flexi-way"] == "rpc;fallback-from=http"
        envelope(ask(client, {"by": "queue"}, via="amqp", ack="accepted"), 202)
        eventually(lambda: "queue" in rpc_service.seen()["payload"], "the listener finds it too")


# --- a consumer of the user's own

def test_a_consumer_of_rabbitmqs_queue(make_instance, vhost, unique):
    import pika

    settings = {"FLEXI_ACTIONS_DO_URL": "amqp:action.do", "FLEXI_ACTIONS_DO_ACK": "accepted", "FLEXI_AMQP_URL": vhost.url}
    with make_instance(settings=settings).start().client() as client:
        response = eventually(lambda: (answer := ask(client, {"n": 1}, headers={"Idempotency-Key": unique})).status_code == 202 and answer, "RabbitMQ takes it", seconds=60)
        assert envelope(response, 202)["message"] == "queued"
        message = envelope(ask(client, {}, via="amqp", ack="stored"), 400)["message"]
        assert "accepted" in message
        connection = pika.BlockingConnection(pika.URLParameters(vhost.url))
        channel = connection.channel()
        method, properties, body = eventually(lambda: (got := channel.basic_get("flexi.action.do"))[0] and got, "the message is in their queue")
        assert json.loads(body) == {"n": 1} and properties.message_id == response.headers["x-flexi-id"] and properties.delivery_mode == 2
        channel.basic_ack(method.delivery_tag)
        envelope(ask(client, {"n": 2}), 202)
        queue = eventually(lambda: next((row for row in client.get("/system").json()["data"]["queue"].get("queues", []) if row["queue"] == "flexi.action.do" and row["messages"] == 1), None),
                           "it waits for their consumer: nothing of ours takes it")
        assert queue["consumers"] == 0
        connection.close()


def test_without_rabbitmq_there_is_no_such_consumer(tmp_path):
    from conftest import run_cli

    (tmp_path / "flexi.toml").write_text('[actions.do]\nurl = "amqp:action.do"\nack = "accepted"\n')
    checked = run_cli("check-config", "--config", tmp_path / "flexi.toml", cwd=tmp_path)
    assert checked.returncode == 1 and "actions.do.url" in checked.stderr and "RabbitMQ" in checked.stderr
