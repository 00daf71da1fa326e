# SPDX-License-Identifier: Apache-2.0
"""Each service a process, on PostgreSQL, RabbitMQ, MongoDB and SMTP: what other programs find there, in which order they may start, and how
data moves there from the embedded store."""

import contextlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import tempfile

import bson
import httpx
import psycopg2
import psycopg2.extras
import pytest
import rabbitmq
from conftest import BINARY, EXAMPLE_USER, ROOT, Instance, all_logs, embedded_only, envelope, eventually, post_log, run_cli
from services import Destinations, Services
from test_cli import ok

MAIL = {"from": "me@example.com", "to": "you@example.com", "subject": "Grüße", "message": "Hello wörld!"}
EXAMPLE_HASH = "$2a$12$1zGLuYDDNvATh4RA4avbKuheAMpb1svexSzrQm7up.bnpwQHs0jNe"
pytestmark = embedded_only("starts its services itself")


@pytest.fixture
def destinations(request):
    made = Destinations(request)
    yield made
    made.close()


@pytest.fixture
def services(destinations, tmp_path, request):
    system = Services(Instance, tmp_path / "services", destinations)
    request.node.flexi_instances = [system]
    yield system.start()
    system.terminate()


def rows(dsn, sql, *values):
    with contextlib.closing(psycopg2.connect(dsn, connect_timeout=20)) as connection, connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
        cursor.execute(sql, values)
        return [dict(row) for row in cursor.fetchall()]


def test_other_programs_find_what_was_sent(services, destinations, unique):
    """psycopg2, pymongo, aiosmtpd and Python's email package read it as the contract has it."""
    with services.client() as client, contextlib.closing(destinations.mongodb.client()) as mongo:
        sent = {}
        for via in ("http", "grpc", "rpc", "amqp"):
            answer = post_log(client, unique, f"by {via}", via=via)
            envelope(answer, 202)
            sent[f"by {via}"] = answer.headers["x-flexi-id"]
        logs = mongo[destinations.logs]["logs"]
        eventually(lambda: logs.count_documents({"name": unique}) == 4, "all are in MongoDB")
        documents = list(logs.find({"name": unique}))
        assert {document["data"]: document["message_id"] for document in documents} == sent
        for document in documents:
            assert isinstance(document["_id"], bson.ObjectId) and document["created_at"] <= document["updated_at"]

        mail = client.post("/handle", json={"action": "mail", "mail": MAIL | {"subject": unique}})
        assert envelope(mail, 202)["message"] == "Message sent to you@example.com"
        taken = destinations.smtp.taken()
        message = taken.message
        assert (message["subject"], message["from"], message["to"]) == (unique, "me@example.com", "you@example.com")
        plain, html = message.get_body(("plain",)), message.get_body(("html",))
        assert "Hello wörld!" in plain.get_content() and "Hello wörld!" in html.get_content()

        login = envelope(client.post("/handle", json={"action": "auth", "auth": EXAMPLE_USER}), 202)
        [row] = rows(destinations.dsn, "SELECT * FROM public.users")
        assert (row["email"], row["first_name"], row["last_name"], row["user_active"], row["password"]) == ("admin@example.com", "Admin", "User", 1, EXAMPLE_HASH)
        assert login["data"]["id"] == row["id"]
        eventually(lambda: logs.count_documents({"name": "authentication", "data": "admin@example.com logged in"}) == 1, "the login left its entry")

        ledger = eventually(lambda: (lambda read: read["in_flight"] == 0 and not read["moving"] and read)(envelope(client.get("/ledger"), 200)["data"]), "nothing is in flight",
                            seconds=60, interval=0.2)
        assert ledger["adds_up"] and ledger["unaccounted"] == 0 and ledger["not_asked"] == [], ledger


def parts_of(instance):
    with instance.client() as client:
        answer = client.get("/readyz")
        return answer.status_code, answer.json()["parts"]


