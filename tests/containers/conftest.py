# SPDX-License-Identifier: Apache-2.0
"""The container suite: run by `make test-containers`, with an engine and all images at hand (engine.py, images.py). Elsewhere none of it is collected;
tools/run-tests says so."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

if "FLEXI_TEST_ENGINE" not in os.environ:
    collect_ignore_glob = ["test_*.py"]

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
