# SPDX-License-Identifier: Apache-2.0
"""Mails that go by SMTP: what arrives, how often, and what is said where it does not."""

import base64
import json
import random
import sqlite3
import subprocess
import threading
import time
import uuid

import amqp_support
import pytest
from conftest import envelope, eventually, run_cli
from smtp_support import SmtpServer, subjects, why_not
from ways_in import generated_grpc

BYTES = bytes(range(256)) * 40 + b"\r\n.\r\n--=_flexi\r\n"
QUICK = {"FLEXI_SMTP_DEFERRED_RETRY": "100ms", "FLEXI_QUEUE_RETRY_DELAY": "50ms", "FLEXI_QUEUE_MAX_RETRY_DELAY": "300ms", "FLEXI_SMTP_CONNECT_TIMEOUT": "1s"}


@pytest.fixture
def make_smtp():
    if reason := why_not():
        pytest.skip(reason)
    made = []

    def make(*arguments):
        made.append(SmtpServer(*arguments))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def smtp(make_smtp):
    return make_smtp()


@pytest.fixture
def make_sending(make_instance):
    """An instance whose mails go to a server, by the contract's own names."""

    def make(port, **settings):
        return make_instance(settings={"MAIL_HOST": "127.0.0.1", "MAIL_PORT": port, "MAIL_ENCRYPTION": "", "FROM_ADDRESS": "shop@example.com", "FROM_NAME": "Der Läden"} | QUICK | settings)

    return make


@pytest.fixture
def sending(make_sending, smtp):
    return make_sending(smtp.port).start()


def mail(**fields):
    return {"from": "me@example.com", "to": "you@example.com", "subject": "Hi", "message": "Hello"} | fields


def handle(client, key=None, timeout_ms=None, via="auto", ack=None, **fields):
    headers = ({"Idempotency-Key": key} if key else {}) | ({"X-Flexi-Timeout-Ms": str(timeout_ms)} if timeout_ms else {})
    return client.post("/handle", json={"action": "mail", "via": via, "mail": mail(**fields)} | ({"ack": ack} if ack else {}), headers=headers)


def receipt(client, key):
    return client.get(f"/receipts/{key}").json()["data"]


# --- what arrives


@pytest.fixture
def templates(tmp_path):
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "welcome.html").write_text("<style>.n{color:red} @media print {.n{color:black}}</style><p class=n>Grüß Gott {{name}}</p><ul>{{#items}}<li>{{title}}</li>{{/items}}</ul>{{message}}")
    (folder / "welcome.txt").write_text("Grüß Gott {{name}}{{#items}}\n- {{title}}{{/items}}\n{{message}}\n")
    return folder


WHOLE = {
    "from": "Jürgen Groß <j@bücher.example>", "to": ["A <a@example.com>", "b@example.com"], "cc": "c@example.com", "bcc": ["d@example.com", "a@example.com"],
    "reply_to": "Antworten <r@example.com>", "subject": "Grüße 🦊 " + "lang " * 40, "message": "und <b>mehr</b>", "template": "welcome",
    "data": {"name": "Zoë <script>alert(1)</script>", "items": [{"title": "Äpfel & Birnen"}, {"title": "x"}]},
    "attachments": [{"name": "Rechnung für Zoë.pdf", "content_type": "application/pdf", "content": base64.b64encode(BYTES).decode()},
                    {"name": 'a "quoted"; name.txt', "content_type": "text/plain; charset=utf-8", "content": ""}, {"name": "x.bin", "content": "AA=="}]}


