# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints, and exit codes that scripts can use (0 done, 1 refused, 2 usage, 3 unreachable)."""

import json
import re
import subprocess
import threading

import pytest
from conftest import BINARY, all_logs, clean_environment, envelope, eventually, post_log, run_cli

NOWHERE = "http://127.0.0.1:1"


def ok(result):
    assert result.returncode == 0, f"{result.returncode}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def test_help_teaches(tmp_path):
    text = ok(run_cli("--help", cwd=tmp_path))
    for word in ("send", "tail", "users", "dlq", "healthcheck", "check-config", "print-config", "version", "completion", "backup", "restore"):
        assert word in text, word
    for command in ("send", "tail", "users", "dlq", "backup", "check-config"):
        assert "--help" in ok(run_cli(command, "--help", cwd=tmp_path)) or command in ok(run_cli(command, "--help", cwd=tmp_path))
    assert list(tmp_path.iterdir()) == [], "asking for help leaves nothing behind"


def test_version():
    assert re.search(r"\d+\.\d+\.\d+", ok(run_cli("version")))


@pytest.mark.parametrize("arguments", [["no-such-command"], ["send"], ["--no-such-flag"], ["dlq", "show"], ["users", "add"], ["dlq", "replay"]])
def test_wrong_usage_is_2(arguments):
    result = run_cli(*arguments)
    assert result.returncode == 2 and result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell):
    text = ok(run_cli("completion", shell))
    assert "flexiconnect" in text and "healthcheck" in text
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_send_log(http, shared, unique):
    assert "logger via RabbitMQ" in ok(run_cli("send", "log", f"name={unique}", "data=from the shell", "--url", shared.url))
    assert eventually(lambda: all_logs(http, name=unique), "it arrives")[0]["data"] == "from the shell"
    answer = json.loads(ok(run_cli("send", "log", f"name={unique}", "data=x", "--via", "inproc", "--ack", "stored", "--key", unique, "--json", "--url", shared.url)))
    assert answer["error"] is False and answer["message"] == "logged" and answer["way"] == "inproc" and answer["id"]


def test_send_mail_and_auth(shared):
    assert "Message sent to you@example.com" in ok(run_cli("send", "mail", "to=you@example.com", "subject=Hi", "message=Hello", "--url", shared.url))
    assert "Authenticated" in ok(run_cli("send", "auth", "email=admin@example.com", "--url", shared.url, stdin="verysecret\n"))
    wrong = run_cli("send", "auth", "email=admin@example.com", "--url", shared.url, stdin="wrong\n")
    assert wrong.returncode == 1 and "invalid credentials" in wrong.stderr


def test_a_password_is_never_an_argument(shared):
    result = run_cli("send", "auth", "email=admin@example.com", "password=verysecret", "--url", shared.url)
    assert result.returncode == 2 and "verysecret" not in result.stderr


def test_refused_and_unreachable(shared):
    assert run_cli("send", "log", "name=x", "data=y", "--via", "pigeon", "--url", shared.url).returncode in (1, 2)
    for arguments in (["send", "log", "name=x", "data=y"], ["dlq", "list"], ["tail", "--no-follow"], ["tail"], ["healthcheck"]):
        result = run_cli(*arguments, "--url", NOWHERE)
        assert result.returncode == 3 and result.stderr, arguments


def test_healthcheck(shared):
    ok(run_cli("healthcheck", "--url", shared.url))