def test_they_start_in_any_order_while_everything_is_absent(request, tmp_path, own_postgresql, own_mongodb, own_rabbitmq, unique):
    """Each comes up, says in words what it lacks, and is ready as soon as that is there."""
    servers = (own_postgresql, own_mongodb, own_rabbitmq)
    destinations = Destinations.__new__(Destinations)
    database = own_postgresql.add_database()
    destinations.settings = {"authentication": {"DSN": own_postgresql.dsn_of(database)}, "logger": {"MONGO_URI": own_mongodb.url}, "listener": {"AMQP_URI": own_rabbitmq.url},
                             "broker": {"AMQP_URI": own_rabbitmq.url}, "mail": {"FLEXI_STORAGE": "embedded"}, "front-end": {}}
    for server in servers:
        server.stop()
    system = Services(Instance, tmp_path / "services", destinations)
    request.node.flexi_instances = [system]
    order = list(system.parts)
    try:
        for turn in range(3):
            random.Random(turn).shuffle(order)
            for role in order:
                system.parts[role].start()
            for role, part in (("authentication", "postgresql"), ("logger", "mongodb"), ("broker", "rabbitmq"), ("listener", "rabbitmq")):
                # In words, once the first attempt has failed.
                said = eventually(lambda: (lambda status, parts: status == 503 and re.search("[a-z]+ [a-z]+", parts.get(part, "")) and parts)(*parts_of(system.parts[role])),
                                  f"the {role} says what it lacks; it says {parts_of(system.parts[role])}", seconds=30)
                assert said[part] != "ok"
                with system.parts[role].client() as client:
                    assert client.get("/healthz").status_code == 200
            with system.client() as client:
                assert client.post("/handle", json={"action": "auth", "auth": EXAMPLE_USER}).status_code == 503
                envelope(post_log(client, unique, f"turn {turn}", via="amqp"), 202)  # in the spool
            if turn < 2:
                system.terminate()
        for server in random.Random(7).sample(servers, len(servers)):
            server.start()
        for role in order:
            eventually(lambda: parts_of(system.parts[role])[0] == 200, f"the {role} is ready", seconds=60)
        with system.client() as client:
            eventually(lambda: client.post("/authenticate", json=EXAMPLE_USER).status_code == 202, "the example user is there", seconds=30)
            eventually(lambda: sorted(entry["data"] for entry in all_logs(client, name=unique)) == ["turn 0", "turn 1", "turn 2"], "what was accepted meanwhile is stored", seconds=60)
            envelope(client.post("/handle", json={"action": "mail", "mail": MAIL}), 202)
    finally:
        system.terminate()


def test_data_moves_from_the_embedded_store_to_the_databases_and_back(make_instance, destinations, tmp_path, unique):
    embedded = make_instance().start()
    with embedded.client() as client:
        for number in range(50):
            post_log(client, unique, f"entry {number}\té", via="inproc", headers={"Idempotency-Key": f"{unique}-{number}"} if number % 2 else {})
        before = {entry["id"]: entry for entry in all_logs(client)}
        ok(embedded.users("add", "ada@example.com", "--last-name", "Lovelace", stdin="analytical engine\n"))
        users = envelope(client.get("/users"), 200)["data"]
    embedded.terminate()
    file, back = tmp_path / "moving.jsonl", tmp_path / "back.jsonl"
    ok(run_cli("export", "all", file, "--data-dir", embedded.data_dir))
    environment = destinations.settings["authentication"] | destinations.settings["logger"]
    moved = ok(run_cli("import", file, settings=environment))
    assert "imported 2 users and 50 log entries" in moved and "password" not in moved
    assert "there already: 2 users and 50 log entries" in ok(run_cli("import", file, settings=environment))

    stored = rows(destinations.dsn, "SELECT id, email, last_name FROM public.users ORDER BY id")
    assert [(row["id"], row["email"], row["last_name"]) for row in stored] == [(1, "admin@example.com", "User"), (2, "ada@example.com", "Lovelace")]
    with contextlib.closing(destinations.mongodb.client()) as mongo:
        documents = {document["message_id"]: document for document in mongo[destinations.logs]["logs"].find()}
        assert documents.keys() == before.keys()
        assert all(documents[key]["data"] == entry["data"] for key, entry in before.items())

    system = Services(Instance, tmp_path / "services", destinations).start()
    try:
        with system.client() as client:
            assert {entry["id"]: entry for entry in all_logs(client)} == before, "times, traces, hops and ways, too"
            assert sorted(envelope(client.get("/users"), 200)["data"], key=lambda user: user["id"]) == sorted(users, key=lambda user: user["id"])
            ledger = envelope(client.get("/ledger"), 200)["data"]
            assert ledger["accepted"] == ledger["stored"] == 0 and ledger["adds_up"], "the other ledger has them"
            again = post_log(client, unique, "entry 1\té", headers={"Idempotency-Key": f"{unique}-1"}, via="http", ack="stored")
            assert envelope(again, 202) and again.headers["x-flexi-duplicate"] == "true"
            envelope(client.post("/authenticate", json={"email": "ada@example.com", "password": "analytical engine"}), 202)
            eventually(lambda: all_logs(client, name="authentication"), "the login's entry")
            ok(run_cli("users", "add", "grace@example.com", settings=environment, stdin="analytical engine\n"))
            assert max(user["id"] for user in envelope(client.get("/users"), 200)["data"]) == 3, "ids go on behind those that came"
    finally:
        system.terminate()

    exported = run_cli("export", "all", back, settings=environment)
    assert "exported 3 users and 51 log entries" in ok(exported)
    header = json.loads(back.read_text().splitlines()[0])
    assert "password" not in header["from"] and "dbname=" in header["from"] and "mongodb://127.0.0.1" in header["from"]
    ok(run_cli("import", back, "--to", tmp_path / "again"))
    with make_instance(data_dir=tmp_path / "again").start().client() as client:
        entries = {entry["id"]: entry for entry in all_logs(client)}
        assert {key: entries[key] for key in before} == before