def check_whole(taken):
    assert taken["mail_from"] == "j@xn--bcher-kva.example"
    assert taken["rcpt_tos"] == ["a@example.com", "b@example.com", "c@example.com", "d@example.com"], "each once"
    assert b"d@example.com" not in taken.content, "nobody sees who got a blind copy"
    message = taken.message
    assert message["from"].addresses[0].display_name == "Jürgen Groß"
    assert [a.addr_spec for a in message["to"].addresses] == ["a@example.com", "b@example.com"] and message["to"].addresses[0].display_name == "A"
    assert str(message["cc"]) == "c@example.com" and message["bcc"] is None
    assert message["reply-to"].addresses[0].display_name == "Antworten"
    assert message["subject"] == WHOLE["subject"].rstrip() or message["subject"] == WHOLE["subject"]
    assert message.get_content_type() == "multipart/mixed"
    html, plain = message.get_body(("html",)), message.get_body(("plain",))
    assert html.get_content_charset() == plain.get_content_charset() == "utf-8"
    assert "Grüß Gott Zoë &lt;script&gt;" in html.get_content() and "<script" not in html.get_content()
    assert 'style="color:red"' in html.get_content() and "@media print" in html.get_content()
    assert "<li>Äpfel &amp; Birnen</li><li>x</li>" in html.get_content() and "und &lt;b&gt;mehr" in html.get_content()
    assert plain.get_content().replace("\r\n", "\n") == "Grüß Gott Zoë <script>alert(1)</script>\n- Äpfel & Birnen\n- x\nund <b>mehr</b>\n"
    files = [(part.get_filename(), part.get_content_type(), part.get_payload(decode=True)) for part in message.iter_attachments()]
    assert files == [("Rechnung für Zoë.pdf", "application/pdf", BYTES), ('a "quoted"; name.txt', "text/plain", b""), ("x.bin", "application/octet-stream", b"\0")]
    assert [part.defects for part in message.walk() if part.defects] == [] and all(not header.defects for header in message.values())
    assert max(map(len, taken.content.split(b"\r\n"))) <= 78 and taken.content.isascii()


@pytest.mark.parametrize("via", ["inproc", "http", "grpc", "rpc", "amqp"])
def test_every_field_arrives_by_every_way(make_sending, smtp, templates, via):
    instance = make_sending(smtp.port, FLEXI_MAIL_TEMPLATES_DIR=templates).start()
    with instance.client() as client:
        answer = client.post("/handle", json={"action": "mail", "via": via, "ack": "stored", "mail": WHOLE})
        envelope(answer, 202)
        assert answer.headers["x-flexi-way"].startswith(via)
    check_whole(smtp.taken())


def test_every_field_arrives_from_a_grpc_client(make_sending, smtp, templates):
    import grpc

    instance = make_sending(smtp.port, FLEXI_MAIL_TEMPLATES_DIR=templates).start()
    m, services = generated_grpc()
    endpoint = next(word for word in instance.log().replace('"', " ").split() if word.startswith("grpc://"))
    texts = {name: ", ".join(value) if isinstance(value, list) else value for name, value in WHOLE.items() if name not in ("attachments", "data")}
    request = m.Email(**texts, data=json.dumps(WHOLE["data"]))
    for file in WHOLE["attachments"]:
        request.attachments.add(name=file["name"], content_type=file.get("content_type", ""), content=base64.b64decode(file["content"]))
    with grpc.insecure_channel(endpoint.removeprefix("grpc://"), options=[("grpc.enable_http_proxy", 0)]) as channel:
        services.MailStub(channel).Send(request, timeout=20)
    check_whole(smtp.taken())


def test_a_plain_mail_is_what_it_was(sending, smtp):
    with sending.client() as client:
        assert envelope(client.post("/send", json={"to": "you@example.com", "subject": "Hi", "message": "a\n.\nb"}), 202)["message"] == "sent to you@example.com"
        envelope(client.post("/handle", json={"action": "mail", "mail": {"from": "", "to": "you@example.com", "subject": "Hi", "message": ""}}), 202)
    first, second = smtp.taken(), smtp.taken()
    message = first.message
    assert str(message["from"]) == "Der Läden <shop@example.com>" and first["mail_from"] == "shop@example.com"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert message.get_body(("plain",)).get_content().replace("\r\n", "\n") == "a\n.\nb\n"
    assert first["connections"] == second["connections"] == 1, "the connection is kept"


