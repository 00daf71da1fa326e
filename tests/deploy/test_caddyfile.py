# SPDX-License-Identifier: Apache-2.0
"""deploy/Caddyfile as Caddy reads it."""

import pytest
from edge import values_of
from fixtures import make_caddy  # noqa: F401  fixture


@pytest.mark.parametrize("settings", [
    {}, {"SITE": "flexi.example.com", "BACKEND": "api.example.com", "CADDY_GLOBAL_OPTIONS": "email ops@example.com"},
    {"SITE": "http://:8000", "BACKEND": "http://:8001"}, {"BROKER_HOST": "tasks.broker-service", "FRONT_END_HOST": "tasks.front-end"},
    {"TRUSTED_PROXIES": "10.0.0.0/8 192.168.0.0/16"},
], ids=["defaults", "domains", "plain", "swarm", "behind-another"])
def test_it_is_valid(make_caddy, settings):  # noqa: F811
    done = make_caddy(settings).run("validate")
    assert done.returncode == 0 and "Valid configuration" in done.stdout + done.stderr, done.stderr


def test_a_mistake_is_found(make_caddy):  # noqa: F811
    assert make_caddy({"RETRY_FOR": "soon"}).run("validate").returncode != 0


def test_the_contracts_host_names_are_the_defaults(make_caddy):  # noqa: F811
    config = make_caddy().adapted()
    assert sorted((each["name"], each["port"]) for each in values_of(config, "dynamic_upstreams")) == [("broker-service", "80"), ("front-end", "80")]
    assert sorted(name for names in values_of(config, "host") for name in names if "localhost" in name and "*" not in name)[:1] == ["backend.localhost"]


def test_nobody_is_believed_about_addresses_unless_named(make_caddy):  # noqa: F811
    assert list(values_of(make_caddy().adapted(), "trusted_proxies")) == []
    assert list(values_of(make_caddy({"TRUSTED_PROXIES": "10.0.0.0/8 fd00::/8"}).adapted(), "trusted_proxies")) == [["10.0.0.0/8", "fd00::/8"]] * 2


def test_there_is_no_door_to_change_its_settings(make_caddy):  # noqa: F811
    assert make_caddy().adapted()["admin"]["disabled"] is True