def test_tail_follows(shared, http, unique):
    process = subprocess.Popen([str(BINARY), "tail", "--lines", "0", "--name", unique, "--json", "--url", shared.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=clean_environment({}))
    try:
        # It says nothing when it has begun to listen, so entries are sent until one shows.
        got = []
        reader = threading.Thread(target=lambda: got.append(process.stdout.readline()), daemon=True)
        reader.start()
        eventually(lambda: post_log(http, unique, "live", via="inproc") and got, "an entry shows", interval=0.1)
        assert json.loads(got[0])["data"] == "live"
    finally:
        process.terminate()
        process.wait(10)


def test_tail_shows_what_is_there(shared, http, unique):
    for number in range(3):
        envelope(post_log(http, unique, f"line {number}", via="inproc"), 202)
    text = ok(run_cli("tail", "--no-follow", "--name", unique, "--lines", "2", "--url", shared.url))
    assert [line.rsplit("  ", 1)[1] for line in text.splitlines()] == ["line 1", "line 2"], "oldest first, as tail(1) does"


def test_a_terminal_is_not_driven_by_data(shared, http, unique):
    envelope(post_log(http, unique, "red\x1b[31m alert\x07", via="inproc"), 202)
    text = ok(run_cli("tail", "--no-follow", "--name", unique, "--url", shared.url))
    assert "\x1b" not in text and "\x07" not in text


# --- users

@pytest.fixture
def users(own):
    def run(*arguments, stdin=""):
        return run_cli("users", *arguments, "--data-dir", own.data_dir, stdin=stdin)
    return run


def login(client, email, password):
    return client.post("/authenticate", json={"email": email, "password": password}).status_code


def test_users_beside_a_running_server(own, users):
    ada = "ada@example.com"
    with own.client() as client:
        ok(users("add", ada, "--first-name", "Ada", "--last-name", "Lovelace", stdin="analytical engine\n"))
        assert login(client, ada, "analytical engine") == 202
        listed = json.loads(ok(users("list", "--json")))
        assert [user["email"] for user in listed] == [ada, "admin@example.com"], "by last name"
        assert "password" not in str(listed) and "$2" not in str(listed)
        assert users("add", ada, stdin="another one\n").returncode == 1, "there is one already"

        ok(users("disable", ada))
        assert login(client, ada, "analytical engine") == 401
        ok(users("enable", ada))
        assert login(client, ada, "analytical engine") == 202

        ok(users("reset-password", ada, stdin="difference engine\n"))
        assert login(client, ada, "analytical engine") == 401
        assert login(client, ada, "difference engine") == 202

        ok(users("delete", ada))
        assert login(client, ada, "difference engine") == 401
        assert users("delete", ada).returncode == 1


@pytest.mark.parametrize("password", ["", "x" * 73])
def test_passwords_that_can_not_be(users, password):
    result = users("add", "bob@example.com", stdin=password + "\n")
    assert result.returncode in (1, 2) and "password" in result.stderr.lower()


# --- configuration

def test_check_config_tells_every_problem_at_once(tmp_path):
    config = tmp_path / "flexiconnect.toml"
    config.write_text('[http]\nlistn = "127.0.0.1:0"\nmax_body_bytes = "many"\n\n[nonsense]\nx = 1\n')
    result = run_cli("check-config", "--config", config, settings={"FLEXI_HTTP_LITSEN": "x"})
    text = result.stdout + result.stderr
    assert result.returncode in (1, 2)
    for word in ("listn", "http.listen", "max_body_bytes", "nonsense", "FLEXI_HTTP_LITSEN", "FLEXI_HTTP_LISTEN"):
        assert word in text, f"{word} not in {text}"


def test_check_config_of_good_settings(tmp_path):
    ok(run_cli("check-config", cwd=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_print_config_round_trips(tmp_path):
    first = ok(run_cli("print-config", settings={"FLEXI_HTTP_MAX_BODY_BYTES": "2048"}))
    assert re.search(r"max_body_bytes\s*=\s*2048", first)
    config = tmp_path / "flexiconnect.toml"
    config.write_text(first)
    ok(run_cli("check-config", "--config", config))
    assert ok(run_cli("print-config", "--config", config)) == first


def test_print_config_round_trips_with_a_secret(tmp_path):
    settings = {"FLEXI_SMTP_HOST": "mail.example.com", "FLEXI_SMTP_USERNAME": "me", "FLEXI_SMTP_PASSWORD": "open sesame"}
    first = ok(run_cli("print-config", settings=settings, cwd=tmp_path))
    assert "open sesame" not in first and re.search(r'^# password = "\*\*\*"', first, re.M)
    config = tmp_path / "saved.toml"
    config.write_text(first)
    secret = {"FLEXI_SMTP_PASSWORD": "open sesame"}
    assert ok(run_cli("print-config", "--config", config, settings=secret)) == first
    without = ok(run_cli("print-config", "--config", config))
    assert re.search(r'^password = ""$', without, re.M), "no secret is made of its sign"
    config.write_text('[smtp]\npassword = "***"\n')
    result = run_cli("check-config", "--config", config)
    assert result.returncode == 1 and "smtp.password" in result.stderr


def test_check_config_looks_at_the_files_and_addresses_that_a_start_needs(tmp_path):
    settings = {"FLEXI_ADMIN_TOKEN_FILE": tmp_path / "none", "FLEXI_SMTP_HOST": "mail.example.com", "FLEXI_SMTP_CA_FILE": tmp_path / "ca.pem",
                "FLEXI_HTTP_LISTEN": "127.0.0.1:9000", "FLEXI_GRPC_LISTEN": "0.0.0.0:9000", "FLEXI_DATA_DIR": tmp_path / "data"}
    for arguments in (["check-config"], []):
        result = run_cli(*arguments, settings=settings, cwd=tmp_path)
        assert result.returncode == 1
        for word in ("admin_token_file", "smtp.ca_file", "grpc.listen"):
            assert word in result.stderr, result.stderr
    assert list(tmp_path.iterdir()) == []


def test_flags_win_over_environment_over_file(tmp_path):
    config = tmp_path / "flexiconnect.toml"
    config.write_text("[http]\nmax_body_bytes = 1111\nmax_header_bytes = 2222\nmax_connections = 3333\n")
    text = ok(run_cli("print-config", "--config", config, "--http-max-connections", "5555", settings={"FLEXI_HTTP_MAX_HEADER_BYTES": "4444", "FLEXI_HTTP_MAX_CONNECTIONS": "4444"}))
    for line in (r"max_body_bytes\s*=\s*1111", r"max_header_bytes\s*=\s*4444", r"max_connections\s*=\s*5555"):
        assert re.search(line, text), line


def test_a_wrong_setting_refuses_to_start(make_instance):
    instance = make_instance(settings={"FLEXI_HTTP_LISTEN": "nowhere"})
    with pytest.raises(pytest.fail.Exception):
        instance.start()
    assert "listen" in instance.log() and instance.process.wait(10) not in (0, -6, -11)


def test_a_taken_port_is_told(make_instance, shared):
    instance = make_instance(settings={"FLEXI_HTTP_LISTEN": f"127.0.0.1:{shared.port}"})
    with pytest.raises(pytest.fail.Exception):
        instance.start()
    assert str(shared.port) in instance.log() and instance.process.wait(10) not in (0, -6, -11)


# --- backup

def test_backup_of_a_running_instance_and_restore(make_instance, tmp_path):
    instance = make_instance().start()
    with instance.client() as client:
        for number in range(20):
            envelope(post_log(client, "backup", str(number), via="inproc"), 202)
        envelope(client.post("/send", json={"to": "you@example.com", "subject": "kept", "message": "m"}), 202)
        archive = tmp_path / "backup.flexi"
        ok(run_cli("backup", archive, "--data-dir", instance.data_dir))
        envelope(post_log(client, "backup", "later", via="inproc"), 202)
    assert archive.stat().st_size > 0 and archive.stat().st_mode & 0o077 == 0, "it holds password hashes"
    assert run_cli("backup", archive, "--data-dir", instance.data_dir).returncode != 0, "an existing file is not overwritten"

    restored = tmp_path / "restored"
    ok(run_cli("restore", archive, "--data-dir", restored))
    assert run_cli("restore", archive, "--data-dir", restored).returncode != 0, "an existing folder is not overwritten"
    copy = make_instance(data_dir=restored).start()
    with copy.client() as client:
        assert sorted(int(entry["data"]) for entry in all_logs(client, name="backup")) == list(range(20))
        assert [mail["subject"] for mail in client.get("/mails").json()["data"]] == ["kept"]
        assert login(client, "admin@example.com", "verysecret") == 202
