# SPDX-License-Identifier: Apache-2.0
"""MongoDB, PostgreSQL and the SMTP server, each stopped for 20 s under load and started again; what they have then is counted by other programs."""

import collections
import contextlib
import os
import subprocess
import sys
import threading
import time

import psycopg2
import pytest
from load import Load, MailLoad
from parts import BINARY, ROOT, eventually
from systems import make_system  # noqa: F401  fixture

sys.path.insert(0, str(ROOT / "tests/system"))
OUTAGE = 20
CREDENTIALS = {"email": "admin@example.com", "password": "verysecret"}


class Logins(threading.Thread):
    """Logs in all the time, with the right password; remembers the answers."""

    def __init__(self, broker):
        super().__init__(daemon=True)
        self.broker, self.stopping, self.answers = broker, threading.Event(), []

    def run(self):
        with self.broker.client() as client:
            while not self.stopping.wait(0.1):
                answer = client.post("/handle", json={"action": "auth", "auth": CREDENTIALS})
                self.answers.append((time.monotonic(), answer.status_code))

    def wait_for_success(self, what):
        since = time.monotonic()
        eventually(lambda: any(when > since and code == 202 for when, code in list(self.answers)), what, seconds=60)


class NewUsers(threading.Thread):
    """Adds accounts on the command line all the time; remembers which it was told are there."""

    def __init__(self, dsn):
        super().__init__(daemon=True)
        self.environment = {"PATH": os.environ["PATH"], "DSN": dsn}
        self.stopping, self.added, self.tried, self.refused = threading.Event(), set(), set(), 0

    def run(self):
        while not self.stopping.wait(0.2):
            email = f"user{len(self.tried)}@example.com"
            self.tried.add(email)
            done = subprocess.run([str(BINARY), "users", "add", email], input="analytical engine\n", text=True, capture_output=True, env=self.environment, timeout=60)
            if done.returncode == 0:
                self.added.add(email)
            else:
                self.refused += 1


def outage(*servers):
    """Stops them one after the other, and starts each again 20 s after it was stopped."""
    stopped = {}
    for server in servers:
        server.stop()
        stopped[server] = time.monotonic()
        time.sleep(1)
    for server in servers:
        time.sleep(max(0, stopped[server] + OUTAGE - time.monotonic()))
        server.start()


class Found:
    """How often each load's marker is where it belongs, as pymongo and Python's email package read it."""

    def __init__(self, mongodb, smtp):
        self.mongodb, self.smtp, self.mails = mongodb, smtp, collections.Counter()

    def __call__(self, action="log"):
        if action == "log":
            with contextlib.closing(self.mongodb.client()) as mongo:
                return collections.Counter(entry["data"].split(" ", 1)[0] for entry in mongo["logs"]["logs"].find({"name": "load"}))
        self.mails.update(str(mail.message["subject"]) for mail in self.smtp.all_taken())
        return self.mails


