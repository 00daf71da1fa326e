# SPDX-License-Identifier: Apache-2.0
"""Servers that tests of several folders need. Only for tests that ask for them."""

import contextlib
import fcntl
import json
import os
import pathlib
import sys
import uuid

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent / "support"))

import gate as gates  # noqa: E402
import mongodb as mongo  # noqa: E402
import postgresql as postgres  # noqa: E402
import rabbitmq as rabbit  # noqa: E402


def started_once(tmp_path_factory, kind=rabbit, name="rabbitmq"):
    """One for all workers of this run, gone with the process that began them."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder, owner = tmp_path_factory.getbasetemp().parent, os.getppid()
    else:
        folder, owner = tmp_path_factory.getbasetemp(), os.getpid()
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = folder / f"{name}.json"
        if not known.exists():
            known.write_text(json.dumps(kind.Server().begin(watched_pid=owner).made))
        return kind.Server(json.loads(known.read_text()))


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory):
    """The RabbitMQ of this test run, shared: nobody stops it. A test that does wants own_rabbitmq."""
    if reason := rabbit.why_not():
        pytest.skip(reason)
    return rabbit.Server.from_environment() or started_once(tmp_path_factory)


@pytest.fixture
def vhost(rabbitmq):
    """A vhost of this test's own; `vhost.url`, `vhost.name`, `vhost.listed("queues", "name")`."""
    own = Vhost(rabbitmq, "test-" + uuid.uuid4().hex)
    yield own
    rabbitmq.delete_vhost(own.name)


@pytest.fixture
def own_rabbitmq():
    """A RabbitMQ of this test's own, which it may stop, kill and start: `.stop() .start() .kill() .freeze() .thaw()`."""
    if reason := rabbit.why_not():
        pytest.skip(reason)
    with rabbit.Server() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory):
    """The PostgreSQL of this test run, shared: nobody stops it. A test that does wants own_postgresql."""
    if reason := postgres.why_not():
        pytest.skip(reason)
    return postgres.Server.from_environment() or started_once(tmp_path_factory, postgres, "postgresql")


@pytest.fixture
def pg_database(postgresql):
    """A database of this test's own: `.dsn`, `.run(sql, *values)`, `.dsn_with(port=gate.port)`."""
    own = PgDatabase(postgresql, postgresql.add_database())
    yield own
    postgresql.delete_database(own.name)


@pytest.fixture
def own_postgresql():
    """A PostgreSQL of this test's own, which it may stop, kill and start: `.stop() .start() .kill() .freeze() .thaw()`."""
    if reason := postgres.why_not():
        pytest.skip(reason)
    with postgres.Server() as server:
        yield server


@pytest.fixture(scope="session")
def mongodb(tmp_path_factory):
    """The MongoDB of this test run, shared: nobody stops it. A test that does wants own_mongodb."""
    if "FLEXI_TEST_MONGO_URI" not in os.environ and (reason := mongo.why_not()):
        pytest.skip(reason)
    try:
        return mongo.Server.from_environment() or started_once(tmp_path_factory, mongo, "mongodb")
    except mongo.Unavailable as why:
        pytest.skip(str(why))


@pytest.fixture
def own_mongodb():
    """A MongoDB of this test's own, which it may stop, kill and start: `.stop() .start() .kill() .freeze() .thaw()`."""
    if reason := mongo.why_not():
        pytest.skip(reason)
    try:
        server = mongo.Server().begin()
    except mongo.Unavailable as why:
        pytest.skip(str(why))
    yield server
    server.__exit__()


@pytest.fixture
def log_database(mongodb):
    """A database of this test's own; `.settings` for the binary, `.logs` its collection of pymongo's, `.name`."""
    with contextlib.closing(mongodb.client()) as client:
        name = "test-" + uuid.uuid4().hex
        yield mongo.Database(mongodb, client, name)
        client.drop_database(name)


@pytest.fixture
def make_gate():
    """Gates to (host, port), open until the test ends."""
    made = []

    def make(target):
        made.append(gates.Gate(target).__enter__())
        return made[-1]

    yield make
    for each in made:
        each.__exit__()


class Vhost:
    def __init__(self, server, name):
        self.server, self.name = server, name
        self.url = server.add_vhost(name)

    def url_through(self, gate):
        return self.server.url_of(self.name, gate.port)

    def listed(self, what, *columns):
        return self.server.listed(what, *columns, vhost=self.name)


class PgDatabase:
    def __init__(self, server, name):
        self.server, self.name = server, name
        self.dsn = server.dsn_of(name)

    def dsn_with(self, **more):
        return self.server.dsn_of(self.name, **more)

    def run(self, sql, *values):
        return self.server.run(self.name, sql, *values)
