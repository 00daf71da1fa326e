# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ over TLS (amqps://): whose certificates are believed, and a connection that is cut within a record."""

import random

import pytest
from amqp_support import Foreign, ready, settings, stored
from conftest import envelope, eventually, post_log


def tls(vhost, host="localhost", port=None, ca="ca.pem", **more):
    """Settings for the TLS listener."""
    url = vhost.url.replace(f"@127.0.0.1:{vhost.server.port}/", f"@{host}:{port or vhost.server.tls_port}/").replace("amqp://", "amqps://")
    trusted = {"FLEXI_AMQP_TLS_CA_FILE": vhost.server.tls(ca)} if ca else {}
    return settings(url, **trusted, **more)


def send(instance, unique):
    with instance.client() as client:
        eventually(lambda: post_log(client, "tls", unique, via="amqp", ack="stored", headers={"Idempotency-Key": unique}).status_code == 202, "a log goes through RabbitMQ")
    assert stored(instance)[unique] == 1


def test_a_megabyte_goes_through(make_instance, vhost, unique):
    instance = ready(make_instance(settings=tls(vhost)).start())
    send(instance, unique)
    data = unique + "".join(random.choices("abcdefgh", k=1_000_000))
    with instance.client() as client, Foreign(vhost.url) as other:
        # A stranger's, in plain text, comes to us over TLS; ours comes to them so.
        other.publish("logs_topic", "log.INFO", {"name": "large", "data": data})
        eventually(lambda: data in stored(instance, name="large"), "it is stored")
        own = other.channel.queue_declare("", exclusive=True).method.queue
        other.channel.queue_bind(own, "logs_topic", "log.INFO")
        envelope(post_log(client, "large", data[:-1], via="amqp", ack="accepted"), 202)
        _, _, body = other.get(own)
        assert data[:-1].encode() in body


@pytest.mark.parametrize("case, why", [({"ca": "other-ca.pem"}, "self-signed certificate in certificate chain"), ({"host": "127.0.0.1"}, "IP address mismatch"),
                                       ({"ca": None}, "self-signed certificate in certificate chain")])
def test_a_certificate_that_is_not_to_be_believed_is_named(make_instance, vhost, unique, case, why):
    instance = make_instance(settings=tls(vhost, **case)).start()
    with instance.client() as client:
        eventually(lambda: "over TLS" in client.get("/readyz").text, "it says what can't be reached", 30)
        assert client.get("/readyz").status_code == 503
        envelope(post_log(client, "tls", unique, via="amqp", ack="stored"), 503)
    assert why in instance.log()


def test_without_verification_any_certificate_does(make_instance, vhost, unique):
    send(ready(make_instance(settings=tls(vhost, host="127.0.0.1", ca=None, FLEXI_AMQP_TLS_VERIFY="false")).start()), unique)


@pytest.mark.parametrize("name, believed", [("client", True), ("other-client", False)])
def test_our_own_certificate_is_shown(make_instance, vhost, unique, name, believed):
    shown = {"FLEXI_AMQP_TLS_CERTIFICATE_FILE": vhost.server.tls(name + ".pem"), "FLEXI_AMQP_TLS_KEY_FILE": vhost.server.tls(name + ".key")}
    instance = make_instance(settings=tls(vhost, **shown)).start()
    if believed:
        send(ready(instance), unique)
        peers = vhost.server.eval(f'[rabbit_misc:format("~p", [proplists:get_value(peer_cert_subject, rabbit_networking:connection_info(P, [peer_cert_subject]))]) '
                                  f'|| P <- rabbit_networking:connections(), rabbit_networking:connection_info(P, [vhost]) =:= [{{vhost, <<"{vhost.name}">>}}]]')
        assert "CN=client" in peers, peers
    else:
        with instance.client() as client:
            eventually(lambda: client.get("/readyz").status_code == 503, "it is refused", 30)
            envelope(post_log(client, "tls", unique, via="amqp", ack="stored"), 503)


def test_a_connection_that_is_cut_within_a_record_comes_back(make_instance, vhost, make_gate, unique):
    gate = make_gate(("127.0.0.1", vhost.server.tls_port))
    instance = ready(make_instance(settings=tls(vhost, port=gate.port)).start())
    sent = []
    with instance.client() as client:
        for turn in range(6):
            before, up_to = gate.connections, random.randint(50, 5_000)
            gate.cut_after(up=up_to) if turn % 2 == 0 else gate.cut_after(down=up_to)
            while gate.connections == before:
                sent.append(f"{unique}-{len(sent)}")
                envelope(post_log(client, "cut", sent[-1], via="amqp", ack="accepted"), 202)
        gate.heal()
        eventually(lambda: set(sent) <= stored(instance, name="cut").keys(), "all that was accepted is stored", 60)
        assert set(stored(instance, name="cut").values()) == {1}
