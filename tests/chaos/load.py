# SPDX-License-Identifier: Apache-2.0
"""Clients that post logs or mails whatever happens, and remember what they were told."""

import collections
import http.client
import json
import threading
import time
import uuid

from parts import eventually


class Load:
    """`with Load(system.broker) as load: …`; each thread on a kept connection. Every second one gives no ids, so that the broker does: the
    store can't tell a copy under another id from a new entry, but the marker in what is sent can."""

    action = "log"

    def __init__(self, broker, threads=4, fields=None, size=0, pause=0.0):
        self.broker, self.fields, self.size, self.pause = broker, fields or {"via": "amqp"}, size, pause
        self.lock = threading.Lock()
        self.sent, self.accepted = set(), set()
        self.open = {}  # sent with an id, and not known whether it was taken: marker -> body
        self.answers = collections.Counter()
        self.ways = collections.Counter()
        self.refusals = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(number % 2 == 0,), daemon=True) for number in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a request hangs"

    def wait_for(self, count, seconds=60):
        """So many more than now are accepted."""
        goal = len(self.accepted) + count
        eventually(lambda: len(self.accepted) >= goal, f"{count} more are accepted; answers: {self.answers}; {self.refusals[-3:]}", seconds, 0.01)

    def payload(self, marker):
        return {"name": "load", "data": marker + " " + "x" * self.size}

    def body(self, marker, named):
        return json.dumps({"action": self.action, **self.fields, **({"id": marker} if named else {}), self.action: self.payload(marker)})

    def note(self, marker, body, named, response, text):
        with self.lock:
            self.answers[response.status] += 1
            if response.status == 202:
                self.accepted.add(marker)
                self.ways[response.getheader("X-Flexi-Way")] += 1
                return
            self.refusals.append((response.status, text))
            if named:
                self.open[marker] = body

    def run(self, named):
        connection = None
        while not self.stopping.is_set():
            marker = uuid.uuid4().hex
            body = self.body(marker, named)
            try:
                if not connection:
                    connection = http.client.HTTPConnection("127.0.0.1", int(self.broker.url.rsplit(":", 1)[1]), timeout=40)
                    connection.connect()
                with self.lock:
                    self.sent.add(marker)
                connection.request("POST", "/handle", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                self.note(marker, body, named, response, response.read())
                if response.status != 202:
                    self.stopping.wait(0.05)  # a client that is refused does not hammer
                if self.pause:
                    self.stopping.wait(self.pause)
                if response.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException):
                with self.lock:
                    if marker in self.sent and named:
                        self.open[marker] = body
                if connection:
                    connection.close()
                connection = None
                self.stopping.wait(0.05)

    def settle(self, broker):
        """What is not known to be taken is sent again under its id, as a careful client does, until it is. What has no id is not: it may
        be stored or not, but never twice."""
        deadline = time.monotonic() + 120
        with broker.client() as client:
            for marker, body in list(self.open.items()):
                while True:
                    answer = client.post("/handle", content=body, headers={"Content-Type": "application/json"})
                    if answer.status_code == 202:
                        break
                    assert answer.status_code in (429, 503, 504) and time.monotonic() < deadline, answer.text
                    time.sleep(0.1)
                self.accepted.add(marker)
                del self.open[marker]


class MailLoad(Load):
    action = "mail"

    def payload(self, marker):
        return {"to": "you@example.com", "subject": marker, "message": "Hello"}
