# SPDX-License-Identifier: Apache-2.0
"""What the proxy does while the processes behind it come, go and break."""

import collections
import socket
import threading
import time

import httpx
import pytest
from edge import cannot_send_again
from fixtures import make_caddy  # noqa: F401  fixture
from parts import Part, eventually


class Broker(Part):
    """One of several at the same port of other addresses, as tasks of one service are."""

    def __init__(self, folder, address, port):
        super().__init__("broker", folder, {"FLEXI_HTTP_LISTEN": f"{address}:{port}", "FLEXI_PEERS_LOGGER": "http://127.0.0.1:1"}, name=address)

    def requests(self):
        return self.metric("flexi_http_requests_total")


class Breaker:
    """Takes a request whole, then ends the connection without a word."""

    def __init__(self, address, port):
        self.taken = collections.Counter()  # by method
        self.socket = socket.create_server((address, port))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection = self.socket.accept()[0]
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                head = b""
                while b"\r\n\r\n" not in head and (chunk := connection.recv(65536)):
                    head += chunk
                if head:
                    self.taken[head.split(b" ", 1)[0].decode()] += 1

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Asking:
    """Requests at a steady rate, whatever the answers take; `.statuses` counts them."""

    def __init__(self, caddy, method, path, every=0.02):
        self.caddy, self.method, self.path, self.every = caddy, method, path, every
        self.statuses, self.ended, self.threads = collections.Counter(), threading.Event(), []

    def ask(self, client):
        try:
            status = client.request(self.method, self.path).status_code
        except httpx.HTTPError as error:
            status = repr(error)
        self.statuses[status] += 1

    def run(self):
        with self.caddy.client(limits=httpx.Limits(max_connections=200)) as client:
            asking = []
            while not self.ended.wait(self.every):
                asking.append(threading.Thread(target=self.ask, args=(client,)))
                asking[-1].start()
            for each in asking:
                each.join()

    def __enter__(self):
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def wait_for(self, count):
        until = self.statuses.total() + count
        eventually(lambda: self.statuses.total() >= until, f"{count} more answers", seconds=30, interval=0.02)


@pytest.fixture
def make_broker(tmp_path):
    made = []

    def make(address, port):
        made.append(Broker(tmp_path, address, port))
        return made[-1].start()

    yield make
    for each in made:
        each.close()


@pytest.fixture
def before(make_caddy):  # noqa: F811
    """Caddy before the addresses that a name has: (caddy, port of the upstreams)."""

    def make(*addresses, **settings):
        caddy = make_caddy({"BROKER_HOST": "broker-service"} | settings, addresses)
        port = caddy.ports.take()
        caddy.environment["BROKER_PORT"] = str(port)
        return caddy, port

    return make


@pytest.mark.parametrize("method, path", [("GET", "/ping"), ("POST", "/")])
def test_a_broker_that_is_stopped_and_started_again_fails_nobody(before, make_broker, method, path):
    caddy, port = before("127.0.0.2")
    broker = make_broker("127.0.0.2", port)
    caddy.start()
    with Asking(caddy, method, path) as load:
        load.wait_for(30)
        for _ in range(2):
            broker.terminate()
            time.sleep(0.3)
            broker.start()
            load.wait_for(30)
    assert set(load.statuses) == {200}, load.statuses


def test_two_brokers_are_rolled_and_nobody_is_failed(before, make_broker):
    caddy, port = before("127.0.0.2", "127.0.0.3")
    brokers = [make_broker(address, port) for address in ("127.0.0.2", "127.0.0.3")]
    caddy.start()
    with Asking(caddy, "POST", "/", every=0.01) as load:
        for broker in brokers:
            load.wait_for(50)
            broker.terminate()
            load.wait_for(50)
            broker.start()
    assert set(load.statuses) == {200}, load.statuses


def test_a_killed_broker_costs_no_idempotent_request(before, make_broker):
    caddy, port = before("127.0.0.2", "127.0.0.3")
    first, _ = [make_broker(address, port) for address in ("127.0.0.2", "127.0.0.3")]
    caddy.start()
    with Asking(caddy, "GET", "/ping") as load:
        load.wait_for(50)
        first.kill()
        load.wait_for(100)
    assert set(load.statuses) == {200}, load.statuses


def test_what_scales_is_followed(before, make_broker):
    caddy, port = before("127.0.0.2")
    brokers = [make_broker(address, port) for address in ("127.0.0.2", "127.0.0.3", "127.0.0.4")]
    caddy.start()
    with Asking(caddy, "GET", "/ping") as load:
        load.wait_for(50)
        assert brokers[1].requests() == brokers[2].requests() == 0
        caddy.dns.addresses += ["127.0.0.3", "127.0.0.4"]
        eventually(lambda: min(broker.requests() for broker in brokers) > 30, "all have a share", seconds=10)
        caddy.dns.addresses.remove("127.0.0.2")
        time.sleep(3)
        left = brokers[0].requests()
        load.wait_for(50)
        assert brokers[0].requests() == left + 1, "but for the reading of its metrics, the one that was taken out is asked no more"
    assert set(load.statuses) == {200}, load.statuses


