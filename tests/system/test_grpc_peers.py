# SPDX-License-Identifier: Apache-2.0
"""gRPC peers of others: grpc++ in both roles, the gRPC project's interoperability cases in Go, grpcurl."""

import json
import socket
import subprocess

import pytest

import grpc_peers
from conftest import eventually

CASES = ["empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream", "custom_metadata", "status_code_and_message",
         "special_status_message", "unimplemented_method", "unimplemented_service", "cancel_after_begin", "cancel_after_first_response", "timeout_on_sleeping_server"]


def tool(name):
    binary, reason = grpc_peers.go_tool(name)
    if reason:
        pytest.skip(reason)
    return binary


@pytest.fixture(scope="module")
def server():
    with grpc_peers.test_server("--test-service") as program:
        yield program


# --- the gRPC project's interoperability cases ---


@pytest.fixture(scope="module")
def go_server():
    binary = tool("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([binary, f"--port={port}", "--use_tls=false"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def listens():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        eventually(listens, "the interoperability server listens")
        yield f"grpc://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("case", CASES)
def test_the_projects_client_finds_our_server_right(server, case):
    host, port = server.target.rsplit(":", 1)
    done = subprocess.run([tool("client"), f"--server_host={host}", f"--server_port={port}", "--use_tls=false", f"--test_case={case}"],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("case", CASES)
def test_our_client_is_right_with_the_projects_server(go_server, case):
    grpc_peers.interop_with_our_client(go_server, case)


@pytest.mark.parametrize("case", CASES)
def test_our_client_is_right_with_our_server(server, case):
    grpc_peers.interop_with_our_client(server.endpoint, case)


# --- grpc++ ---


needs_grpcpp = pytest.mark.skipif(not (grpc_peers.BUILD / "grpcpp_peer").exists(), reason="not run: grpc++ was not there when the tests were built (package libgrpc++-dev)")


@needs_grpcpp
def test_a_grpcpp_client_uses_every_kind_of_call(server):
    done = subprocess.run([str(grpc_peers.BUILD / "grpcpp_peer"), "client", server.target, "200"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def grpcpp_server():
    with grpc_peers.Program(grpc_peers.BUILD / "grpcpp_peer", "server") as peer:
        yield peer.endpoint


@needs_grpcpp
def test_our_client_uses_a_grpcpp_server():
    with grpc_peers.Program(grpc_peers.BUILD / "grpcpp_peer", "server") as peer:
        call = lambda *arguments: grpc_peers.call(peer.endpoint, *arguments)  # noqa: E731
        assert call("log", {"name": "n", "data": "x" * 50_000}, "--id", "mine-1")["message"] == "logged n of 50000 bytes as mine-1"
        for case in ("contract_log", "contract_bulk"):
            grpc_peers.interop_with_our_client(peer.endpoint, case)
        assert call("large", {})["data"] == "y" * 3_000_000
        outcome = call("rich", {})
        assert (outcome["kind"], outcome["message"], outcome["retry_after_ms"]) == ("unavailable", "come again", 2500)
        assert call("no such", {})["kind"] == "unimplemented"
        assert call("mail", {"to": "t", "subject": "s", "message": "m"})["kind"] == "unimplemented"
        assert call("wait", {}, "--timeout-ms", "200")["kind"] == "deadline_exceeded"
        eventually(lambda: call("cancelled", {})["data"] == 1, "the service hears that the caller left")
        assert call("logs.tail", {}, "--events", "500")["events"] == list(range(500))


@needs_grpcpp
@pytest.mark.parametrize("case", CASES)
def test_our_client_is_right_with_a_grpcpp_server(grpcpp_server, case):
    grpc_peers.interop_with_our_client(grpcpp_server, case)


# --- grpcurl, as docs/grpc.md shows it ---


def test_grpcurl_learns_the_services_and_calls_them(server):
    binary = tool("grpcurl")

    def grpcurl(*arguments, code=0):
        done = subprocess.run([str(binary), "-plaintext", *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    assert "logs.LogService" in grpcurl(server.target, "list").split()
    assert "rpc WriteLog ( .logs.LogRequest ) returns ( .logs.LogResponse );" in grpcurl(server.target, "describe", "logs.LogService")
    request = json.dumps({"logEntry": {"name": "event", "data": "Some kind of data"}})
    assert json.loads(grpcurl("-d", request, server.target, "logs.LogService/WriteLog")) == {"result": "logged!"}
    reply = json.loads(grpcurl("-H", "idempotency-key: curl-1", "-d", '{"log": {"name": "event", "data": "d"}}', server.target, "flexiconnect.v1.Broker/Handle"))
    assert reply == {"message": "logged", "id": "curl-1"}
    numbered = "\n".join(json.dumps({"sequence": n, "entry": {"name": "n", "data": str(n)}}) for n in range(20))
    lines = grpcurl("-d", numbered, server.target, "flexiconnect.v1.Logger/WriteLogs")
    assert lines.count('"message": "logged"') == 20
    assert "Code: Unauthenticated" in grpcurl("-d", '{"email": "a", "password": "b"}', server.target, "flexiconnect.v1.Authentication/Authenticate", code=64 + 16)
    assert "SERVING" in grpcurl(server.target, "grpc.health.v1.Health/Check")
