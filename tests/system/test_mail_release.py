# SPDX-License-Identifier: Apache-2.0
"""From the mailbox to a real SMTP server, and what a changed template means for a mail that comes again."""

import email
import email.policy

import pytest
from conftest import ROOT, envelope
from smtp_support import SmtpServer, why_not


@pytest.fixture
def smtp():
    if reason := why_not():
        pytest.skip(reason)
    server = SmtpServer()
    yield server
    server.stop()


def send(client, to="Jürgen <you@example.com>", **fields):
    envelope(client.post("/send", json={"from": "me@example.com", "to": to, "subject": "Grüße", "message": "Hello <b>world</b>"} | fields), 202)
    return client.get("/mails", params={"limit": 1}).json()["data"][0]["id"]


@pytest.fixture
def releasing(make_instance, smtp):
    # By the contract's own names, as a deployment sets them.
    return make_instance(settings={"FLEXI_MAIL_DELIVERY": "mailbox", "MAIL_HOST": "127.0.0.1", "MAIL_PORT": smtp.port, "MAIL_ENCRYPTION": ""}).start()


def test_a_caught_mail_is_released(releasing, smtp):
    with releasing.client() as client:
        id = send(client)
        body = envelope(client.post(f"/mails/{id}/release"), 200)
        assert body["message"] == "released to you@example.com"
        taken = smtp.taken()
        assert (taken["mail_from"], taken["rcpt_tos"]) == ("me@example.com", ["you@example.com"])
        kept = client.get(f"/mails/{id}").json()["data"]
        assert taken["content"].encode("latin-1").decode("utf-8", "replace").rstrip("\r\n") == kept["source"].rstrip("\r\n"), "the very message that was caught"
        message = email.message_from_bytes(taken["content"].encode("latin-1"), policy=email.policy.default)
        assert message["subject"] == "Grüße" and message["to"].addresses[0].display_name == "Jürgen"
        parts = [part.get_content_type() for part in message.iter_parts()]
        assert parts == ["text/plain", "text/html"]
        assert "&lt;b&gt;" in message.get_body(("html",)).get_content()


def test_it_goes_to_whom_the_release_names(releasing, smtp):
    with releasing.client() as client:
        id = send(client)
        envelope(client.post(f"/mails/{id}/release", json={"to": "other@example.com"}), 200)
        assert smtp.taken()["rcpt_tos"] == ["other@example.com"]
        refused = envelope(client.post(f"/mails/{id}/release", json={"too": "other@example.com"}), 400)
        assert "too" in refused["message"] and "known are" in refused["message"]


@pytest.mark.parametrize("recipient, status, words", [("defer", 503, "try again later"), ("refuse", 400, "no such user here")])
def test_what_the_server_says_is_passed_on(releasing, recipient, status, words):
    with releasing.client() as client:
        id = send(client, to=f"{recipient}@example.com")
        refused = envelope(client.post(f"/mails/{id}/release"), status)
        assert words in refused["message"]
        assert client.get(f"/mails/{id}").status_code == 200, "it stays in the mailbox"


def test_a_server_that_is_away_is_503(make_instance, smtp):
    instance = make_instance(settings={"FLEXI_MAIL_DELIVERY": "mailbox", "MAIL_HOST": "127.0.0.1", "MAIL_PORT": smtp.port}).start()
    smtp.stop()
    with instance.client() as client:
        id = send(client)
        response = client.post(f"/mails/{id}/release")
        assert "SMTP server" in envelope(response, 503)["message"]


def test_without_a_server_it_says_what_to_set(own):
    with own.client() as client:
        assert "MAIL_HOST" in envelope(client.post(f"/mails/{send(client)}/release"), 501)["message"]


@pytest.mark.parametrize("via", ["inproc", "amqp"])
def test_a_template_that_changed_makes_no_conflict_of_a_mail_that_comes_again(make_instance, tmp_path, via):
    templates = tmp_path / "templates"
    templates.mkdir()
    for file in (ROOT / "src/services/mail/templates").iterdir():
        (templates / file.name).write_text(file.read_text())
    instance = make_instance(settings={"FLEXI_MAIL_TEMPLATES_DIR": templates}).start()
    mail = {"action": "mail", "via": via, "ack": "stored", "id": "once", "mail": {"to": "you@example.com", "subject": "s", "message": "m"}}
    with instance.client() as client:
        envelope(client.post("/handle", json=mail), 202)
        first = client.get("/mails/once").json()["data"]
    instance.terminate()
    html = templates / "mail.html"
    html.write_text(html.read_text().replace("{{message", "<p>new in the template</p>{{message", 1))
    assert "new in the template" in html.read_text()
    instance.start()
    with instance.client() as client:
        again = client.post("/handle", json=mail)
        envelope(again, 202)
        assert again.headers["x-flexi-duplicate"] == "true"
        assert client.get("/mails/once").json()["data"]["html"] == first["html"]
        other = mail | {"mail": mail["mail"] | {"message": "another"}}
        envelope(client.post("/handle", json=other), 409)
        envelope(client.post("/send", json=mail["mail"], headers={"Idempotency-Key": "once"}), 202)
        envelope(client.post("/send", json=other["mail"], headers={"Idempotency-Key": "once"}), 409)
        assert "new in the template" in client.get(f"/mails/{send(client, to='you@example.com')}").json()["data"]["html"]
