# SPDX-License-Identifier: Apache-2.0
"""Logs in MongoDB, checked with pymongo: the contract's documents, and what becomes of them when MongoDB goes, breaks and comes back."""

import collections
import datetime
import threading
import time

import bson
import mongodb as mongo
import pytest
from conftest import all_logs, envelope, eventually, post_log, run_cli
from test_durability import DIRECT, QUEUE, QUEUE_STORED, Load

UTC = datetime.timezone.utc
SETTINGS = {"FLEXI_MONGO_CHECK_INTERVAL": "100ms", "FLEXI_LOG_FORMAT": "json"}

# Not over the queue with a caller who waits: the ledger asks about what it was told had failed only a minute later.
FAILING = [DIRECT, QUEUE]


def ready(instance, seconds=30):
    with instance.client() as client:
        eventually(lambda: client.get("/readyz").status_code == 200, "it is ready", seconds)
    return instance


def why_not_ready(client):
    return client.get("/readyz").json()["parts"].get("mongodb")


def stored(collection, name="load"):
    return collections.Counter(document["data"] for document in collection.find({"name": name}, {"data": 1}))


def ledger_at_rest(client):
    last = {}

    def at_rest():
        last.clear()
        last.update(envelope(client.get("/ledger"), 200)["data"])
        return last["in_flight"] == 0 and not last["moving"] and not last["not_asked"]

    try:
        eventually(at_rest, "nothing is in flight", 30, 0.1)
    except AssertionError:
        pytest.fail(f"the ledger is not at rest: {last}")
    return last


def expect_ledger(client, collection, name="load"):
    """What is accepted is stored, by the ledger and by MongoDB. @return its lines, by way"""
    read = ledger_at_rest(client)
    assert read["unaccounted"] == 0, read
    logs = [line for line in read["lines"] if line["action"] == "log"]
    assert sum(line["stored"] for line in logs) == collection.count_documents({"message_id": {"$exists": True}}), read
    return {line["way"]: line for line in logs}


@pytest.fixture
def flexi(make_instance, log_database):
    """An all-in-one instance that keeps its logs in a database of this test's own."""
    return ready(make_instance(settings=SETTINGS | log_database.settings).start())


@pytest.fixture
def own_database(own_mongodb):
    """As log_database, on a MongoDB that the test may stop."""
    client = own_mongodb.client()
    yield mongo.Database(own_mongodb, client, "logs")
    client.close()


def test_documents_of_another_client_are_served_unchanged(flexi, log_database):
    when = datetime.datetime(2023, 11, 14, 22, 13, 20, 123000, UTC)
    documents = [{"_id": bson.ObjectId(), "name": "go" if i % 2 else "event", "data": f"written by Go, number {i}: <b>Zoë 李</b>", "created_at": when + datetime.timedelta(seconds=i),
                  "updated_at": when + datetime.timedelta(seconds=i)} for i in range(12)]
    log_database.logs.insert_many(documents)
    log_database.logs.insert_one({"_id": bson.ObjectId(), "name": 7, "data": {"a": [1, None]}, "created_at": "never"})
    before = list(log_database.logs.find().sort("_id", 1))
    with flexi.client() as client:
        listed = all_logs(client)
        assert [entry["id"] for entry in listed[:12]] == [str(d["_id"]) for d in reversed(documents)]
        assert listed[0]["data"] == documents[-1]["data"] and listed[0]["created_at"] == "2023-11-14T22:13:31.123000Z"
        assert listed[12]["name"] == "7" and '"a"' in listed[12]["data"]
        page = envelope(client.get("/logs", params={"limit": 5}), 200)
        rest = envelope(client.get("/logs", params={"limit": 500, "cursor": page["next"]}), 200)
        assert page["data"] + rest["data"] == listed
        assert len(all_logs(client, name="go")) == 6
        assert [entry["id"] for entry in all_logs(client, q="NUMBER 7 zoë")] == [str(documents[7]["_id"])]
        assert len(all_logs(client, since="2023-11-14T22:13:25Z", until="2023-11-14T22:13:27Z")) == 2
        got = envelope(client.get(f"/logs/{documents[3]['_id']}"), 200)["data"]
        assert got["data"] == documents[3]["data"]
        assert envelope(client.get(f"/receipts/{documents[3]['_id']}"), 200)["data"]["state"] == "stored"
    assert list(log_database.logs.find().sort("_id", 1)) == before, "reading changed them"


