# SPDX-License-Identifier: Apache-2.0
"""`export` and `import`: users and log entries from one store to another, whole, once, and again after a kill."""

import hashlib
import json
import os
import sqlite3
import stat
import subprocess

import pytest
from conftest import BINARY, EXAMPLE_USER, all_logs, clean_environment, envelope, eventually, post_log, run_cli
from test_cli import OnTerminal, ok


def lines_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def write_export(file, entries):
    """What `export logs` would write, by hand."""
    digest = hashlib.sha256()
    with file.open("wb") as out:
        def put(**line):
            text = (json.dumps(line) + "\n").encode()
            digest.update(text)
            out.write(text)
        put(type="export", version=1, what="logs", **{"from": "a test"})
        for number in range(entries):
            put(type="log", id=f"moved-{number}", name="moved", data=f"entry {number}", created_at=f"2026-01-01T00:00:00.{number:06d}Z",
                updated_at="2026-01-02T00:00:00Z", via="http")
        out.write((json.dumps({"type": "end", "users": 0, "logs": entries, "sha256": digest.hexdigest()}) + "\n").encode())


def start(*arguments):
    return subprocess.Popen([str(BINARY), *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_environment({}))


def count(folder):
    if not (folder / "flexiconnect.db").exists():
        return 0
    with sqlite3.connect(folder / "flexiconnect.db", timeout=30) as database:
        try:
            return database.execute("SELECT count(*) FROM log_entries").fetchone()[0]
        except sqlite3.OperationalError:  # no table yet
            return 0


def test_users_and_logs_move_from_a_running_server_to_another(own, make_instance, tmp_path, unique):
    file, folder = tmp_path / "moving.jsonl", tmp_path / "new"
    with own.client() as client:
        ids = [post_log(client, unique, f"entry {number}\té\"", via="amqp").headers["x-flexi-id"] for number in range(20)]
        envelope(client.post("/handle", json={"action": "mail", "mail": {"to": "you@example.com", "subject": unique, "message": "m"}}), 202)
        eventually(lambda: len(all_logs(client, name=unique)) == 20, "all are stored")
        before = {entry["id"]: entry for entry in all_logs(client)}
        users = envelope(client.get("/users"), 200)["data"]
    exported = run_cli("export", "all", file, "--data-dir", own.data_dir)
    assert f"exported 1 users and {len(before)} log entries" in ok(exported) and "password hashes" in exported.stderr
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    read = lines_of(file)
    assert (read[0]["type"], read[0]["version"], read[0]["what"], read[0]["from"]) == ("export", 1, "all", str(own.data_dir))
    assert read[-1]["type"] == "end" and read[-1]["logs"] == len(before)
    body = file.read_bytes()
    assert read[-1]["sha256"] == hashlib.sha256(body[:body.rindex(b"\n", 0, -1) + 1]).hexdigest()

    assert f"imported 1 users and {len(before)} log entries into {folder}; there already: 0 users and 0 log entries" in ok(run_cli("import", file, "--to", folder))
    assert f"imported 0 users and 0 log entries into {folder}; there already: 1 users and {len(before)} log entries" in ok(run_cli("import", file, "--to", folder))
    with make_instance(data_dir=folder).start().client() as client:
        assert {entry["id"]: entry for entry in all_logs(client)} == before, "times, traces, hops and ways, too"
        assert envelope(client.get("/users"), 200)["data"] == users
        envelope(client.post("/authenticate", json=EXAMPLE_USER), 202)
        receipt = envelope(client.get(f"/receipts/{ids[0]}"), 200)["data"]
        assert receipt["state"] == "stored" and receipt["way"] == "amqp"
        # The other ledger has them; here a login's entry alone was accepted.
        ledger = envelope(client.get("/ledger"), 200)["data"]
        assert ledger["accepted"] == ledger["stored"] == 1 and ledger["adds_up"], ledger
        # An id that was moved is the same message here.
        again = post_log(client, unique, before[ids[0]]["data"], headers={"Idempotency-Key": ids[0]}, ack="stored", via="inproc")
        assert envelope(again, 202) and again.headers["x-flexi-duplicate"] == "true"


def test_only_a_part_moves(own, tmp_path):
    ok(run_cli("export", "users", tmp_path / "users.jsonl", "--data-dir", own.data_dir))
    assert [line["type"] for line in lines_of(tmp_path / "users.jsonl")] == ["export", "user", "checkpoint", "end"]
    with own.client() as client:
        post_log(client, "x", "y", via="inproc")
    ok(run_cli("export", "all", tmp_path / "all.jsonl", "--data-dir", own.data_dir))
    assert "imported 1 log entries" in ok(run_cli("import", tmp_path / "all.jsonl", "--only", "logs", "--to", tmp_path / "new"))
    refused = run_cli("import", tmp_path / "users.jsonl", "--only", "logs", "--to", tmp_path / "new")
    assert refused.returncode == 1 and "holds no logs" in refused.stderr


def test_an_import_that_was_killed_goes_on(tmp_path):
    file, folder, entries = tmp_path / "moving.jsonl", tmp_path / "new", 20_000
    write_export(file, entries)
    killed = 0
    for goal in (1, 4_000, 10_000):
        importing = start("import", file, "--to", folder)
        try:
            eventually(lambda: count(folder) >= goal or importing.poll() is not None, f"{goal} are there", interval=0.005)
        finally:
            importing.kill()
        killed += importing.wait() != 0
    there = count(folder)
    assert killed and there > 0
    said = ok(run_cli("import", file, "--to", folder))
    assert f"imported {entries - there} log entries" in said and f"there already: {there} log entries" in said
    assert count(folder) == entries
    ok(run_cli("export", "logs", tmp_path / "back.jsonl", "--from", folder))
    key = lambda line: line["id"]
    logs = lambda name: sorted((line for line in lines_of(tmp_path / name) if line["type"] == "log"), key=key)
    assert [(line["id"], line["data"], line["updated_at"][:19]) for line in logs("back.jsonl")] == [(line["id"], line["data"], line["updated_at"][:19]) for line in logs("moving.jsonl")]


def test_an_export_that_was_killed_goes_on(tmp_path):
    source, folder, file, entries = tmp_path / "moving.jsonl", tmp_path / "data", tmp_path / "out.jsonl", 20_000
    write_export(source, entries)
    ok(run_cli("import", source, "--to", folder))
    partial = tmp_path / "out.jsonl.partial"
    exporting = start("export", "logs", file, "--from", folder)
    try:
        eventually(lambda: (partial.exists() and partial.stat().st_size > 300_000) or exporting.poll() is not None, "a part is written", interval=0.0005)
    finally:
        exporting.kill()
    assert exporting.wait() != 0 and not file.exists(), "killed in the middle"
    refused = run_cli("export", "all", file, "--from", folder)
    assert refused.returncode == 1 and "is of another export" in refused.stderr
    again = run_cli("export", "logs", file, "--from", folder)
    assert f"exported {entries} log entries" in ok(again) and "going on behind" in again.stderr
    assert not partial.exists()
    ids = [line["id"] for line in lines_of(file) if line["type"] == "log"]
    assert len(ids) == len(set(ids)) == entries


def test_a_file_that_is_cut_short_is_named_with_its_line_and_changes_nothing(tmp_path):
    file, folder = tmp_path / "moving.jsonl", tmp_path / "new"
    write_export(file, 1000)
    whole = file.read_bytes()
    for size, line in ((len(whole) - 1, 1002), (whole.index(b'"moved-500"'), 502), (whole.rindex(b"\n", 0, -1) + 1, 1002)):
        file.write_bytes(whole[:size])
        refused = run_cli("import", file, "--to", folder)
        assert refused.returncode == 1 and f"line {line}: " in refused.stderr, refused.stderr
        assert count(folder) == 0
    refused = run_cli("export", "logs", file, "--from", folder)
    assert refused.returncode == 1 and "exists already" in refused.stderr
    refused = run_cli("export", "logs", tmp_path / "none", "--from", tmp_path / "nowhere")
    assert refused.returncode == 1 and "no FlexiConnect data" in refused.stderr


def test_a_bar_shows_how_far_it_is(tmp_path):
    file = tmp_path / "moving.jsonl"
    write_export(file, 20_000)
    for arguments, shown in ((("import", file, "--to", tmp_path / "new"), b"20000 log entries 100 % [###"),
                             (("export", "logs", tmp_path / "again.jsonl", "--from", tmp_path / "new"), b"20000 log entries 100 % [###")):
        terminal = OnTerminal(*arguments)
        terminal.read_until(shown)
        assert terminal.end()[0] == 0


@pytest.mark.parametrize("conflict", ["id", "log"])
def test_what_is_anothers_is_named_and_left_out(own, tmp_path, conflict, unique):
    file = tmp_path / "moving.jsonl"
    with own.client() as client:
        post_log(client, unique, "first", headers={"Idempotency-Key": unique}, via="inproc")
    ok(run_cli("export", "all", file, "--data-dir", own.data_dir))
    folder = tmp_path / "new"
    if conflict == "id":
        ok(run_cli("users", "add", "somebody@example.com", "--create", "--data-dir", folder, stdin="verysecret\n"))
        expected = "user 1 (admin@example.com)"
    else:
        other = tmp_path / "other.jsonl"
        write_export(other, 1)
        text = other.read_text().replace("moved-0", unique)
        body = text[: text.rindex("\n", 0, -1) + 1]
        end = json.loads(text.splitlines()[-1]) | {"sha256": hashlib.sha256(body.encode()).hexdigest()}
        other.write_text(body + json.dumps(end) + "\n")
        ok(run_cli("import", other, "--to", folder))
        expected = f"log entry {unique}"
    refused = run_cli("import", file, "--to", folder)
    assert refused.returncode == 1 and expected in refused.stderr and "1 of the file's are left out" in refused.stderr
