# SPDX-License-Identifier: Apache-2.0
"""Replicas of the mail service share one ledger in PostgreSQL: a mail goes once, whoever is asked."""

import threading

import pytest
from conftest import envelope, eventually
from smtp_support import SmtpServer, subjects, why_not


@pytest.fixture
def smtp():
    if reason := why_not():
        pytest.skip(reason)
    server = SmtpServer()
    yield server
    server.stop()


@pytest.fixture
def replicas(make_instance, pg_database, smtp):
    settings = {"DSN": pg_database.dsn, "MAIL_HOST": "127.0.0.1", "MAIL_PORT": smtp.port, "MAIL_ENCRYPTION": "none", "FROM_ADDRESS": "shop@example.com"}
    both = [make_instance(role="mail", settings=settings).start() for _ in range(2)]
    for each in both:
        with each.client() as client:
            eventually(lambda: client.get("/readyz").status_code == 200, "ready")
    return both


def send(client, key):
    mail = {"from": "me@example.com", "to": "you@example.com", "subject": key, "message": "Hello"}
    return client.post("/send", json=mail, headers={"Idempotency-Key": key})


def test_a_mail_that_both_replicas_are_given_goes_once(replicas, pg_database, smtp):
    keys = [f"order-{number}" for number in range(10)]

    def send_all(instance):
        with instance.client() as client:
            for key in keys:
                # While the other is at it, it is 503 with a time to come back.
                eventually(lambda: send(client, key).status_code == 202, key)

    threads = [threading.Thread(target=send_all, args=(instance,)) for instance in replicas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [smtp.taken() for _ in keys]
    assert set(subjects(taken)) == set(keys)
    assert smtp.all_taken() == []
    assert pg_database.run("SELECT count(*), count(*) FILTER (WHERE state = 1) FROM flexi_sent_mails") == [(10, 10)]
    [(stored, accepted, duplicates)] = pg_database.run("SELECT sum(stored), sum(accepted), sum(duplicates) FROM flexi_ledger_lines WHERE action = 'mail'")
    assert (stored, accepted, duplicates) == (10, 10, 10)
    for instance in replicas:
        assert not instance.data_dir.exists(), "nothing is embedded"


def test_a_mail_is_not_sent_while_its_ledger_is_away(make_instance, pg_database, smtp, make_gate, postgresql):
    gate = make_gate(("127.0.0.1", postgresql.port))
    instance = make_instance(role="mail", settings={"DSN": pg_database.dsn_with(port=gate.port), "MAIL_HOST": "127.0.0.1", "MAIL_PORT": smtp.port,
                                                    "MAIL_ENCRYPTION": "none", "FROM_ADDRESS": "shop@example.com"}).start()
    with instance.client() as client:
        eventually(lambda: client.get("/readyz").status_code == 200, "ready")
        gate.refuse()
        eventually(lambda: client.get("/readyz").status_code == 503, "says so")
        assert envelope(send(client, "one"), 503)["message"] == "the database can't be reached"
        gate.heal()
        eventually(lambda: send(client, "one").status_code == 202, "recovers")
    assert set(subjects([smtp.taken()])) == {"one"}
    assert smtp.all_taken() == []