def test_what_is_written_decodes_as_the_contract_says(flexi, log_database, unique):
    with flexi.client() as client:
        before = datetime.datetime.now(UTC) - datetime.timedelta(seconds=1)
        for way in (DIRECT, QUEUE, {"via": "http", "ack": "stored"}):
            answer = post_log(client, "event", unique, **way)
            envelope(answer, 202)
            one = eventually(lambda: log_database.logs.find_one({"message_id": answer.headers["x-flexi-id"]}), "it is stored")  # noqa: B023
            assert isinstance(one["_id"], bson.ObjectId) and one["name"] == "event" and one["data"] == unique
            for field in ("created_at", "updated_at"):
                assert isinstance(one[field], datetime.datetime) and before <= one[field].replace(tzinfo=UTC) <= datetime.datetime.now(UTC)
            assert abs((one["_id"].generation_time - one["created_at"].replace(tzinfo=UTC)).total_seconds()) < 2
            listed = all_logs(client, q=unique)[0]
            assert listed["id"] == one["message_id"]
            assert listed["created_at"][:23] == one["created_at"].isoformat()[:23]
        # Newest first, as the reference's model lists them.
        times = [d["created_at"] for d in log_database.logs.find().sort("created_at", -1)]
        assert times == sorted(times, reverse=True)
        wanted = {"_id_", "created_at_-1_created_us_-1__id_-1", "name_1_created_at_-1_created_us_-1__id_-1"}
        eventually(lambda: wanted <= set(log_database.logs.index_information()), "the indexes are made, behind the start")


def test_the_same_key_is_stored_once_and_counted(flexi, log_database, unique):
    with flexi.client() as client:
        for attempt in range(3):
            answer = post_log(client, "keyed", unique, {"Idempotency-Key": unique}, **DIRECT)
            envelope(answer, 202)
        assert log_database.logs.count_documents({"name": "keyed"}) == 1
        assert envelope(client.get(f"/receipts/{unique}"), 200)["data"]["duplicates"] == 2
        envelope(post_log(client, "keyed", "another payload", {"Idempotency-Key": unique}, **DIRECT), 409)
        expect_ledger(client, log_database.logs)


def test_what_is_no_utf8_or_too_large_is_refused_by_name(flexi, log_database):
    with flexi.client() as client:
        body = b'{"action":"log","via":"inproc","log":{"name":"n","data":"\xff\xfe"}}'
        assert client.post("/handle", content=body, headers={"content-type": "application/json"}).status_code == 400
        large = client.post("/log", json={"name": "n", "data": "x" * (2 << 20)})
        assert large.status_code in (400, 413), large.text
    assert log_database.logs.count_documents({}) == 0


def test_a_logger_alone_needs_no_data_folder(make_instance, log_database, unique):
    logger = ready(make_instance(role="logger", settings=SETTINGS | log_database.settings).start())
    with logger.client() as client:
        answer = client.post("/log", json={"name": "event", "data": unique})
        assert envelope(answer, 202)["message"] == "logged"
    assert stored(log_database.logs, "event") == {unique: 1}
    assert not logger.data_dir.exists()
    logger.terminate()
    assert [slot["free"] for slot in log_database.client[log_database.name]["logs_ledger"].find({"_id": {"$ne": "book"}})] == [True], "it left its slot to the next"


def test_it_starts_before_the_database_and_recovers(make_instance, own_database, unique):
    own_database.server.stop()
    instance = make_instance(settings=SETTINGS | own_database.settings).start()
    with instance.client() as client:
        eventually(lambda: why_not_ready(client) == "MongoDB can't be reached", "it says what it waits for")
        assert client.get("/readyz").status_code == 503 and client.get("/healthz").status_code == 200
        started = time.monotonic()
        assert "MongoDB" in envelope(post_log(client, "event", unique, **DIRECT), 503)["message"]
        envelope(client.get("/logs"), 503)
        assert time.monotonic() - started < 5, "nobody waits in vain"
        queued = post_log(client, "event", unique + "-queued", **QUEUE)
        envelope(queued, 202)
        own_database.server.start()
        ready(instance)
        envelope(post_log(client, "event", unique, **DIRECT), 202)
        eventually(lambda: stored(own_database.logs, "event") == {unique: 1, unique + "-queued": 1}, "what was queued is stored", 60)
        assert envelope(client.get("/dlq"), 200)["data"] == [], "an outage makes no dead letters"
        expect_ledger(client, own_database.logs)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_mongodb_is_restarted_under_load(make_instance, own_database, end):
    instance = ready(make_instance(settings=SETTINGS | own_database.settings).start())
    with Load(instance, FAILING) as load:
        eventually(lambda: len(load.accepted) >= 300, "the load runs", interval=0.005)
        getattr(own_database.server, end)()
        eventually(lambda: load.refused, "it says that MongoDB is away")
        time.sleep(1)
        own_database.server.start()
        after = len(load.accepted)
        ready(instance)
        eventually(lambda: len(load.accepted) >= after + 300, "it recovered without a restart", interval=0.005)
    expect_all(instance, own_database, load)


