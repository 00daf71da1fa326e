# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints, and exit codes that scripts can use (0 done, 1 refused, 2 usage, 3 unreachable)."""

import json
import os
import pty
import re
import select
import subprocess
import threading

import pytest
from conftest import BINARY, DIRECT, all_logs, clean_environment, embedded_only, envelope, eventually, post_log, run_cli
from test_dead_letters import poison

NOWHERE = "http://127.0.0.1:1"


def ok(result):
    assert result.returncode == 0, f"{result.returncode}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def test_help_teaches(tmp_path):
    text = ok(run_cli("--help", cwd=tmp_path))
    for word in ("send", "tail", "users", "dlq", "healthcheck", "check-config", "print-config", "version", "completion", "backup", "restore", "export", "import"):
        assert word in text, word
    for command in ("send", "tail", "users", "dlq", "backup", "export", "import", "check-config"):
        assert "--help" in ok(run_cli(command, "--help", cwd=tmp_path)) or command in ok(run_cli(command, "--help", cwd=tmp_path))
    assert list(tmp_path.iterdir()) == [], "asking for help leaves nothing behind"


def test_help_begins_with_the_commands_and_examples():
    text = ok(run_cli("--help"))
    assert len(text.splitlines()) < 80, "a page or two, not all settings"
    assert text.index("send") < text.index("Examples:") < text.index("--config")
    assert "--http-max-connections" not in text and "--help-all" in text
    everything = ok(run_cli("--help-all"))
    assert "--http-listen" in everything and everything.index("Examples:") < everything.index("--http-listen")
    assert "--http-listen" in ok(run_cli("logger", "--help-all"))


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


def test_completion_offers_a_roles_settings():
    script = ok(run_cli("completion", "bash")) + '\nCOMP_WORDS=(flexiconnect logger --http-li); COMP_CWORD=2; _flexiconnect; echo "${COMPREPLY[@]}"\n'
    offered = subprocess.run(["bash"], input=script, text=True, capture_output=True, check=True).stdout.split()
    assert "--http-listen" in offered


def test_a_typing_error_in_a_field_is_not_dropped(shared, http, unique):
    for arguments, said in ((["log", f"name={unique}", "data=b", "extra=c"], "extra"), (["mail", "to=a@example.com", "text=x"], "text"),
                            (["auth", "mail=a@example.com"], "mail"), (["log", "--payload", json.dumps({"name": unique, "data": "x"}), "name=zzz"], "--payload")):
        result = run_cli("send", *arguments, "--url", shared.url, stdin="verysecret\n")
        assert result.returncode == 2 and said in result.stderr, (arguments, result)
    assert all_logs(http, name=unique) == []
    ok(run_cli("send", "log", "--payload", json.dumps({"name": unique, "data": "x"}), "--url", shared.url))


def test_send_many_as_json(shared, http, unique):
    lines = ok(run_cli("send", "log", f"name={unique}", "data=x", "--repeat", "3", "--json", "--via", DIRECT, "--ack", "stored", "--url", shared.url)).splitlines()
    answers = [json.loads(line) for line in lines]
    assert len(answers) == 3 and {answer["id"] for answer in answers} == {entry["id"] for entry in all_logs(http, name=unique)}


def test_send_log(http, shared, unique):
    assert "logger via RabbitMQ" in ok(run_cli("send", "log", f"name={unique}", "data=from the shell", "--url", shared.url))
    assert eventually(lambda: all_logs(http, name=unique), "it arrives")[0]["data"] == "from the shell"
    answer = json.loads(ok(run_cli("send", "log", f"name={unique}", "data=x", "--via", DIRECT, "--ack", "stored", "--key", unique, "--json", "--url", shared.url)))
    assert answer["error"] is False and answer["message"] == "logged" and answer["way"] == DIRECT and answer["id"]


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
        eventually(lambda: post_log(http, unique, "live", via=DIRECT) and got, "an entry shows", interval=0.1)
        assert json.loads(got[0])["data"] == "live"
    finally:
        process.terminate()
        process.wait(10)


def test_tail_shows_what_is_there(shared, http, unique):
    for number in range(3):
        envelope(post_log(http, unique, f"line {number}", via=DIRECT), 202)
    text = ok(run_cli("tail", "--no-follow", "--name", unique, "--lines", "2", "--url", shared.url))
    assert [line.rsplit("  ", 1)[1] for line in text.splitlines()] == ["line 1", "line 2"], "oldest first, as tail(1) does"


