# SPDX-License-Identifier: Apache-2.0
"""A 202 is the truth: kill -9 under load, a full disk, a stop under load."""

import collections
import http.client
import json
import os
import random
import resource
import subprocess
import threading
import uuid

import conftest
import pytest
from conftest import all_logs, envelope, eventually, post_log

THREADS = 8


class Load:
    """Threads that post logs, each on a kept connection, and note what became of each request."""

    def __init__(self, instance, ways, with_keys=True, pause_after_refusal=False):
        self.instance = instance
        self.ways = ways
        self.with_keys = with_keys
        self.lock = threading.Lock()
        self.accepted = set()      # answered 202
        self.unanswered = {}       # sent, and no whole answer: marker -> body
        self.refused = []          # another answer
        self.lost = []             # sent on a kept connection that had not announced its end, and no answer came
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(number,), daemon=True) for number in range(THREADS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive(), "a request hangs"

    def run(self, number):
        connection = None
        count = 0
        while not self.stopping.is_set():
            marker = uuid.uuid4().hex
            way = self.ways[(number + count) % len(self.ways)]
            count += 1
            body = json.dumps({"action": "log", **way, "log": {"name": "load", "data": marker}})
            keyed = self.with_keys and number % 2 == 0
            fresh = connection is None
            sent = False
            try:
                if fresh:
                    connection = http.client.HTTPConnection("127.0.0.1", self.instance.port, timeout=30)
                    connection.connect()
                headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": marker} if keyed else {})
                sent = True
                connection.request("POST", "/handle", body, headers)
                response = connection.getresponse()
                text = response.read()
                with self.lock:
                    if response.status == 202:
                        self.accepted.add(marker)
                    else:
                        self.refused.append((response.status, text, marker))
                if response.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                with self.lock:
                    if sent:
                        self.unanswered[marker] = body if keyed else None
                        if not fresh:
                            self.lost.append((marker, repr(error)))
                connection.close()
                connection = None
                if fresh:
                    return  # nobody listens any more


DIRECT = {"via": conftest.DIRECT, "ack": "stored"}
QUEUE = {"via": "amqp"}
QUEUE_STORED = {"via": "amqp", "ack": "stored"}


def stored_markers(client):
    return collections.Counter(entry["data"] for entry in all_logs(client, name="load"))


def test_kill_9_loses_and_doubles_nothing(make_instance):
    instance = make_instance()
    accepted, unanswered = set(), {}
    for _ in range(3):
        instance.start()
        with Load(instance, [DIRECT, QUEUE, QUEUE_STORED]) as load:
            enough = random.randint(150, 600)
            eventually(lambda: len(load.accepted) >= enough, "the load runs", interval=0.002)
            instance.kill()
        assert not load.refused, load.refused[:3]
        accepted |= load.accepted
        unanswered |= load.unanswered

        instance.start()
        with instance.client() as client:
            eventually(lambda: accepted <= stored_markers(client).keys(), "every accepted log is stored", seconds=60, interval=0.2)
            for body, marker in [(body, marker) for marker, body in unanswered.items() if body]:
                envelope(client.post("/handle", content=body, headers={"Content-Type": "application/json", "Idempotency-Key": marker}), 202)
                accepted.add(marker)
                unanswered[marker] = None
            eventually(lambda: accepted <= stored_markers(client).keys(), "every retried log is stored", seconds=60, interval=0.2)
            stored = stored_markers(client)
            assert [marker for marker, count in stored.items() if count != 1] == []
            assert stored.keys() <= accepted | unanswered.keys()
            assert envelope(client.get("/dlq"), 200)["data"] == []
        instance.kill()  # an idle one, too


def test_sigterm_under_load_answers_every_request(make_instance):
    instance = make_instance().start()
    with Load(instance, [DIRECT, QUEUE], with_keys=False) as load:
        eventually(lambda: len(load.accepted) >= 200, "the load runs", interval=0.002)
        instance.terminate()
    assert load.lost == []
    assert not load.refused, load.refused[:3]
    instance.start()
    with instance.client() as client:
        eventually(lambda: load.accepted <= stored_markers(client).keys(), "every accepted log is stored", seconds=60, interval=0.2)
        assert set(stored_markers(client).values()) == {1}


# --- full disk

@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few MiB, where we may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True).returncode == 0
    if not mounted:
        pytest.skip("can't mount a tmpfs here; the file-size limit stands in for it in the next test")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    with (folder / "filler").open("wb", buffering=0) as filler:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    filler.write(bytes(size))
            except OSError:
                pass


def post_until_refused(client, way, text, limit=5000):
    """Markers answered 202, and the first answer that was not one."""
    accepted = []
    for _ in range(limit):
        marker = uuid.uuid4().hex
        response = post_log(client, "full", marker + text, **way)
        if response.status_code != 202:
            return accepted, marker, response
        accepted.append(marker)
    pytest.fail("the disk never got full")


@pytest.mark.parametrize("way", [DIRECT, QUEUE, QUEUE_STORED], ids=["direct", "queue", "queue-stored"])
def test_a_full_disk_is_503_and_recovers(make_instance, small_disk, way):
    instance = make_instance(data_dir=small_disk / "data").start()
    with instance.client() as client:
        envelope(post_log(client, "full", "before", **way), 202)
        fill(small_disk)
        accepted, refused, response = post_until_refused(client, way, "x" * 20000)
        assert envelope(response, 503)["error"] is True
        assert response.headers["x-flexi-error"] == "unavailable"
        for _ in range(3):
            envelope(post_log(client, "full", "still full" + "x" * 20000, **way), 503)
        assert client.get("/ping").status_code == 200

        (small_disk / "filler").unlink()
        after = eventually(lambda: (lambda r: r.status_code == 202 and r)(post_log(client, "full", "after", **way)), "it recovers")
        envelope(after, 202)
        found = lambda: {entry["data"][:32] for entry in all_logs(client, name="full")}
        eventually(lambda: set(accepted) <= found(), "what was accepted is stored", seconds=60, interval=0.2)
        assert refused not in found()
    instance.kill()
    instance.start()
    with instance.client() as client:
        counted = collections.Counter(entry["data"][:32] for entry in all_logs(client, name="full"))
        assert all(counted[marker] == 1 for marker in accepted)


@pytest.mark.parametrize("way", [DIRECT, QUEUE], ids=["direct", "queue"])
def test_a_file_size_limit_is_503_too(make_instance, way):
    limit = 4 << 20
    instance = make_instance(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))).start()
    with instance.client() as client:
        accepted, refused, response = post_until_refused(client, way, "x" * 50000)
        envelope(response, 503)
        assert client.get("/ping").status_code == 200
        resource.prlimit(instance.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        eventually(lambda: post_log(client, "full", "after", **way).status_code == 202, "it recovers")
        found = lambda: {entry["data"][:32] for entry in all_logs(client, name="full")}
        eventually(lambda: set(accepted) <= found(), "what was accepted is stored", seconds=60, interval=0.2)


def test_two_processes_never_share_a_data_folder(make_instance):
    first = make_instance().start()
    second = make_instance(data_dir=first.data_dir)
    with pytest.raises(pytest.fail.Exception):
        second.start()
    assert second.process.wait(10) != 0
    assert str(first.data_dir) in second.log() or "data" in second.log()
    with first.client() as client:
        envelope(client.post("/"), 200)


def test_an_unwritable_data_folder_is_told_at_start(make_instance, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    instance = make_instance(data_dir=blocker / "data")
    with pytest.raises(pytest.fail.Exception):
        instance.start()
    assert instance.process.wait(10) not in (0, -6, -11)
    assert "file" in instance.log()