def test_addresses_beyond_ascii_go_where_the_server_takes_them(make_sending, make_smtp):
    knows, without = make_smtp("--utf8"), make_smtp()
    with make_sending(knows.port).start().client() as client:
        envelope(handle(client, to="用户@例子.广告", cc="ü@example.com"), 202)
        taken = knows.taken()
        assert taken["utf8"] and taken["rcpt_tos"] == ["用户@xn--fsqu00a.xn--4rr70v", "ü@example.com"]
        assert "\r\nCc: ü@example.com\r\n".encode() in taken.content
    with make_sending(without.port).start().client() as client:
        refused = handle(client, to="ü@example.com")
        assert "SMTPUTF8" in envelope(refused, 400)["message"]
        envelope(handle(client, to="you@bücher.example"), 202)
        taken = without.taken()
        assert not taken["utf8"] and taken["rcpt_tos"] == ["you@xn--bcher-kva.example"] and taken.message["to"].addresses[0].addr_spec == "you@xn--bcher-kva.example"


@pytest.mark.parametrize("fields, names", [
    ({"to": "a@example.com\r\nBcc: x@example.com"}, "to"), ({"cc": ["a@example.com\nX: y"]}, "cc"), ({"bcc": "a@example.com\r\n"}, "bcc"), ({"reply_to": "a@example.com\r\nX: y"}, "reply_to"),
    ({"subject": "a\r\nX: y"}, "subject"), ({"from": "A\r\n <a@example.com>"}, "from"), ({"attachments": [{"name": "a\r\nX: y", "content": ""}]}, "attachments[0].name"),
    ({"attachments": [{"name": "a", "content_type": "text/plain\r\nX: y", "content": ""}]}, "attachments[0].content_type"),
    ({"attachments": [{"name": "../../etc/passwd", "content": ""}]}, "attachments[0].name"), ({"attachments": [{"name": "a", "path": "/etc/passwd"}]}, "attachments[0].content"),
    ({"attachments": [{"name": "a", "content": "no base64"}]}, "attachments[0].content"), ({"template": "../mail"}, "template"), ({"template": "other"}, "there are: mail"),
    ({"data": {"a b": 1}}, "data"), ({"to": ["a@example.com"] * 101}, "100 addresses"), ({"attachments": [{"name": "a", "content": ""}] * 21}, "20 files"),
    ({"attachments": [{"name": "a", "content": base64.b64encode(bytes(900_000)).decode()}]}, "at most 1048576 bytes")])
def test_what_can_not_be_sent_is_refused_and_named(sending, smtp, fields, names):
    with sending.client() as client:
        assert names in envelope(handle(client, **fields), 400)["message"]
        assert names in envelope(client.post("/send", json=mail(**fields)), 400)["message"]
        assert client.get("/mails").json()["data"] == []
    assert smtp.all_taken() == []


def test_the_command_line_sends_them_too(make_sending, smtp, templates):
    instance = make_sending(smtp.port, FLEXI_MAIL_TEMPLATES_DIR=templates).start()
    by_fields = run_cli("send", "mail", "--url", instance.url, "to=you@example.com", "cc=c@example.com", "reply_to=r@example.com", "subject=s", "message=m", "template=welcome")
    assert by_fields.returncode == 0, by_fields.stderr
    assert smtp.taken()["rcpt_tos"] == ["you@example.com", "c@example.com"]
    whole = run_cli("send", "mail", "--url", instance.url, "--payload", json.dumps(WHOLE))
    assert whole.returncode == 0, whole.stderr
    check_whole(smtp.taken())


def test_half_a_pair_of_templates_is_reported_at_the_start(templates):
    (templates / "invoice.html").write_text("x")
    checked = run_cli("check-config", settings={"FLEXI_MAIL_TEMPLATES_DIR": templates})
    assert checked.returncode != 0 and "invoice.txt can't be read" in checked.stdout + checked.stderr