def test_what_a_broken_connection_may_have_taken_is_not_sent_again(before, make_broker):
    caddy, port = before("127.0.0.2")
    breaker = Breaker("127.0.0.2", port)
    caddy.start()
    try:
        breaker.taken.clear()
        with caddy.client() as client:
            for method, path in (("POST", "/handle"), ("PUT", "/users/1"), ("DELETE", "/dlq/1")):
                answer = client.request(method, path, json={"action": "log"} if method != "DELETE" else None)
                assert answer.status_code == 502 and answer.json()["error"] is True and answer.headers["retry-after"] == "1"
                assert breaker.taken[method] == 1, "sent once"
    finally:
        breaker.close()


def test_what_does_no_harm_is_sent_to_another(before, make_broker):
    caddy, port = before("127.0.0.2", "127.0.0.3")
    breaker = Breaker("127.0.0.2", port)
    make_broker("127.0.0.3", port)
    caddy.start()
    try:
        with caddy.client() as client:
            assert {client.get("/ping").status_code for _ in range(20)} == {200}
            assert breaker.taken["GET"] > 3, "it was tried there, too"
    finally:
        breaker.close()


def test_a_body_goes_on_to_the_next_address_whole(before, make_broker):
    """A connection that was never made has taken nothing: any method goes on. Caddy 2.6 closes a body at the first try: its callers are told."""
    caddy, port = before("127.0.0.7", "127.0.0.8", "127.0.0.3")
    broker = make_broker("127.0.0.3", port)
    caddy.start()
    body = {"action": "log", "ack": "accepted", "log": {"name": "whole", "data": "x" * 200_000}}
    with caddy.client() as client:
        answers = [client.post("/handle", json=body) for _ in range(6)]
    statuses = collections.Counter(answer.status_code for answer in answers)
    assert set(statuses) <= ({202, 502} if cannot_send_again() else {202}), statuses
    assert all(answer.json()["error"] is True for answer in answers if answer.status_code == 502)
    assert broker.metric("flexi_queue_published_total") == statuses[202], "what was refused has not arrived, nor a part of it"


def test_nobody_there_is_an_answer_in_the_contracts_form(before):
    caddy, _ = before("127.0.0.7", RETRY_FOR="1s")
    caddy.start()
    with caddy.client() as client:
        before_it = time.monotonic()
        answer = client.post("/", headers={"Origin": "https://page.example"})
        assert 0.9 < time.monotonic() - before_it < 4
    assert answer.status_code == 502 and set(answer.json()) == {"error", "message"} and answer.json()["error"] is True
    assert answer.headers["retry-after"] == "1" and answer.headers["x-flexi-error"] == "unavailable" and answer.headers["x-request-id"]
    assert answer.headers["access-control-allow-origin"] == "https://page.example", "the page can say what happened"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_client_is_told_truly(before):
    """The broker sees whom the proxy got the request from, and nobody's own word on it, unless a trusted proxy says it."""
    heads = {}
    for name, settings in (("stranger", {}), ("trusted", {"TRUSTED_PROXIES": "127.0.0.1/32"})):
        caddy, port = before("127.0.0.2", **settings)
        head = []
        server = socket.create_server(("127.0.0.2", port))
        caddy.can_greet = lambda: True
        caddy.start()

        def answer_one(server=server, head=head):
            connection = server.accept()[0]
            head.append(connection.recv(65536).decode().lower())
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer_one)
        thread.start()
        forged = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Real-IP": "203.0.113.9", "X-Flexi-Client": "203.0.113.9", "X-Flexi-Hops": "a",
                  "X-Flexi-Accepted-At": "2020-01-01T00:00:00Z", "X-Flexi-Process-Key": "k", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}

        def ask(caddy=caddy, forged=forged):
            try:
                with caddy.client() as client:
                    return client.get("/x", headers=forged).status_code
            except httpx.TransportError:  # its certificate is being made
                return None

        eventually(lambda: ask() == 200, "it is asked", seconds=20)
        thread.join()
        server.close()
        heads[name] = dict(line.split(": ", 1) for line in head[0].split("\r\n")[1:] if ": " in line)
    assert heads["stranger"]["x-forwarded-for"] == "127.0.0.1" and heads["stranger"]["x-forwarded-proto"] == "https"
    assert heads["trusted"]["x-forwarded-for"] == "203.0.113.9, 127.0.0.1"
    for name in ("forwarded", "x-real-ip", "x-flexi-client", "x-flexi-hops", "x-flexi-accepted-at", "x-flexi-process-key"):
        assert name not in heads["stranger"] and name not in heads["trusted"], name
    assert heads["stranger"]["traceparent"].startswith("00-aaaa") and heads["stranger"]["x-request-id"]
