# SPDX-License-Identifier: Apache-2.0
"""SIGTERM while somebody reads the live log."""

import socket
import time

import pytest
from conftest import envelope, post_log


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