# --- how often


@pytest.mark.parametrize("via", ["inproc", "amqp"])
def test_a_mail_that_comes_again_is_not_sent_again(sending, smtp, via):
    with sending.client() as client:
        envelope(handle(client, key="once", via=via, ack="stored"), 202)
        again = handle(client, key="once", via=via, ack="stored")
        envelope(again, 202)
        assert again.headers["x-flexi-duplicate"] == "true"
        envelope(handle(client, key="once", via=via, ack="stored", message="another"), 409)
        sending.terminate()
        sending.start()
    with sending.client() as client:
        envelope(handle(client, key="once", via="http", ack="stored"), 202)
        # A service of its own door knows it, too.
        envelope(client.post("/send", json=mail(), headers={"Idempotency-Key": "once"}), 202)
        envelope(client.post("/send", json=mail(message="another"), headers={"Idempotency-Key": "once"}), 409)
        envelope(handle(client, key="last", subject="last"), 202)
    taken = [smtp.taken(), smtp.taken()]
    assert [mail.message["subject"] for mail in taken] == ["Hi", "last"] and smtp.all_taken() == []
    assert taken[0].message["message-id"] == "<once@localhost>"


def test_an_answer_that_is_lost_is_sent_again_with_the_same_message_id(sending, smtp):
    with sending.client() as client:
        for _ in range(2):
            assert "connection" in envelope(handle(client, key="lost", to="droptaken@example.com"), 503)["message"]
    first, second = smtp.taken(), smtp.taken()
    assert first.message["message-id"] == second.message["message-id"] == "<lost@localhost>", "so that a reader can tell"


def test_what_became_of_it_is_told(sending, smtp):
    with sending.client() as client:
        envelope(handle(client, key="told", to=["you@example.com"], bcc="b@example.com"), 202)
        envelope(handle(client, key="told", to=["you@example.com"], bcc="b@example.com"), 202)
        found = receipt(client, "told")
        assert (found["state"], found["where"], found["duplicates"]) == ("stored", "mail", 1)
        assert [hop["at"] for hop in found["hops"]][-1] == "mail"
        listed = envelope(client.get("/mails"), 200)["data"]
        assert [(entry["id"], entry["state"], entry["subject"], entry["to"]) for entry in listed] == [("told", "sent", "Hi", ["you@example.com", "b@example.com"])]
        shown = envelope(client.get("/mails/told"), 200)["data"]
        assert shown["state"] == "sent" and shown["attempts"] == 1 and "source" not in shown
        for call in (client.delete("/mails/told"), client.post("/mails/told/release")):
            assert "no copy is kept" in envelope(call, 501)["message"]
        ledger = envelope(client.get("/ledger"), 200)["data"]
        assert ledger["adds_up"] and sum(line["stored"] for line in ledger["lines"] if line["action"] == "mail") == 1
        assert client.get("/mails/none").status_code == 404


def test_without_a_server_the_mailbox_takes_them(own):
    with own.client() as client:
        envelope(handle(client, key="caught"), 202)
        assert "source" in client.get("/mails/caught").json()["data"]


def test_smtp_without_a_server_is_refused_at_the_start():
    checked = run_cli("check-config", settings={"FLEXI_MAIL_DELIVERY": "smtp"})
    assert checked.returncode != 0 and "MAIL_HOST" in checked.stdout + checked.stderr


