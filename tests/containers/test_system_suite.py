# SPDX-License-Identifier: Apache-2.0
"""The system suite against the stack, through the proxy; and each action by every way in and on."""

import json
import os
import re
import subprocess
import sys

import pytest
from engine import ROOT

SYSTEM = ROOT / "tests/system"


@pytest.fixture(scope="module")
def described(stack, tmp_path_factory):
    """What tests/system/containers.py reads."""
    file = tmp_path_factory.mktemp("suite") / "stack.json"
    file.write_text(json.dumps(stack.description()))
    return file


@pytest.fixture(scope="module")
def callers(described, stack):
    """One for each transport that the stack publishes, with nothing of ours."""
    sys.path.insert(0, str(SYSTEM))
    os.environ["FLEXI_TEST_STACK"] = str(described)
    import containers
    import ways_in

    system, where = containers.Containers(), json.loads(described.read_text())
    http = ways_in.Http(system)
    http.client.close()
    http.client = system.client()
    made = {"http": http, "grpc": ways_in.Grpc(where["grpc"]), "rpc": ways_in.Rpc(where["rpc"]), "amqp": ways_in.Amqp(where["amqp"])}
    yield system, made
    for caller in made.values():
        caller.close()


@pytest.mark.parametrize("way_in", ["http", "grpc", "rpc", "amqp"])
def test_every_action_over_every_transport(callers, way_in, report):
    """Each cell of docs/matrix.md: a success is one stored thing; the same id again stores nothing."""
    import test_matrix

    system, made = callers
    with system.client() as client:
        store = test_matrix.Store(client)
        ways_on = test_matrix.ways_on_of(client)
        assert set(ways_on) == {"http", "grpc", "rpc", "amqp", "auto"}
        lines = test_matrix.table_of(made[way_in], store, ways_on)
        test_matrix.check_all(store)
    cells = sum(line.count("`") // 2 for line in lines)
    report(f"in by {way_in}, on by {', '.join(ways_on)}: {cells} cells work, {sum(line.count('**400**') for line in lines)} are refused as they must be")
    assert cells == 5 * len(ways_on)


def test_the_system_suite_passes_through_the_proxy(described, report):
    binary = os.environ.get("FLEXI_TEST_BINARY", ROOT / "build/release/flexiconnect")
    # Last what deletes users, and what leaves a large collection, which FerretDB reads whole for each look.
    last = ["test_openapi.py", "test_bad_input.py"]
    files = sorted(SYSTEM.glob("test_*.py"), key=lambda file: (last.index(file.name) + 1 if file.name in last else 0, file))
    command = [sys.executable, "-m", "pytest", *files, "-q", "-p", "no:cacheprovider", "-rs", "--tb=short"]
    environment = os.environ | {"FLEXI_TEST_ON": "containers", "FLEXI_TEST_STACK": str(described), "FLEXI_BINARY": str(binary)}
    done = subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1500)
    for line in done.stdout.splitlines():
        if re.match(r"on containers not run|\d+ (passed|failed)", line.strip("= ")):
            report(f"system suite: {line.strip('= ')}")
    assert done.returncode == 0, done.stdout[-15000:]
