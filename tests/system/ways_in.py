# SPDX-License-Identifier: Apache-2.0
"""The broker asked over each transport, with nothing of ours: httpx, grpcio, pika, and Cap'n Proto's own library."""

import dataclasses
import importlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import uuid

import httpx
from conftest import BINARY, ROOT

GRPC_KINDS = {"INVALID_ARGUMENT": "invalid_argument", "UNAUTHENTICATED": "unauthenticated", "PERMISSION_DENIED": "permission_denied", "NOT_FOUND": "not_found",
              "ALREADY_EXISTS": "conflict", "RESOURCE_EXHAUSTED": "overloaded", "UNAVAILABLE": "unavailable", "DEADLINE_EXCEEDED": "deadline_exceeded",
              "CANCELLED": "cancelled", "UNIMPLEMENTED": "unimplemented", "INTERNAL": "internal"}
SECONDS = 55  # passwords are hashed behind everything else: on a busy machine a log-in waits


@dataclasses.dataclass
class Answer:
    ok: bool
    message: str
    kind: str = ""  # of an error
    way: str = ""
    data: object = None
    duplicate: bool = False

    @property
    def way_name(self):
        return self.way.split(";")[0]


class Http:
    name = "http"

    def __init__(self, instance):
        self.client = httpx.Client(base_url=instance.url, timeout=SECONDS + 5, trust_env=False)

    def call(self, action, payload, via, ack, key):
        response = self.client.post("/handle", json={"action": action, "via": via, "ack": ack, action: payload}, headers={"Idempotency-Key": key, "X-Flexi-Timeout-Ms": str(SECONDS * 1000)})
        body = response.json()
        return Answer(response.status_code == 202, body["message"], response.headers.get("x-flexi-error", ""), response.headers.get("x-flexi-way", ""), body.get("data"),
                      response.headers.get("x-flexi-duplicate") == "true")

    def close(self):
        self.client.close()


def generated_grpc():
    """Python's classes of schemas/flexiconnect/v1, generated once."""
    if "flexiconnect.v1.flexiconnect_pb2" not in sys.modules:
        import grpc_tools.protoc

        out = tempfile.mkdtemp(prefix="flexi-grpc-")
        files = ["flexiconnect/v1/flexiconnect.proto", "google/rpc/status.proto"]
        well_known = str(pathlib.Path(grpc_tools.protoc.__file__).parent / "_proto")
        assert grpc_tools.protoc.main(["protoc", f"-I{ROOT / 'schemas'}", f"-I{well_known}", "-I/usr/include", f"--python_out={out}", f"--grpc_python_out={out}", *files]) == 0
        sys.path.insert(0, out)
    return importlib.import_module("flexiconnect.v1.flexiconnect_pb2"), importlib.import_module("flexiconnect.v1.flexiconnect_pb2_grpc")


class Grpc:
    name = "grpc"

    def __init__(self, endpoint):
        import grpc

        self.grpc = grpc
        self.messages, services = generated_grpc()
        self.channel = grpc.insecure_channel(endpoint.removeprefix("grpc://"), options=[("grpc.enable_http_proxy", 0)])
        self.broker = services.BrokerStub(self.channel)

    def call(self, action, payload, via, ack, key):
        m = self.messages
        request = m.HandleRequest(action=action, via=m.Via.Value(f"VIA_{via.upper()}"), ack=m.Ack.Value(f"ACK_{ack.upper()}"), id=key)
        if action == "log":
            request.log.CopyFrom(m.LogEntry(**payload))
        elif action == "mail":
            request.mail.CopyFrom(m.Email(**payload))
        elif action == "auth":
            request.credentials.CopyFrom(m.Credentials(**payload))
        else:
            request.json = json.dumps(payload)
        try:
            reply = self.broker.Handle(request, timeout=SECONDS)
        except self.grpc.RpcError as error:
            return Answer(False, error.details(), GRPC_KINDS.get(error.code().name, error.code().name))
        return Answer(True, reply.message, "", reply.way, json.loads(reply.data) if reply.data else None, reply.duplicate)

    def close(self):
        self.channel.close()


class Rpc:
    name = "rpc"

    def __init__(self, endpoint):
        tool = BINARY.parent / "rpc_call"
        assert tool.exists(), f"{tool} is not there: it is built with the tests"
        self.process = subprocess.Popen([str(tool), endpoint.removeprefix("rpc://")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, action, payload, via, ack, key):
        self.process.stdin.write(json.dumps({"action": action, "payload": payload, "via": via, "ack": ack, "id": key, "timeout_ms": SECONDS * 1000}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if not answer["ok"]:
            kind = "".join("_" + letter.lower() if letter.isupper() else letter for letter in answer["kind"])
            return Answer(False, answer["message"], kind)
        return Answer(True, answer["message"], "", answer["way"], json.loads(answer["data"]) if answer["data"] else None, answer["duplicate"])

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


class Amqp:
    """Publishes to flexi.requests and reads the answer from a reply queue of its own."""

    name = "amqp"

    def __init__(self, url):
        import pika

        self.pika = pika
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        self.replies = self.channel.queue_declare("", exclusive=True).method.queue

    def call(self, action, payload, via, ack, key):
        correlation = uuid.uuid4().hex
        body = json.dumps({"action": action, "via": via, "ack": ack, action: payload}).encode()
        properties = self.pika.BasicProperties(reply_to=self.replies, correlation_id=correlation, message_id=key, delivery_mode=2, headers={"x-flexi-timeout-ms": SECONDS * 1000})
        self.channel.basic_publish("", "flexi.requests", body, properties, mandatory=True)
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            method, got, content = self.channel.basic_get(self.replies, auto_ack=True)
            if method is None:
                self.connection.process_data_events(time_limit=0.01)
                continue
            if got.correlation_id != correlation:
                continue
            headers = {name: value.decode() if isinstance(value, bytes) else value for name, value in (got.headers or {}).items()}
            answer = json.loads(content)
            return Answer(not answer["error"], answer["message"], headers.get("x-flexi-error", ""), headers.get("x-flexi-way", ""), answer.get("data"),
                          str(headers.get("x-flexi-duplicate", "")).lower() == "true")
        raise AssertionError(f"no answer within {SECONDS} s")

    def close(self):
        self.connection.close()


def all_ways_in(instance, amqp_url=None):
    """One caller for each transport that the instance listens on."""
    with instance.client() as client:
        listening = {row["via"]: row["endpoint"] for row in client.get("/system").json()["data"]["listening"]}
    made = [Http(instance)]
    if "grpc" in listening:
        made.append(Grpc(listening["grpc"]))
    if "rpc" in listening:
        made.append(Rpc(listening["rpc"]))
    if amqp_url:
        made.append(Amqp(amqp_url))
    return made