def test_each_destination_is_stopped_for_20_s_under_load(make_system, vhost, own_mongodb, own_postgresql):
    from smtp_support import SmtpServer

    dsn = own_postgresql.dsn_of(own_postgresql.add_database())
    smtp = SmtpServer()
    on = {"logger": {"MONGO_URI": own_mongodb.url}, "mail": {"MAIL_HOST": "127.0.0.1", "MAIL_PORT": smtp.port}, "authentication": {"DSN": dsn}}
    system = make_system(amqp_url=vhost.url, mail=True, on=on)
    with system.broker.client() as client:
        eventually(lambda: client.post("/handle", json={"action": "auth", "auth": CREDENTIALS}).status_code == 202, "the example user logs in")
        eventually(lambda: client.get("/readyz").status_code == 200, "the broker is ready")
    system.stored = Found(own_mongodb, smtp)
    logins, users = Logins(system.broker), NewUsers(dsn)
    queued, direct = Load(system.broker, threads=2, pause=0.04), Load(system.broker, threads=2, fields={"via": "http", "ack": "stored"}, pause=0.04)
    mails = MailLoad(system.broker, threads=2, fields={"via": "amqp", "ack": "accepted"}, pause=0.1)
    logins.start()
    users.start()
    try:
        with queued, direct, mails:
            for load in (queued, direct, mails):
                load.wait_for(50)
            logins.wait_for_success("logins before")
            began = time.monotonic()
            outage(own_mongodb, own_postgresql, smtp)
            assert time.monotonic() - began > OUTAGE
            for load in (queued, direct, mails):
                load.wait_for(50, seconds=90)
            logins.wait_for_success("logins work again, without a restart")
            told = len(users.added)
            eventually(lambda: len(users.added) > told, "accounts are added again")
    finally:
        logins.stopping.set()
        users.stopping.set()
    logins.join(60)
    users.join(60)

    assert set(queued.answers) == {202} and set(mails.answers) == {202}, (queued.refusals[:3], mails.refusals[:3])
    assert set(direct.answers) <= {202, 503, 504} and direct.answers[503], direct.answers
    codes = collections.Counter(code for _, code in logins.answers)
    assert set(codes) <= {202, 503, 504} and codes[503], f"a right password is never called wrong: {codes}"
    assert users.refused, "the outage was noticed"
    system.check(queued, direct, mails)
    with contextlib.closing(psycopg2.connect(dsn)) as postgres, postgres.cursor() as cursor:
        cursor.execute("SELECT email FROM public.users WHERE email LIKE 'user%'")
        emails = collections.Counter(email for email, in cursor.fetchall())
    assert users.added <= emails.keys() <= users.tried and set(emails.values()) == {1}
    with system.broker.client() as client:
        ledger = eventually(lambda: (lambda read: read["in_flight"] == 0 and not read["moving"] and read)(client.get("/ledger").json()["data"]), "the ledger is at rest")
    assert ledger["adds_up"] and ledger["unaccounted"] == 0, ledger
    smtp.stop()


@pytest.mark.parametrize("over", ["embedded", "rabbitmq"])
def test_an_outage_longer_than_all_attempts_makes_no_dead_letter(make_system, request, own_mongodb, over):
    """Two attempts, over within a second. The services are there all the time; what they stand on is not."""
    from smtp_support import SmtpServer

    few = {f"FLEXI_{queue}_{name}": value for queue in ("QUEUE", "AMQP") for name, value in (("MAX_ATTEMPTS", 2), ("RETRY_DELAY", "50ms"))} | {"FLEXI_AMQP_RETRY_STEPS": 2}
    smtp = SmtpServer()
    on = {"logger": {"MONGO_URI": own_mongodb.url}, "mail": {"MAIL_HOST": "127.0.0.1", "MAIL_PORT": smtp.port}}
    url = request.getfixturevalue("vhost").url if over == "rabbitmq" else None
    system = make_system(amqp_url=url, mail=True, on=on, queue_settings=few, amqp_settings=few, listener_settings=few)
    system.stored = Found(own_mongodb, smtp)
    own_mongodb.stop()
    smtp.stop()
    entries, mails = Load(system.broker, threads=1), MailLoad(system.broker, threads=1, fields={"via": "amqp", "ack": "accepted"})
    with entries, mails:
        entries.wait_for(30)
        mails.wait_for(10)
    assert set(entries.answers) == {202} and set(mails.answers) == {202}, (entries.refusals[:3], mails.refusals[:3])
    retrying, name = (system.listeners[0], "flexi_amqp_retried_total") if url else (system.broker, "flexi_queue_retried_total")
    eventually(lambda: retrying.metric(name) > 10 * (len(entries.accepted) + len(mails.accepted)), "each has failed many times", seconds=120)
    assert system.dead_letters() == []
    own_mongodb.start()
    smtp.start()
    system.check(entries, mails)
    smtp.stop()
