# SPDX-License-Identifier: Apache-2.0
"""The Debian package: what it holds and needs, and what a machine with systemd makes of it."""

import gzip
import os
import pathlib
import re
import stat
import subprocess

from deb_package import BINARY, ROOT, package  # noqa: F401  a fixture

UNITS = "/usr/lib/systemd/system/"


# An unknown FLEXI_ variable, such as the tests' own, is an error to the program.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("FLEXI_")}


def output(*words):
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True, env=ENVIRONMENT).stdout


def test_it_holds_what_a_service_needs(package):
    wanted = {"/usr/bin/flexiconnect", UNITS + "flexiconnect.service", UNITS + "flexiconnect@.service", UNITS + "flexiconnect.socket", UNITS + "flexiconnect@broker.socket",
              "/usr/lib/sysusers.d/flexiconnect.conf", "/usr/lib/sysctl.d/00-flexiconnect.conf", "/etc/flexiconnect/flexiconnect.toml", "/usr/share/man/man1/flexiconnect.1.gz",
              "/usr/share/bash-completion/completions/flexiconnect", "/usr/share/doc/flexiconnect/copyright", "/usr/share/doc/flexiconnect/packages.md"}
    assert wanted <= package.files()
    assert "compile" not in "".join(sorted(package.files())), "no build files"


def test_only_root_reads_the_settings_and_nobody_else_writes_anything(package):
    for name in package.files():
        mode = stat.S_IMODE(package.path(name).lstat().st_mode)
        assert mode & 0o7022 == 0, f"{name}: {mode:o}"
        assert not name.startswith("/etc/") or mode == 0o600, f"{name}: {mode:o}"
    owners = {line.split()[1] for line in output("dpkg-deb", "-c", package.file).splitlines()}
    assert owners == {"root/root"}


def test_every_setting_file_survives_an_upgrade_by_being_a_conffile(package):
    assert set((package.control / "conffiles").read_text().split()) == {name for name in package.files() if name.startswith("/etc/")}


def test_it_depends_on_every_library_that_the_program_loads(package):
    depends = set(re.findall(r"(?:^|, )([a-z0-9.+-]+)", package.field("Depends")))
    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", output("readelf", "-d", package.path("/usr/bin/flexiconnect"))))
    found = {name: pathlib.Path(path).resolve() for name, path in re.findall(r"(\S+) => (\S+)", output("ldd", BINARY))}
    # By the file's name: with a merged /usr a package may have it under /lib.
    listed = output("dpkg", "-S", *(f"*/{found[name].name}" for name in needed & set(found)))
    owners = {name: {line.split(":")[0] for line in listed.splitlines() if line.endswith("/" + found[name].name)} for name in needed & set(found)}
    provided = {name: set(re.findall(r"[a-z0-9.+-]+", output("dpkg-query", "-W", "-f=${Provides}", *packages))) for name, packages in owners.items()}
    assert len(owners) > 20
    assert {name: packages for name, packages in owners.items() if not (packages | provided[name]) & depends} == {}, depends


def test_lintian_finds_nothing(package):
    found = subprocess.run(["lintian", "--no-cfg", "--allow-root", "--fail-on", "error,warning", package.file], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_man_page_is_clean_and_names_every_command(package):
    page = gzip.decompress(package.path("/usr/share/man/man1/flexiconnect.1.gz").read_bytes()).decode()
    commands = re.findall(r"^  ([a-z][a-z-]+) {3,}[A-Z]", output(BINARY, "--help"), re.M)
    assert len(commands) > 15
    assert [command for command in commands if f".It Cm {command}\n" not in page] == []
    checked = subprocess.run(["mandoc", "-T", "lint", "-W", "warning"], input=page, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_the_completion_knows_the_commands(package):
    script = f"source {package.path('/usr/share/bash-completion/completions/flexiconnect')}; COMP_WORDS=(flexiconnect led); COMP_CWORD=1; _flexiconnect; echo ${{COMPREPLY[@]}}"
    assert output("bash", "-c", script).split() == ["ledger"]


def test_the_packaged_settings_are_valid(package):
    for name in ("flexiconnect.toml", "services.toml"):
        assert output(BINARY, "--config", package.path(f"/etc/flexiconnect/{name}"), "print-config")
    shown = [name for name in package.files() if name.endswith(".env")]
    known = output(BINARY, "print-config")
    for name in shown:
        for variable in re.findall(r"^# ([A-Z_]+)=", package.path(name).read_text(), re.M):
            assert re.search(rf"\b{variable}\b", known), f"{name}: {variable}"
    assert len(shown) == 8


def test_the_score_in_the_documentation_is_the_units(package):
    told = re.search(r"exposure level \*\*([\d.]+)\*\*", (ROOT / "docs/packages.md").read_text()).group(1)
    for unit in ("flexiconnect.service", "flexiconnect@.service"):
        judged = output("systemd-analyze", "security", "--offline=true", "--no-pager", f"--root={package.root}", unit)
        assert re.search(r"exposure level for \S+: ([\d.]+)", judged).group(1) == told, judged