class FollowingTail:
    """`flexiconnect tail --json`; what it prints and says is collected."""

    def __init__(self, url, *arguments):
        self.process = subprocess.Popen([str(BINARY), "tail", "--json", "--url", url, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=clean_environment({}))
        self.shown, self.said = [], []
        for stream, lines in ((self.process.stdout, self.shown), (self.process.stderr, self.said)):
            threading.Thread(target=lambda stream=stream, lines=lines: [lines.append(line) for line in stream], daemon=True).start()

    def data(self):
        return [json.loads(line)["data"] for line in list(self.shown)]

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


def test_tail_shows_each_entry_once_also_at_the_seam(shared, http, unique):
    """Entries come all the time while one tail after another begins: none falls between the list and the stream."""
    sent, stop = [], threading.Event()

    def send():
        with shared.client() as client:
            while not stop.is_set():
                number = str(len(sent))
                envelope(post_log(client, unique, number, via=DIRECT, ack="stored"), 202)
                sent.append(number)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        for _ in range(5):
            eventually(lambda: len(sent) > 20, "some are there")
            tail = FollowingTail(shared.url, "--name", unique, "--lines", "5")
            try:
                eventually(lambda: len(tail.data()) > 40, "it follows")
            finally:
                tail.stop()
            numbers = [int(number) for number in tail.data()]
            assert sorted(numbers) == list(range(min(numbers), min(numbers) + len(numbers))), "each once, and none left out"
    finally:
        stop.set()
        sender.join(10)


@embedded_only("the doors of one process")
def test_tail_comes_back_with_its_server_and_shows_what_it_missed(make_instance, unique):
    instance = make_instance().start()
    url, settings = instance.url, {"FLEXI_HTTP_LISTEN": f"127.0.0.1:{instance.port}"}
    tail = FollowingTail(url, "--name", unique)
    try:
        with instance.client() as client:
            eventually(lambda: post_log(client, unique, "before", via=DIRECT, ack="stored") and tail.data(), "it follows", interval=0.2)
        instance.terminate()
        eventually(lambda: "connecting again" in "".join(tail.said), "it says so")
        instance.settings |= settings | {"FLEXI_LOGGER_TAIL_READERS": "0"}  # entries come while it is refused
        instance.start()
        with instance.client() as client:
            for number in range(20):
                envelope(post_log(client, unique, f"missed {number}", via=DIRECT, ack="stored"), 202)
        instance.terminate()
        instance.settings |= {"FLEXI_LOGGER_TAIL_READERS": "10"}
        instance.start()
        eventually(lambda: "missed 19" in tail.data(), "it catches up")
        assert "connected again" in "".join(tail.said)
        with instance.client() as client:
            envelope(post_log(client, unique, "after", via=DIRECT, ack="stored"), 202)
        eventually(lambda: "after" in tail.data(), "it follows again")
        assert [entry for entry in tail.data() if entry != "before"] == [f"missed {number}" for number in range(20)] + ["after"]
        assert len(set(tail.shown)) == len(tail.shown)
    finally:
        tail.stop()


def test_tail_says_why_it_ends(make_instance, tmp_path):
    instance = make_instance(settings={"FLEXI_LOGGER_TAIL_READERS": "0"}).start()
    refused = run_cli("tail", "--url", instance.url)
    assert refused.returncode == 1 and "429" in refused.stderr and "answered" not in refused.stderr, "the server's own reason"
    assert len(refused.stderr) > len("flexiconnect:  (429)\n") + 10, refused.stderr
    instance.terminate()

    instance = make_instance().start()
    tail = FollowingTail(instance.url, "--reconnect-for", "1")
    with instance.client() as client:
        eventually(lambda: post_log(client, "n", "d", via=DIRECT) and tail.data(), "it follows", interval=0.2)
    instance.terminate()
    assert tail.process.wait(20) == 3
    eventually(lambda: "gave up after 1 s" in "".join(tail.said), "it says so")


def test_a_terminal_is_not_driven_by_data(shared, http, unique):
    envelope(post_log(http, unique, "red\x1b[31m alert\x07", via=DIRECT), 202)
    text = ok(run_cli("tail", "--no-follow", "--name", unique, "--url", shared.url))
    assert "\x1b" not in text and "\x07" not in text


# --- users

@pytest.fixture
def users(own):
    return own.users


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


@embedded_only("the embedded store's files")
def test_an_account_is_not_put_where_no_server_looks(tmp_path):
    result = run_cli("users", "add", "ada@example.com", stdin="analytical engine\n", cwd=tmp_path)
    assert result.returncode == 1 and str(tmp_path / "flexiconnect-data") in result.stderr and "--data-dir" in result.stderr and "--create" in result.stderr
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "flexiconnect-data-authentication").mkdir()
    assert "flexiconnect-data-authentication" in run_cli("users", "list", cwd=tmp_path).stderr
    ok(run_cli("users", "add", "ada@example.com", "--create", "--data-dir", tmp_path / "new", stdin="analytical engine\n"))
    assert "ada@example.com" in ok(run_cli("users", "list", "--data-dir", tmp_path / "new"))


# --- what is asked of people only