# --- whom it talks to


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("encryption, argument", [("ssl", "--tls"), ("tls", "--starttls")])
def test_over_tls_with_a_login(make_sending, make_smtp, certificate, encryption, argument):
    files = [certificate / "cert.pem", certificate / "key.pem"]
    server = make_smtp("--auth", "--utf8", argument, *files)
    trusted = {"MAIL_HOST": "localhost", "MAIL_ENCRYPTION": encryption, "FLEXI_SMTP_CA_FILE": files[0], "MAIL_USERNAME": "user"}
    with make_sending(server.port, **trusted, MAIL_PASSWORD="secret").start().client() as client:
        envelope(handle(client, to="ü@example.com"), 202)
        envelope(handle(client), 202)
    first, second = server.taken(), server.taken()
    assert first["tls"] and first["login"] and first["utf8"]
    assert first["connections"] == second["connections"], "it is kept"
    for wrong, words in (({"MAIL_PASSWORD": "wr0ng-pass"}, "refused the login"), ({"MAIL_PASSWORD": "secret", "FLEXI_SMTP_CA_FILE": ""}, "SMTP server"),
                         ({"MAIL_PASSWORD": "secret", "MAIL_HOST": "127.0.0.1"}, "SMTP server")):
        instance = make_sending(server.port, **trusted | wrong).start()
        with instance.client() as client:
            assert words in envelope(handle(client), 503)["message"]
        assert "wr0ng-pass" not in instance.log()
    assert server.all_taken() == []


def test_a_server_without_starttls_gets_no_mail_in_the_clear(make_sending, smtp):
    with make_sending(smtp.port, MAIL_ENCRYPTION="tls").start().client() as client:
        envelope(handle(client), 503)
    assert smtp.all_taken() == []


# --- what it says where a mail does not arrive


def dead_letters(client):
    return client.get("/dlq").json()["data"]


@pytest.mark.parametrize("to, words", [("refuse@example.com", "550 5.1.1 no such user here"), ("spam@example.com", "554 5.7.1 looks like spam")])
def test_a_refused_mail_is_400_or_a_dead_letter_with_the_servers_words(sending, smtp, to, words):
    with sending.client() as client:
        assert words in envelope(handle(client, to=to), 400)["message"]
        envelope(handle(client, key="dead", via="amqp", ack="accepted", to=to), 202)
        letter = eventually(lambda: dead_letters(client), "it is a dead letter")[0]
        assert letter["id"] == "dead" and words in letter["reason"] and letter["attempts"] == 1
        assert receipt(client, "dead")["state"] == "dead_lettered" and words in receipt(client, "dead")["reason"]
        ledger = eventually(lambda: (books := client.get("/ledger").json()["data"])["adds_up"] and books, "the ledger adds up")
        assert sum(line["dead_lettered"] for line in ledger["lines"]) == 1


def test_a_mail_that_is_put_off_is_503_or_tried_again(sending, smtp):
    with sending.client() as client:
        refused = handle(client, to="defer@example.com")
        assert "451 4.3.0 try again later" in envelope(refused, 503)["message"] and refused.headers["retry-after"]
        envelope(handle(client, key="later", via="amqp", ack="accepted", to="deferonce@example.com", subject="later"), 202)
        assert smtp.taken().message["subject"] == "later"
        eventually(lambda: receipt(client, "later")["state"] == "stored", "it is stored")
        assert dead_letters(client) == []
    assert smtp.all_taken() == []


def test_a_mail_that_is_put_off_for_ever_is_a_dead_letter(make_sending, smtp):
    with make_sending(smtp.port, FLEXI_QUEUE_MAX_ATTEMPTS=3).start().client() as client:
        envelope(handle(client, key="never", via="amqp", ack="accepted", to="defer@example.com"), 202)
        letter = eventually(lambda: dead_letters(client), "it is a dead letter")[0]
        assert letter["id"] == "never" and "451 4.3.0 try again later" in letter["reason"] and letter["attempts"] == 3


def test_a_server_that_is_away_for_longer_than_all_attempts_makes_no_dead_letter(make_sending, smtp):
    smtp.stop()
    with make_sending(smtp.port, FLEXI_QUEUE_MAX_ATTEMPTS=2).start().client() as client:
        envelope(handle(client, key="patient", via="amqp", ack="accepted", subject="patient"), 202)
        eventually(lambda: receipt(client, "patient").get("attempts", 0) > 5, "it has failed many times")
        assert dead_letters(client) == []
        smtp.start()
        assert smtp.taken().message["subject"] == "patient"


