# SPDX-License-Identifier: Apache-2.0
"""What other tests stand on: that the server of a test ends with it, and that a gate does what it says."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pika
import pytest

import rabbitmq as rabbit

HERE = pathlib.Path(__file__).parent


def eventually(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(rabbit.why_not() is not None, reason=str(rabbit.why_not()))
@pytest.mark.parametrize("victim", ["parent", "supervisor"])
def test_a_server_ends_with_whoever_started_it_even_when_killed(victim):
    program = f"""
import sys; sys.path.insert(0, {str(HERE)!r})
import rabbitmq, time
server = rabbitmq.Server().begin()
print(server.made["pid"], server.process.pid, server.made["folder"], flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        words = parent.stdout.readline().split()
        assert len(words) == 3, "it did not start"
        server, supervisor = int(words[0]), int(words[1])
        assert alive(server)
        os.kill(parent.pid if victim == "parent" else supervisor, signal.SIGKILL)
        eventually(lambda: not alive(server))
        if victim == "parent":
            eventually(lambda: not alive(supervisor))
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        shutil.rmtree(words[2], ignore_errors=True)


def test_what_was_confirmed_survives_kill_and_stop(own_rabbitmq):
    def channel():
        return pika.BlockingConnection(pika.URLParameters(own_rabbitmq.url)).channel()

    c = channel()
    c.queue_declare("kept", durable=True, arguments={"x-queue-type": "quorum"})
    c.confirm_delivery()
    c.basic_publish("", "kept", b"1", pika.BasicProperties(delivery_mode=2), mandatory=True)
    for end in (own_rabbitmq.kill, own_rabbitmq.stop):
        end()
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            channel()
        own_rabbitmq.start()
    method, _, body = channel().basic_get("kept", auto_ack=False)
    assert body == b"1" and method.redelivered in (False, True)
    own_rabbitmq.disk_alarm(True)
    assert "disk" in own_rabbitmq.eval("rabbit_alarm:get_alarms()")
    own_rabbitmq.disk_alarm(False)
    assert own_rabbitmq.eval("rabbit_alarm:get_alarms()") == "[]"


class Echo:
    """Answers each byte with itself."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.got = b""
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        try:
            while data := peer.recv(65536):
                self.got += data
                peer.sendall(data)
        except OSError:
            pass


@pytest.fixture
def echo():
    server = Echo()
    yield server
    server.listener.close()


def call(s, data):
    s.sendall(data)
    answer = b""
    while len(answer) < len(data):
        more = s.recv(65536)
        assert more, "closed"
        answer += more
    return answer


def test_gate(echo, make_gate):
    gate = make_gate(echo.address)

    def connect():
        return socket.create_connection(("127.0.0.1", gate.port), 10)

    with connect() as s:
        assert call(s, b"x" * 300_000) == b"x" * 300_000
        gate.corrupt(chunks=1)
        assert call(s, b"aaa") == b"a" + bytes([ord("a") ^ 0x55]) + b"a"
        assert call(s, b"aaa") == b"aaa"
        gate.delay(0.3)
        begun = time.monotonic()
        assert call(s, b"b") == b"b"
        assert time.monotonic() - begun >= 0.6, "there and back"
        gate.heal()
        gate.freeze()
        s.settimeout(0.2)
        s.sendall(b"c")
        with pytest.raises(TimeoutError), connect() as other:
            other.settimeout(0.2)
            other.recv(1)
        with pytest.raises(TimeoutError):
            s.recv(1)
        gate.heal()
        s.settimeout(10)
        assert s.recv(1) == b"c"
        gate.freeze("down")
        s.sendall(b"d")
        eventually(lambda: echo.got.endswith(b"d"))
        s.settimeout(0.2)
        with pytest.raises(TimeoutError):
            s.recv(1)
        gate.heal()
        s.settimeout(10)
        assert s.recv(1) == b"d"
        gate.cut()
        with pytest.raises(ConnectionResetError):
            s.recv(1)
    with connect() as s:
        before = len(echo.got)
        gate.cut_after(up=5)
        with pytest.raises((ConnectionResetError, AssertionError)):
            call(s, b"0123456789")
        eventually(lambda: echo.got[before:].endswith(b"01234"))
    gate.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect()
    gate.heal()
    with connect() as s:
        assert call(s, b"again") == b"again"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        away = make_gate(unused.getsockname())
        with pytest.raises(ConnectionResetError), socket.create_connection(("127.0.0.1", away.port), 10) as s:
            s.recv(1)