def expect_all(instance, database, load):
    """Lost 0, doubled 0; and what was refused was so clearly."""
    assert {status for status, _, _ in load.refused} <= {503, 504, 429}, load.refused[:3]
    assert not load.lost and not load.unanswered
    eventually(lambda: load.accepted <= stored(database.logs).keys(), "every accepted log is stored", 60, 0.2)
    with instance.client() as client:
        lines = expect_ledger(client, database.logs)
        assert envelope(client.get("/dlq"), 200)["data"] == []
    found = stored(database.logs)
    assert [marker for marker, count in found.items() if count != 1] == []
    assert found.keys() <= load.accepted | {marker for _, _, marker in load.refused}
    ids = [document["message_id"] for document in database.logs.find({}, {"message_id": 1})]
    assert len(ids) == len(set(ids))
    return lines


def test_connections_are_cut_in_mid_statement(make_instance, log_database, make_gate):
    gate = make_gate(log_database.server.address)
    instance = ready(make_instance(settings=SETTINGS | log_database.settings_for(log_database.server.url_through(gate))).start())
    with Load(instance, FAILING) as load:
        for cut in range(4):
            enough = len(load.accepted) + 100
            eventually(lambda: len(load.accepted) >= enough, "the load runs", interval=0.005)  # noqa: B023
            gate.cut_after(**{"up" if cut % 2 else "down": 3000 + 977 * cut})
            eventually(lambda: gate.cuts > cut, "a connection was cut")  # noqa: B023
        enough = len(load.accepted) + 100
        eventually(lambda: len(load.accepted) >= enough, "it recovered without a restart", interval=0.005)
    ready(instance)
    expect_all(instance, log_database, load)


def test_a_slow_server_is_the_callers_deadline_and_it_recovers(make_instance, log_database, make_gate, unique):
    gate = make_gate(log_database.server.address)
    settings = SETTINGS | log_database.settings_for(log_database.server.url_through(gate)) | {"FLEXI_MONGO_CONNECT_TIMEOUT": "500ms", "FLEXI_MONGO_SOCKET_TIMEOUT": "2s"}
    instance = ready(make_instance(settings=settings).start())
    with instance.client() as client:
        envelope(post_log(client, "event", unique, **DIRECT), 202)
        gate.freeze()
        started = time.monotonic()
        late = post_log(client, "event", unique + "-late", {"X-Flexi-Timeout-Ms": "300", "Idempotency-Key": unique}, **DIRECT)
        envelope(late, 504)
        assert time.monotonic() - started < 2
        eventually(lambda: client.get("/readyz").status_code == 503, "it says that MongoDB does not answer")
        envelope(post_log(client, "event", unique + "-refused", **DIRECT), 503)
        gate.heal()
        ready(instance)
        envelope(post_log(client, "event", unique + "-late", {"Idempotency-Key": unique}, **DIRECT), 202)
        assert stored(log_database.logs, "event") == {unique: 1, unique + "-late": 1}
        gate.delay(0.4)
        envelope(post_log(client, "event", unique + "-slow", {"X-Flexi-Timeout-Ms": "100"}, **DIRECT), 504)
        gate.heal()
        envelope(post_log(client, "event", unique + "-after", **DIRECT), 202)


def test_a_wrong_password_is_named_and_never_shown(make_instance, log_database, unique):
    if not log_database.server.url.count("@"):
        pytest.skip("not run: this MongoDB checks no password")
    secret = "wr0ng" + unique
    settings = SETTINGS | log_database.settings_for(log_database.server.url_through(None, password=secret))
    instance = make_instance(settings=settings).start()
    with instance.client() as client:
        eventually(lambda: why_not_ready(client) == "MongoDB refuses the user or the password", "it is named")
        answer = post_log(client, "event", unique, **DIRECT)
        assert envelope(answer, 503)["message"] == "MongoDB refuses the user or the password"
        assert secret not in answer.text + client.get("/readyz").text + client.get("/system").text + client.get("/metrics").text
    printed = run_cli("print-config", settings=settings)
    assert printed.returncode == 0 and secret not in printed.stdout + printed.stderr
    broken = run_cli("check-config", settings=settings | {"FLEXI_MONGO_URI": f"mongodb://admin:{secret}/x@h"})
    assert broken.returncode != 0 and "mongo.uri" in broken.stdout + broken.stderr and secret not in broken.stdout + broken.stderr
    assert secret not in instance.log()


