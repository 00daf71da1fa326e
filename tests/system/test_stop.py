# SPDX-License-Identifier: Apache-2.0
"""SIGTERM and SIGINT: while somebody reads the live log, and while requests do not end."""

import pathlib
import signal
import socket
import time

import pytest
from conftest import envelope, eventually, post_log


class Tail:
    """A reader of GET /logs/tail that has seen an entry, so that the stream is really open."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        self.socket.sendall(b"GET /logs/tail HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.received = b""

    def read_until(self, wanted):
        while wanted not in self.received:
            chunk = self.socket.recv(65536)
            assert chunk, f"it ended before {wanted!r} came: {self.received!r}"
            self.received += chunk

    def read_to_end(self):
        while chunk := self.socket.recv(65536):
            self.received += chunk
        return self.received


@pytest.mark.parametrize("readers", [1, 20])
def test_an_open_tail_does_not_hold_up_a_stop(make_instance, readers):
    instance = make_instance(settings={"FLEXI_STOP_GRACE": "8s"}).start()
    tails = [Tail(instance.port) for _ in range(readers)]
    for tail in tails:
        tail.read_until(b"\r\n\r\n")
    with instance.client() as client:
        envelope(post_log(client, "tailed", "before the stop", via="inproc"), 202)
    for tail in tails:
        tail.read_until(b"before the stop")
    began = time.monotonic()
    instance.terminate()  # fails unless it exits with 0
    assert time.monotonic() - began < 6, "a tail never ends by itself: it is ended, not waited for"
    for tail in tails:
        head, body = tail.read_to_end().split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 200")
        assert body.endswith(b"\n\n") and body.count(b"data:") == 1, body


def test_a_tail_that_nobody_reads_does_not_hold_up_a_stop_either(make_instance):
    instance = make_instance(settings={"FLEXI_STOP_GRACE": "2s"}).start()
    tail = Tail(instance.port)
    tail.read_until(b"\r\n\r\n")
    with instance.client() as client:
        for number in range(300):  # more than the socket's buffers hold
            envelope(post_log(client, "tailed", f"{number} " + "x" * 60000, via="inproc", ack="stored"), 202)
    instance.terminate()


# --- requests that do not end

def listening(instance):
    """Transport to address."""
    with instance.client() as client:
        found = {entry["via"]: entry["endpoint"].split("://", 1)[1].rsplit(":", 1) for entry in envelope(client.get("/system"), 200)["data"]["listening"]}
    assert set(found) == {"http", "grpc", "rpc"}
    return {via: (host, int(port)) for via, (host, port) in found.items()}


def half_sent_http(address):
    connection = socket.create_connection(address, 20)
    connection.sendall(b"POST /handle HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    return connection


def half_sent_grpc(address):
    """A call whose message does not come to its end. Source: RFC 9113 section 4.1, RFC 7541 appendix A"""
    connection = socket.create_connection(address, 20)

    def frame(kind, flags, stream, payload):
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    def text(value):
        return bytes([len(value)]) + value

    path = b"/logs.LogService/WriteLog"
    headers = b"\x83\x86\x04" + text(path) + b"\x01" + text(b"localhost") + b"\x0f\x10" + text(b"application/grpc") + b"\x00" + text(b"te") + text(b"trailers")
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, headers) + frame(0, 0, 1, b"\0\0\0\0\x64half"))
    # Its answer to a ping says that it has read all that.
    connection.sendall(frame(6, 0, 0, b"12345678"))
    received = b""
    while frame(6, 1, 0, b"12345678") not in received:
        chunk = connection.recv(65536)
        assert chunk, received
        received += chunk
    return connection


def refuses(address):
    try:
        socket.create_connection(address, 5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it waited to be accepted when the port closed
        return False
    return False


def held(make_instance, grace):
    instance = make_instance(settings={"FLEXI_STOP_GRACE": grace}).start()
    addresses = listening(instance)
    return instance, addresses, [half_sent_http(addresses["http"]), half_sent_grpc(addresses["grpc"])]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_all_transports_stop_at_once_and_share_the_grace(make_instance, how):
    instance, addresses, connections = held(make_instance, "4s")
    began = time.monotonic()
    instance.process.send_signal(how)
    eventually(lambda: all(refuses(address) for address in addresses.values()), "no port accepts a connection", seconds=3)
    assert instance.running(), "the requests under way have their time"
    code = instance.process.wait(10)
    took = time.monotonic() - began
    assert code == 0 and 3.5 < took < 4 + 3, f"exit code {code} after {took:.1f} s"
    for connection in connections:
        connection.close()


def test_a_second_signal_waits_for_nobody(make_instance):
    instance, addresses, connections = held(make_instance, "60s")
    instance.process.send_signal(signal.SIGTERM)
    eventually(lambda: all(refuses(address) for address in addresses.values()), "no port accepts a connection", seconds=3)
    instance.process.send_signal(signal.SIGTERM)
    assert instance.process.wait(5) == 0, "it ends at once, and cleanly all the same"
    assert "second signal" in instance.log()
    for connection in connections:
        connection.close()


def test_a_kill_leaves_no_shared_memory_behind(make_instance):
    instance = make_instance().start()
    assert pathlib.Path("/dev/shm").is_dir()
    instance.kill()
    assert not list(pathlib.Path("/dev/shm").glob(f"*{instance.process.pid}*")), "MongoDB's driver makes some when it is loaded"