class OnTerminal:
    """The command with a terminal as standard input and standard error."""

    def __init__(self, *arguments):
        self.terminal, end = pty.openpty()
        self.process = subprocess.Popen([str(BINARY), *map(str, arguments)], stdin=end, stdout=subprocess.PIPE, stderr=end, env=clean_environment({}), start_new_session=True)
        os.close(end)
        self.said = b""

    def read_until(self, words):
        while words not in self.said:
            assert select.select([self.terminal], [], [], 30)[0], self.said
            try:
                chunk = os.read(self.terminal, 4096)
            except OSError:  # the other end is closed
                chunk = b""
            assert chunk, self.said
            self.said += chunk

    def answer(self, question, line):
        self.read_until(question)
        self.said = b""
        os.write(self.terminal, line + b"\n")

    def end(self):
        out, _ = self.process.communicate(timeout=30)
        os.close(self.terminal)
        return self.process.returncode, out.decode()


@embedded_only("the embedded store's files")
@pytest.mark.parametrize("second, code", [(b"analytical engine", 0), (b"analytical engien", 1)])
def test_a_new_password_is_typed_twice(own, users, second, code):
    terminal = OnTerminal("users", "add", "ada@example.com", "--data-dir", own.data_dir)
    terminal.answer(b"New password: ", b"analytical engine")
    terminal.answer(b"again: ", second)
    if code:
        terminal.read_until(b"differ")
    assert terminal.end()[0] == code
    assert ("ada@example.com" in ok(users("list"))) == (code == 0)


def test_all_are_discarded_only_when_that_is_meant(own, unique):
    with own.client() as client:
        for number in range(2):
            poison(client, f"{unique}{number}")
        left = lambda: len(envelope(client.get("/dlq"), 200)["data"])
        terminal = OnTerminal("dlq", "discard", "--all", "--url", own.url)
        terminal.answer(b"[y/N] ", b"")
        assert terminal.end()[0] == 1 and left() == 2
        terminal = OnTerminal("dlq", "discard", "--all", "--url", own.url)
        terminal.answer(b"Discard all failed messages for good? [y/N] ", b"y")
        assert terminal.end() == (0, "2 discarded\n") and left() == 0
        poison(client, unique)
        terminal = OnTerminal("dlq", "discard", "--all", "--yes", "--url", own.url)
        assert terminal.end()[0] == 0 and left() == 0
        poison(client, unique + "last")
        assert json.loads(ok(run_cli("dlq", "discard", "--all", "--json", "--url", own.url))) == {"discarded": 1}, "a script is not asked"


def test_a_long_list_of_failed_messages_goes_on(own, unique):
    with own.client() as client:
        ids = {poison(client, f"{unique}{number}")["id"] for number in range(3)}
        first = run_cli("dlq", "list", "--limit", "2", "--json", "--url", own.url)
        cursor = re.search(r"--cursor (\S+)", first.stderr).group(1)
        second = run_cli("dlq", "list", "--limit", "2", "--json", "--cursor", cursor, "--url", own.url)
        assert {letter["id"] for part in (first, second) for letter in json.loads(ok(part))} == ids
        assert "--cursor" not in second.stderr
        one = sorted(ids)[0]
        assert json.loads(ok(run_cli("dlq", "discard", one, "--json", "--url", own.url)))["message"] == "discarded"
        assert json.loads(ok(run_cli("dlq", "replay", "--all", "--json", "--url", own.url))) == {"replayed": 2}


@embedded_only("the embedded store's files")
def test_backup_and_restore_say_how_far_they_are(own, tmp_path):
    for arguments in (("backup", tmp_path / "saved.db", "--data-dir", own.data_dir), ("restore", tmp_path / "saved.db", "--data-dir", tmp_path / "new")):
        terminal = OnTerminal(*arguments)
        terminal.read_until(b"copying 100 %")
        assert terminal.end()[0] == 0
    assert "%" not in run_cli("backup", tmp_path / "again.db", "--data-dir", own.data_dir).stderr, "on a terminal only"


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


@embedded_only("the doors of one process")
def test_a_wrong_setting_refuses_to_start(make_instance):
    instance = make_instance(settings={"FLEXI_HTTP_LISTEN": "nowhere"})
    with pytest.raises(pytest.fail.Exception):
        instance.start()
    assert "listen" in instance.log() and instance.process.wait(10) not in (0, -6, -11)


@embedded_only("the doors of one process")
def test_a_taken_port_is_told(make_instance, shared):
    instance = make_instance(settings={"FLEXI_HTTP_LISTEN": f"127.0.0.1:{shared.port}"})
    with pytest.raises(pytest.fail.Exception):
        instance.start()
    assert str(shared.port) in instance.log() and instance.process.wait(10) not in (0, -6, -11)


# --- backup

@embedded_only("the embedded store's files")
def test_backup_of_a_running_instance_and_restore(make_instance, tmp_path):
    instance = make_instance().start()
    with instance.client() as client:
        for number in range(20):
            envelope(post_log(client, "backup", str(number), via=DIRECT), 202)
        envelope(client.post("/send", json={"to": "you@example.com", "subject": "kept", "message": "m"}), 202)
        archive = tmp_path / "backup.flexi"
        ok(run_cli("backup", archive, "--data-dir", instance.data_dir))
        envelope(post_log(client, "backup", "later", via=DIRECT), 202)
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
