# SPDX-License-Identifier: Apache-2.0
"""One line in the log per failed request, whichever way it took inside."""

import json
import pathlib
import signal
import subprocess

import pytest
from conftest import BINARY, clean_environment, envelope, eventually, post_log


def lines_about(instance, id):
    lines = [line for file in instance.log_files for line in file.read_text().splitlines()]
    return [entry for entry in map(json.loads, filter(lambda line: line.startswith("{"), lines)) if entry.get("id") == id]


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("not run: can't mount a tmpfs here")
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


@pytest.mark.parametrize("way", [{"via": "inproc"}, {"via": "http"}, {"via": "auto"}, {"via": "amqp", "ack": "stored"}, {"via": "amqp"}], ids=lambda way: "-".join(way.values()))
def test_a_failed_request_is_one_warning(make_instance, small_disk, way):
    instance = make_instance(data_dir=small_disk / "data").start()
    with instance.client() as client:
        fill(small_disk)
        for number in range(2000):
            response = post_log(client, "full", f"{number} " + "x" * 20000, **({"ack": "stored"} | way))
            if response.status_code != 202:
                break
        envelope(response, 503)
        warnings = [line for line in lines_about(instance, response.headers["x-flexi-id"]) if line["level"] in ("warning", "error")]
        assert len(warnings) == 1, warnings
        assert warnings[0]["event"] == "request failed" and warnings[0]["kind"] == "unavailable"
        (small_disk / "filler").unlink()


def test_a_mistake_of_the_callers_is_no_warning(own):
    with own.client() as client:
        response = client.post("/handle", json={"action": "auth", "auth": {"email": "nobody@example.com", "password": "x"}})
        refused = client.post("/handle", json={"action": "log", "via": "http", "log": {"name": ""}})
    envelope(refused, 400)
    assert [line for line in lines_about(own, refused.headers.get("x-flexi-id")) if line["level"] == "warning"] == []
    assert len([line for line in lines_about(own, response.headers["x-flexi-id"]) if line["level"] == "warning"]) <= 1


def test_what_the_queue_tries_again_is_said_once_and_what_it_gives_up_on_too(make_instance):
    """A duplicate id with another payload can't be stored by the logger: it is dead at once, and said so once."""
    instance = make_instance().start()
    with instance.client() as client:
        envelope(client.post("/log", json={"name": "a", "data": "1"}, headers={"X-Flexi-Id": "taken"}), 202)
        envelope(post_log(client, "b", "2", headers={"Idempotency-Key": "taken"}, via="amqp", ack="accepted"), 202)
        eventually(lambda: client.get("/dlq").json()["data"], "a dead letter")
    lines = [line for line in lines_about(instance, "taken") if line["level"] in ("warning", "error")]
    assert [line["event"] for line in lines] == ["message dead-lettered"], lines
    assert "conflict" in lines[0]["reason"]


# --- what does not start says why

def start_fails(folder, settings):
    process = subprocess.Popen([str(BINARY)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=clean_environment(settings), text=True)
    try:
        _, said = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        pytest.fail("it started")
    assert process.returncode != 0
    return said


@pytest.mark.parametrize("size", [50, 200_000])
def test_a_file_that_is_no_database_is_named_with_what_to_do(tmp_path, make_instance, size):
    instance = make_instance().start()
    instance.terminate()
    databases = list(pathlib.Path(instance.data_dir).glob("*.db"))
    assert len(databases) == 1
    for file in pathlib.Path(instance.data_dir).glob("*.db*"):
        file.write_bytes(b"garbage " * (size // 8)) if file == databases[0] else file.unlink()
    said = start_fails(tmp_path, {"FLEXI_HTTP_LISTEN": "127.0.0.1:0", "FLEXI_DATA_DIR": instance.data_dir})
    assert str(databases[0]) in said and "backup" in said and "restore" in said, said
    assert "internal" not in said


@pytest.mark.parametrize("listen", ["nohost.invalid:8080", "logger:8080", "1.2.3:80"])
def test_a_name_to_listen_on_is_refused_by_check_config(tmp_path, listen):
    result = subprocess.run([str(BINARY), "check-config"], capture_output=True, text=True, cwd=tmp_path, env=clean_environment({"FLEXI_HTTP_LISTEN": listen}))
    assert result.returncode != 0
    said = result.stdout + result.stderr
    assert "http.listen" in said and listen in said and "IP address" in said, said


@pytest.mark.parametrize("listen", ["localhost:0", "127.0.0.1:8080", "[::1]:80", "0.0.0.0:80"])
def test_what_can_be_listened_on_passes(tmp_path, listen):
    result = subprocess.run([str(BINARY), "check-config"], capture_output=True, text=True, cwd=tmp_path, env=clean_environment({"FLEXI_HTTP_LISTEN": listen}))
    assert result.returncode == 0, result.stdout + result.stderr
