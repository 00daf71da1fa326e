# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the container suite, which tools/test-containers loads as a plugin. Not a conftest.py: the system suite imports names from its own."""

import pytest

LINES = []


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """The stack of Compose, healthy."""
    from stack import Stack

    with Stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def report():
    """Lines that stand at the end of the run."""
    return LINES.append


def pytest_terminal_summary(terminalreporter):
    for line in LINES:
        terminalreporter.write_line(line)
