# SPDX-License-Identifier: Apache-2.0
"""Fixtures: systems of separate processes, with the embedded queue or a RabbitMQ. Not a conftest.py: the system suite imports
names from its own, and two modules of that name would be one too many."""

import pytest
from parts import BINARY, System


@pytest.fixture
def make_system(tmp_path):
    if not BINARY.exists():
        pytest.fail(f"{BINARY} is not there: build it (make build), or name it in FLEXI_BINARY")
    made = []

    def make(**options):
        made.append(System(tmp_path / f"system-{len(made)}", **options))
        return made[-1].start()

    yield make
    try:
        for system in made:
            system.close()
    finally:
        for system in made:
            print(system.log())  # shown where the test failed


@pytest.fixture(params=["embedded", "rabbitmq"])
def system(request, make_system):
    """One with each queue."""
    if request.param == "embedded":
        return make_system()
    return make_system(amqp_url=request.getfixturevalue("vhost").url)


@pytest.fixture
def rabbit_system(make_system, vhost):
    return make_system(amqp_url=vhost.url)
