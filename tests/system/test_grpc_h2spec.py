# SPDX-License-Identifier: Apache-2.0
"""h2spec, the conformance suite of HTTP/2, against our gRPC port."""

import re
import subprocess

import pytest

import grpc_peers


def test_h2spec_finds_nothing():
    binary, reason = grpc_peers.go_tool("h2spec")
    if reason:
        pytest.skip(reason)
    with grpc_peers.test_server() as server:
        host, port = server.target.rsplit(":", 1)
        done = subprocess.run([str(binary), "--host", host, "--port", port, "--timeout", "5"], capture_output=True, text=True, timeout=300)
    summary = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
    assert summary, done.stdout + done.stderr
    total, passed, skipped, failed = map(int, summary.groups())
    assert total >= 100 and skipped == 0 and failed == 0 and passed == total, done.stdout