def test_through_rabbitmq_it_is_the_same(make_sending, smtp, vhost):
    instance = amqp_support.ready(make_sending(smtp.port, **amqp_support.settings(vhost.url)).start())
    with instance.client() as client:
        envelope(handle(client, key="dead", via="amqp", ack="accepted", to="refuse@example.com"), 202)
        envelope(handle(client, key="later", via="amqp", ack="accepted", to="deferonce@example.com", subject="later"), 202)
        for _ in range(2):
            envelope(handle(client, key="whole", via="amqp", ack="stored", subject="whole", attachments=WHOLE["attachments"]), 202)
        letter = eventually(lambda: dead_letters(client), "it is a dead letter", 60)[0]
        assert letter["id"] == "dead" and "550 5.1.1 no such user here" in letter["reason"]
        eventually(lambda: receipt(client, "later")["state"] == "stored", "it is stored", 60)
        eventually(lambda: client.get("/ledger").json()["data"]["adds_up"], "the ledger adds up", 60)
        taken = [smtp.taken(), smtp.taken()]
        assert subjects(taken) == {"later": 1, "whole": 1} and smtp.all_taken() == []
        whole = next(mail for mail in taken if mail.message["subject"] == "whole")
        assert [part.get_payload(decode=True) for part in whole.message.iter_attachments()] == [BYTES, b"", b"\0"]


def test_a_slow_and_a_hanging_server_end_with_the_callers_time(make_sending, smtp):
    with make_sending(smtp.port, FLEXI_SMTP_CONNECTIONS=2).start().client() as client:
        began = time.monotonic()
        assert handle(client, timeout_ms=700, to="hang@example.com").status_code in (503, 504)
        assert time.monotonic() - began < 3
        envelope(handle(client, subject="next"), 202)
        assert smtp.taken().message["subject"] == "next"


def test_connections_that_are_cut_in_mid_statement_cost_nothing(make_sending, smtp, make_gate):
    gate = make_gate(("127.0.0.1", smtp.port))
    sent = []
    with make_sending(gate.port).start().client() as client:
        for turn in range(25):
            # Before the end of the mail, which is larger: the server has it, or it hasn't.
            before = gate.cuts
            gate.cut_after(up=random.randint(1, 900))
            key = f"cut-{turn}"
            while (answer := handle(client, key=key, subject=key)).status_code != 202:
                envelope(answer, 503)
            assert gate.cuts > before
            sent.append(key)
    assert subjects(smtp.all_taken()) == {key: 1 for key in sent}


# --- under load


class Senders:
    """Threads that send mails whatever happens; every second thread waits for `stored`, and tries again until it is."""

    def __init__(self, instance, threads=4):
        self.instance, self.lock = instance, threading.Lock()
        self.accepted, self.open, self.answers = set(), set(), []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(number,), daemon=True) for number in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a request hangs"

    def run(self, number):
        fields = {"via": "http", "ack": "stored"} if number % 2 else {"via": "amqp", "ack": "accepted"}
        while not self.stopping.is_set():
            self.send(uuid.uuid4().hex, fields)
            time.sleep(0.005)

    def send(self, key, fields):
        with self.lock:
            self.open.add(key)
        while not self.stopping.is_set():
            try:
                with self.instance.client() as client:
                    answer = handle(client, key=key, subject=key, **fields)
            except OSError:
                time.sleep(0.05)
                continue
            except Exception:  # httpx has a class for each way in which a connection dies
                time.sleep(0.05)
                continue
            with self.lock:
                self.answers.append(answer.status_code)
            if answer.status_code == 202:
                with self.lock:
                    self.open.discard(key)
                    self.accepted.add(key)
                return
            assert answer.status_code in (429, 503, 504), answer.text
            time.sleep(0.05)

    def wait_for(self, count):
        goal = len(self.accepted) + count
        eventually(lambda: len(self.accepted) >= goal, f"{count} more are accepted", 60)


