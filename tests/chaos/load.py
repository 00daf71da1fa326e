# SPDX-License-Identifier: Apache-2.0
"""Clients that post logs whatever happens, and remember what they were told."""

import collections
import http.client
import json
import threading
import time
import uuid

from parts import eventually


class Load:
    """`with Load(system.broker) as load: …`; each thread on a kept connection, through the broker's gate or not."""

    def __init__(self, broker, threads=4, fields=None, size=0, pause=0.0):
        self.broker, self.fields, self.size, self.pause = broker, fields or {"via": "amqp"}, size, pause
        self.lock = threading.Lock()
        self.sent, self.accepted = set(), set()
        self.open = {}  # sent, and not known whether it was taken: marker -> body
        self.answers = collections.Counter()
        self.ways = collections.Counter()
        self.refusals = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]

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

    def body(self, marker):
        return json.dumps({"action": "log", **self.fields, "id": marker, "log": {"name": "load", "data": marker + " " + "x" * self.size}})

    def note(self, marker, response, text):
        with self.lock:
            self.answers[response.status] += 1
            if response.status == 202:
                self.accepted.add(marker)
                self.ways[response.getheader("X-Flexi-Way")] += 1
            else:
                self.refusals.append((response.status, text))
                # "certainly not stored" may be sent again like any other.
                self.open[marker] = self.body(marker)

    def run(self):
        connection = None
        while not self.stopping.is_set():
            marker = uuid.uuid4().hex
            try:
                if not connection:
                    connection = http.client.HTTPConnection("127.0.0.1", int(self.broker.url.rsplit(":", 1)[1]), timeout=40)
                    connection.connect()
                with self.lock:
                    self.sent.add(marker)
                connection.request("POST", "/handle", self.body(marker), {"Content-Type": "application/json"})
                response = connection.getresponse()
                self.note(marker, response, response.read())
                if response.status != 202:
                    self.stopping.wait(0.05)  # a client that is refused does not hammer
                if self.pause:
                    self.stopping.wait(self.pause)
                if response.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException):
                with self.lock:
                    if marker in self.sent:
                        self.open[marker] = self.body(marker)
                if connection:
                    connection.close()
                connection = None
                self.stopping.wait(0.05)

    def settle(self, broker):
        """What is not known to be taken is sent again under its id, as a careful client does, until it is."""
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
