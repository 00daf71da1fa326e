# SPDX-License-Identifier: Apache-2.0
"""What the images hold, and what they don't."""

import json
import re
import subprocess

import pytest
from engine import ROOT
from images import BASE, SERVICES, TARGETS, name_of
from stack import docker

COMPILERS = r"/(?:cc|c\+\+|gcc|g\+\+|clang|ld|lld|as|make|cmake|ninja|ccache|go|rustc|protoc|capnp)(?:-[0-9.]+)?$"
SIZES = ROOT / "docs/containers.md"


def inspect(image):
    return json.loads(docker("image", "inspect", image))[0]


def inside(image, *command, user="0:0"):
    return docker("run", "--rm", "--network", "none", *(["--user", user] if user else []), "--entrypoint", command[0], image, *command[1:])


def packages(image):
    return set(inside(image, "dpkg-query", "--show", "--showformat", "${Package}\n").split())


@pytest.mark.parametrize("target", TARGETS)
def test_no_compiler(target):
    """Of whatever package: no file of that name, and no headers."""
    files = inside(name_of(target), "find", "/", "-xdev", "-type", "f", "-o", "-xdev", "-type", "l")
    assert not [line for line in files.splitlines() if re.search(COMPILERS, line)]
    assert "/usr/include/" not in files
    assert "/usr/bin/env" in files, "there is something to be seen"


@pytest.mark.parametrize("target", TARGETS)
def test_no_root(target):
    image = inspect(name_of(target))["Config"]
    assert image["User"] == "10001:10001"
    assert inside(name_of(target), "id", "-u", user="").strip() == "10001"
    assert set_user_id(name_of(target)) <= set_user_id(BASE), "nothing new in the image makes its user another one"


def set_user_id(image):
    return set(inside(image, "find", "/", "-xdev", "-type", "f", "-perm", "/6000").split())


@pytest.mark.parametrize("target", TARGETS)
def test_no_secret(target, stack):
    """Neither in the variables, nor in the history, nor in a file: the very secrets that the stack runs with."""
    secrets = [word for name in ("admin_token", "token_key", "postgres_password", "mongo_password", "rabbitmq_password") for word in [(stack.secrets / name).read_text().strip()]]
    image = name_of(target)
    told = json.dumps(inspect(image)) + docker("history", "--no-trunc", image)
    assert not re.search(r"(?i)(password|secret|token|_key|dsn)[a-z_]*=\S", told), told
    assert not [word for word in secrets if word in told]
    container = docker("create", image).strip()
    try:
        exported = subprocess.run(["sh", "-c", "docker export $0 | grep -acF -e \"$(printf '%s\\n' \"$@\")\"", container, *secrets], capture_output=True, text=True)
        assert exported.stdout.strip() == "0"
        marker = subprocess.run(["sh", "-c", "docker export $0 | grep -acF -e root:x:0:0", container], capture_output=True, text=True)
        assert marker.stdout.strip() != "0", "the search sees files"
    finally:
        docker("rm", container)


@pytest.mark.parametrize("target", TARGETS)
def test_history_is_clean(target):
    """No step of the build stage, and nothing that was put in and taken out again."""
    steps = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", name_of(target))
    for word in ("ninja", "cmake", "clang", "COPY . ", "ADD ", "curl ", "git "):
        assert word not in steps, f"{word}: {steps}"


def test_only_needed_libraries():
    """Each package beyond the base is what the program's libraries bring, or the authorities' certificates."""
    image = name_of(SERVICES[0])
    linked = {line.split()[2] for line in inside(image, "ldd", "/usr/local/bin/flexiconnect").splitlines() if "=> /" in line}
    assert len(linked) > 20
    added = packages(image) - packages(BASE)
    owners = set()
    for path in linked:
        owners |= {line.split(":")[0] for line in inside_all(image)[path.rsplit("/", 1)[1]]}
    # What comes by a dependency alone: openssl with the certificates, libcurl's and libldap's common files.
    beside = {"ca-certificates", "openssl", "libldap-common", "libsasl2-modules-db", "krb5-locales"}
    assert not added - owners - beside, f"without use: {added - owners - beside}"


def inside_all(image, known={}):  # noqa: B006  one look for all
    """Each library's name, and the lines of the packages that have it."""
    if not known:
        for line in inside(image, "sh", "-c", "grep -H '\\.so' /var/lib/dpkg/info/*.list").splitlines():
            file, path = line.split(":/", 1)
            known.setdefault(path.rsplit("/", 1)[1], []).append(re.sub(r"(?::\w+)?\.list$", "", file.rsplit("/", 1)[1]) + ":")
            # A link's target has the version's end.
        for name in list(known):
            short = re.sub(r"(\.so\.\d+)\..*$", r"\1", name)
            known.setdefault(short, known[name])
    return known


@pytest.mark.parametrize("target", TARGETS)
def test_labels_and_health(target):
    config = inspect(name_of(target))["Config"]
    assert config["Healthcheck"]["Test"][0] == "CMD"
    if target == "micro-caddy":
        return
    assert config["Healthcheck"]["Test"] == ["CMD", "flexiconnect", "healthcheck"]
    assert config["StopSignal"] == "SIGTERM" and config["Entrypoint"] == ["flexiconnect"]
    assert config["Labels"]["org.opencontainers.image.title"] == "FlexiConnect" and config["Labels"]["org.opencontainers.image.version"] == "dev"


def test_the_published_sizes_are_these(report):
    """docs/containers.md has them to within a tenth."""
    published = dict(re.findall(r"^\| `([a-z-]+)` \| ([0-9]+) MB", SIZES.read_text(), re.MULTILINE))
    assert set(published) == set(TARGETS)
    for target in TARGETS:
        seen = inspect(name_of(target))["Size"] / 1e6
        report(f"image {target}: {seen:.0f} MB")
        assert abs(seen - int(published[target])) <= seen / 10, f"{target} has {seen:.0f} MB"