def drain(instance, smtp, senders, taken):
    """Everything that was accepted has arrived."""

    def arrived():
        taken.extend(smtp.all_taken())
        return senders.accepted <= subjects(taken).keys()

    eventually(arrived, "every accepted mail arrives", 60, 0.1)
    with instance.client() as client:
        eventually(lambda: client.get("/system").json()["data"]["queue"].get("depth") == 0, "nothing waits", 60)
        assert dead_letters(client) == []
        eventually(lambda: client.get("/ledger").json()["data"]["adds_up"], "the ledger adds up", 60)
    taken.extend(smtp.all_taken())


def test_a_server_that_stops_for_seconds_under_load_loses_and_doubles_nothing(make_sending, smtp):
    instance = make_sending(smtp.port, FLEXI_QUEUE_MAX_ATTEMPTS=100).start()
    taken = []
    with Senders(instance) as senders:
        for _ in range(2):
            senders.wait_for(60)
            smtp.stop()
            time.sleep(2)
            smtp.start()
        senders.wait_for(60)
    assert 503 in senders.answers, "those who waited were told"
    drain(instance, smtp, senders, taken)
    counts = subjects(taken)
    assert {key: count for key, count in counts.items() if count != 1} == {}
    assert counts.keys() <= senders.accepted | senders.open


def noted_as_sent(instance):
    """What the ledger of the killed process holds. Its journal is read, not changed."""
    with sqlite3.connect(f"file:{instance.data_dir}/flexiconnect.db?mode=ro", uri=True) as database:
        return {row[0] for row in database.execute("SELECT id FROM sent_mails WHERE state = 1")}


@pytest.fixture(params=["one process", "a service of its own"])
def victim(request, make_sending, make_instance, make_gate, smtp):
    """(who is asked, who sends mails and is killed, what follows its start)."""
    quick = {"FLEXI_SMTP_TIMEOUT": "2s", "FLEXI_MAIL_CLAIM_GRACE": "500ms", "FLEXI_QUEUE_MAX_ATTEMPTS": 100}
    if request.param == "one process":
        instance = make_sending(smtp.port, **quick).start()
        return instance, instance, lambda: None
    service = make_instance(settings={"MAIL_HOST": "127.0.0.1", "MAIL_PORT": smtp.port, "FLEXI_STORAGE": "embedded", **QUICK, **quick}, role="mail").start()
    gate = make_gate(("127.0.0.1", service.port))
    logger = make_instance(settings={"FLEXI_STORAGE": "embedded"}, role="logger").start()
    peers = {"FLEXI_PEERS_MAIL": f"http://127.0.0.1:{gate.port}", "FLEXI_PEERS_LOGGER": logger.url, "FLEXI_PEERS_ORDER": "http"}
    return make_instance(settings=peers | QUICK | quick, role="broker").start(), service, lambda: setattr(gate, "target", ("127.0.0.1", service.port))


def test_kill_9_under_load_sends_nothing_again_that_was_noted(victim, smtp):
    asked, killed, move = victim
    taken, noted = [], []
    with Senders(asked) as senders:
        for _ in range(3):
            senders.wait_for(random.randint(20, 60))
            killed.kill()
            time.sleep(0.3)  # what the server had taken is told
            taken.extend(smtp.all_taken())
            noted.append((noted_as_sent(killed), len(taken)))
            killed.start()
            move()
        senders.wait_for(20)
    drain(asked, smtp, senders, taken)
    for ids, until in noted:
        assert ids and ids.isdisjoint(subjects(taken[until:])), "noted, and sent again"
    # Between the server's 250 and the note one mail for each connection may be caught, each time: at least once.
    doubled = {key for key, count in subjects(taken).items() if count != 1}
    assert len(doubled) <= 3 * 4, doubled
