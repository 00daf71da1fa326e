# SPDX-License-Identifier: Apache-2.0
"""A data folder of the first format: the program of today reads it, finishes what was under way in it, and its ledger adds up."""

import pathlib
import sqlite3

import pytest
from conftest import EXAMPLE_USER, all_logs, envelope, eventually, run_cli

FIRST_FORMAT = (pathlib.Path(__file__).parent / "data/first_format.sql").read_text()
QUEUED, DEAD = "01930000-0000-7000-8000-000000000064", "01930000-0000-7000-8000-00000000006e"


def make_database(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(file)
    database.executescript(FIRST_FORMAT)
    database.close()


def at_rest(client):
    read = lambda: envelope(client.get("/ledger"), 200)["data"]
    return eventually(lambda: (lambda one: one["in_flight"] == 0 and not one["moving"] and one)(read()), "nothing is in flight", seconds=60, interval=0.1)


def line(read, action, way):
    return next(one for one in read["lines"] if (one["action"], one["way"]) == (action, way))


@pytest.fixture(params=["started on it", "restored from its backup"])
def upgraded(request, make_instance, tmp_path):
    data_dir = tmp_path / "old"
    if request.param == "started on it":
        make_database(data_dir / "flexiconnect.db")
    else:
        make_database(tmp_path / "backup.flexi")
        restored = run_cli("restore", tmp_path / "backup.flexi", "--data-dir", data_dir)
        assert restored.returncode == 0, restored.stderr
    return make_instance(data_dir=data_dir).start()


def test_what_the_first_format_held_is_read_drained_and_replayed(upgraded):
    with upgraded.client() as client:
        read = at_rest(client)
        by_name = lambda name: sorted(entry["data"] for entry in all_logs(client, name=name))
        assert by_name("stored") == ["stored 0", "stored 1"]
        assert by_name("queued") == [f"queued {number}" for number in range(10)]
        assert {mail["subject"] for mail in client.get("/mails").json()["data"]} == {"caught mail", "queued mail"}
        assert envelope(client.get("/logs", params={"q": "stored"}), 200)["data"], "words of old entries are found"
        caught = next(mail for mail in client.get("/mails").json()["data"] if mail["subject"] == "caught mail")
        assert envelope(client.get(f"/mails/{caught['id']}"), 200)["data"]["plain"] == "caught"
        envelope(client.post("/authenticate", json=EXAMPLE_USER), 202)

        # The ledger begins with the upgrade, and each message that was under way then is one.
        assert read["adds_up"] and read["unaccounted"] == 0, read
        logs, mails = line(read, "log", "amqp"), line(read, "mail", "amqp")
        assert (logs["accepted"], logs["stored"], logs["dead_lettered"]) == (11, 10, 1), logs
        assert (mails["accepted"], mails["stored"]) == (1, 1), mails

        assert [letter["id"] for letter in envelope(client.get("/dlq"), 200)["data"]] == [DEAD]
        envelope(client.post(f"/dlq/{DEAD}/replay"), 200)
        eventually(lambda: by_name("dead") == ["dead 10"], "the dead letter is stored")
        read = at_rest(client)
        logs = line(read, "log", "amqp")
        assert read["adds_up"] and (logs["accepted"], logs["stored"], logs["dead_lettered"]) == (11, 11, 0), read
        found = envelope(client.get(f"/receipts/{QUEUED}"), 200)["data"]
        assert found["state"] == "stored" and found["way"] == "amqp", found
    assert run_cli("ledger", "--url", upgraded.url).returncode == 0


def test_a_second_start_changes_nothing(upgraded):
    with upgraded.client() as client:
        before = at_rest(client)
    upgraded.terminate()
    upgraded.start()
    with upgraded.client() as client:
        after = at_rest(client)
        assert after["adds_up"] and after["accepted"] == before["accepted"] and after["stored"] == before["stored"]
    upgraded.terminate()
    database = sqlite3.connect(upgraded.data_dir / "flexiconnect.db")
    versions = dict(database.execute("SELECT component, version FROM schema_versions"))
    database.close()
    assert versions.keys() >= {"users", "logs", "queue", "mailbox", "idempotency", "ledger"} and versions["queue"] > 1, versions