def test_the_reference_names_the_server_by_mongo_uri(make_instance, log_database, unique):
    instance = ready(make_instance(role="logger", settings=SETTINGS | {"MONGO_URI": log_database.server.url, "FLEXI_MONGO_DATABASE": log_database.name}).start())
    with instance.client() as client:
        envelope(client.post("/log", json={"name": "event", "data": unique}), 202)
    assert stored(log_database.logs, "event") == {unique: 1}


def test_over_tls_the_certificate_is_checked(make_instance, log_database, unique):
    made = log_database.server.made
    if "tls" not in made:
        pytest.skip("not run: this MongoDB has no TLS port that the tests know of")
    login = log_database.server.url.split("//", 1)[1].split("@")[0]

    def settings(ca):
        return SETTINGS | log_database.settings_for(f"mongodb://{login}@localhost:{made['tls']}/?tls=true&directConnection=true&tlsCAFile={made['folder']}/tls/{ca}")

    good = ready(make_instance(settings=settings("ca.pem")).start())
    with good.client() as client:
        envelope(post_log(client, "event", unique, **DIRECT), 202)
    bad = make_instance(settings=settings("other-ca.pem")).start()
    with bad.client() as client:
        eventually(lambda: why_not_ready(client) == "MongoDB can't be reached", "it does not believe the certificate")
        envelope(post_log(client, "event", unique, **DIRECT), 503)
    assert stored(log_database.logs, "event") == {unique: 1}


def test_kill_9_under_load_loses_and_doubles_nothing(make_instance, log_database):
    instance = make_instance(settings=SETTINGS | log_database.settings)
    accepted, unanswered, refused = set(), {}, set()
    for _ in range(2):
        ready(instance.start())
        with Load(instance, [DIRECT, QUEUE, QUEUE_STORED]) as load:
            eventually(lambda: len(load.accepted) >= 300, "the load runs", interval=0.002)
            instance.kill()
        accepted |= load.accepted
        unanswered |= load.unanswered
        refused |= {marker for _, _, marker in load.refused}
    ready(instance.start())
    with instance.client() as client:
        eventually(lambda: accepted <= stored(log_database.logs).keys(), "every accepted log is stored", 60, 0.2)
        for marker, body in unanswered.items():
            if body:
                envelope(client.post("/handle", content=body, headers={"Content-Type": "application/json", "Idempotency-Key": marker}), 202)
                accepted.add(marker)
        eventually(lambda: accepted <= stored(log_database.logs).keys(), "every retried log is stored", 60, 0.2)
        expect_ledger(client, log_database.logs)
    found = stored(log_database.logs)
    assert [marker for marker, count in found.items() if count != 1] == []
    assert found.keys() <= accepted | unanswered.keys() | refused


def test_retention_removes_what_is_old_and_the_ledger_keeps_it(make_instance, log_database, unique):
    settings = SETTINGS | log_database.settings | {"FLEXI_MONGO_RETENTION": "4s"}
    instance = ready(make_instance(settings=settings).start())
    log_database.logs.insert_one({"name": "old", "data": "of another", "created_at": datetime.datetime(2023, 1, 1), "updated_at": datetime.datetime(2023, 1, 1)})
    with instance.client() as client:
        for number in range(20):
            envelope(post_log(client, "load", f"{unique}-{number}", **DIRECT), 202)
        before = ledger_at_rest(client)
        assert all_logs(client, name="old") == [], "hidden before it is gone"
        eventually(lambda: log_database.logs.count_documents({}) == 0, "all are removed", 60, 0.2)
        assert all_logs(client) == []
        after = ledger_at_rest(client)
        assert after["lines"] == before["lines"] and after["unaccounted"] == 0


def test_two_loggers_share_one_database_and_one_book(make_instance, log_database):
    one, two = (ready(make_instance(role="logger", settings=SETTINGS | log_database.settings).start()) for _ in range(2))
    with one.client() as first, two.client() as second:
        threads = [threading.Thread(target=lambda c=client, n=number: [envelope(c.post("/log", json={"name": "load", "data": f"{n}-{i}"}), 202) for i in range(50)])
                   for number, client in enumerate((first, second))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(stored(log_database.logs)) == 100
        books = [envelope(client.get("/ledger"), 200)["data"] for client in (first, second)]
        assert books[0] == books[1], books
