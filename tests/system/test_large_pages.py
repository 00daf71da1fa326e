# SPDX-License-Identifier: Apache-2.0
"""Lists stay readable through the broker whatever their texts hold: a page is cut by what it takes on the wire."""

import contextlib

import httpx
import pytest
from conftest import all_logs, envelope, post_log
from test_receipts import part

CONTROL = "\x01" * 170_000  # six bytes each as JSON, and a request may have 1 MiB


@pytest.mark.parametrize("way", ["http", "grpc", "rpc"])
def test_a_page_of_escapes_goes_through_the_broker(tmp_path, unique, way):
    token = tmp_path / "token"
    token.write_text("secret-token-of-this-test")
    admin = {"FLEXI_ADMIN_TOKEN_FILE": token}
    with contextlib.ExitStack() as running:
        _, ends = running.enter_context(part(tmp_path / "logger", "logger", **admin))
        _, broker = running.enter_context(part(tmp_path / "broker", "broker", FLEXI_PEERS_LOGGER=ends[way], FLEXI_PEERS_MAIL="", **admin))
        client = running.enter_context(httpx.Client(base_url=broker["http"], timeout=60, trust_env=False))
        for number in range(30):
            envelope(post_log(client, unique, f"{number} {CONTROL}", via=way, ack="stored"), 202)
        for _ in range(10):  # more than it takes to set an address, or a way, aside
            assert len(client.get("/logs").content) < 4 << 20
        assert sorted(int(entry["data"].split()[0]) for entry in all_logs(client, name=unique)) == list(range(30))
        assert envelope(post_log(client, unique, "after", via=way, ack="stored"), 202)
