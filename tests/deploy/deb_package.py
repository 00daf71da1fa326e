# SPDX-License-Identifier: Apache-2.0
"""The Debian package of the built program."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("FLEXI_BINARY", ROOT / "build/release/flexiconnect")).resolve()


class Package:
    def __init__(self, file, folder):
        self.file, self.root = file, folder / "root"
        subprocess.run(["dpkg-deb", "-x", file, self.root], check=True)
        self.control = folder / "control"
        subprocess.run(["dpkg-deb", "-e", file, self.control], check=True)

    def field(self, name):
        return subprocess.run(["dpkg-deb", "-f", self.file, name], check=True, capture_output=True, text=True).stdout.strip()

    def files(self):
        return {"/" + str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir()}

    def path(self, name):
        return self.root / name.lstrip("/")

    def newer(self, folder):
        """The same as a later version."""
        tree = folder / "newer"
        subprocess.run(["dpkg-deb", "-R", self.file, tree], check=True)
        control = tree / "DEBIAN/control"
        control.write_text(control.read_text().replace("Version: ", "Version: 1:"))
        subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "-b", tree, folder / "newer.deb"], check=True, stdout=subprocess.DEVNULL)
        return folder / "newer.deb"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deb")
    packed = subprocess.run(["cpack", "-G", "DEB", "-B", folder], cwd=BINARY.parent, capture_output=True, text=True)
    assert packed.returncode == 0, packed.stdout + packed.stderr
    [file] = folder.glob("*.deb")
    return Package(file, folder)