def test_what_can_not_be_reached_is_named(tmp_path):
    refused = run_cli("export", "users", tmp_path / "file", "--from", "host=127.0.0.1 port=1 dbname=users connect_timeout=1", timeout=60)
    assert refused.returncode == 1 and "postgresql: " in refused.stderr and not (tmp_path / "file").exists()
    refused = run_cli("export", "logs", tmp_path / "file", "--from", "mongodb")
    assert refused.returncode == 1 and "MONGO_URI" in refused.stderr


@pytest.fixture
def open_folder():
    """One that the user that PostgreSQL runs as may enter."""
    with tempfile.TemporaryDirectory(prefix="flexi-run-services-") as folder:
        os.chmod(folder, 0o755)
        yield pathlib.Path(folder)


def test_make_run_services_starts_what_the_documentation_shows(open_folder, unique):
    if reason := rabbitmq.why_not():
        pytest.skip(reason)
    shown = (ROOT / "docs/operations.md").read_text().split("## All services on one machine")[1].split("\n## ")[0]
    block = next(part for part in shown.split("```") if "export DSN" in part)
    tool = [str(ROOT / "tools/run-services")]
    names = subprocess.run([*tool, "--environment"], capture_output=True, text=True, check=True).stdout.split()
    assert re.findall(r"^export ([A-Z_]+)=", block, re.M) == names
    assert re.findall(r"^flexiconnect ([a-z-]+)", block, re.M) == ["authentication", "logger", "mail", "listener", "broker", "front-end"]

    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEXI_TEST_")} | {"TMPDIR": str(open_folder)}
    with subprocess.Popen([*tool, str(BINARY), "--free-ports"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("ready"):
                break
        text = "".join(said)
        try:
            assert said[-1].startswith("ready"), text
            urls = dict(re.findall(r"^  ([a-z-]+) +(http\S+)$", text, re.M))
            mails = pathlib.Path(re.search(r"^  mails +(\S+)$", text, re.M).group(1))
            with httpx.Client(base_url=urls["broker"], timeout=30, trust_env=False) as client:
                for via in ("http", "grpc", "rpc", "amqp"):
                    envelope(post_log(client, unique, via, via=via, ack="stored"), 202)
                assert len(all_logs(client, name=unique)) == 4
                envelope(client.post("/handle", json={"action": "mail", "mail": MAIL | {"subject": unique}}), 202)
                assert any(unique in mail.read_text() for mail in eventually(lambda: list(mails.iterdir()), "the mail is there"))
                eventually(lambda: client.post("/handle", json={"action": "auth", "auth": EXAMPLE_USER}).status_code == 202, "the example user logs in")
            page = httpx.get(urls["front-end"], trust_env=False)
            assert page.status_code == 200 and urls["broker"] in page.text
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
        assert process.wait(60) == 0, text + rest
    assert [left.name for left in open_folder.iterdir() if not left.name.startswith("flexi-test-ports-")] == [], "nothing is left"
