# SPDX-License-Identifier: Apache-2.0
"""h2spec, the conformance suite of HTTP/2, against our gRPC port: go install github.com/summerwind/h2spec/cmd/h2spec@latest"""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

import grpc_peers

H2SPEC = shutil.which("h2spec", path=os.pathsep.join([os.environ.get("PATH", ""), str(pathlib.Path.home() / "go/bin")]))


@pytest.mark.skipif(not H2SPEC, reason="not run: h2spec not at hand")
def test_h2spec_finds_nothing():
    with grpc_peers.test_server() as server:
        host, port = server.target.rsplit(":", 1)
        done = subprocess.run([H2SPEC, "--host", host, "--port", port, "--timeout", "5"], capture_output=True, text=True, timeout=300)
    summary = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
    assert summary, done.stdout + done.stderr
    total, passed, skipped, failed = map(int, summary.groups())
    assert total >= 100 and skipped == 0 and failed == 0 and passed == total, done.stdout
