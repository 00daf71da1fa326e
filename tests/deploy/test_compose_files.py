# SPDX-License-Identifier: Apache-2.0
"""The container files without an engine: that their readers take them, and that they agree with each other."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPOSE, OVERRIDE = ROOT / "deploy/compose.yaml", ROOT / "tests/containers/override.yaml"
SERVICES = {"broker-service": "broker", "authentication-service": "authentication", "logger-service": "logger", "mail-service": "mail", "listener-service": "listener",
            "front-end": "front-end"}
TARGETS = ["up", "up-build", "down", "service-build", "start", "stop", "logs", "ps", "push", "images", "secrets"]
COMPOSE_V2 = "github.com/compose-spec/compose-go/v2/cmd@v2.6.0"  # what Compose v2 reads its files with


def run(*words, **how):
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=300, cwd=ROOT, **how)


@pytest.fixture(scope="module")
def stages():
    """Name of each stage of the Dockerfile, and its lines."""
    found, name = {}, None
    for line in (ROOT / "deploy/Dockerfile").read_text().splitlines():
        if match := re.match(r"FROM \S+ AS (\S+)", line):
            name = match[1]
            found[name] = []
        elif name:
            found[name].append(line)
    return found


@pytest.fixture(scope="module")
def composed():
    return yaml.safe_load(COMPOSE.read_text())


def config(*files):
    return run("docker-compose", "-p", "flexiconnect", *(word for file in files for word in ("-f", file)), "config")


def test_docker_compose_1_29_reads_it():
    done = config(COMPOSE)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == {*SERVICES, "caddy", "postgres", "mongo", "rabbitmq", "mailhog"}
    assert config(COMPOSE, OVERRIDE).returncode == 0


def test_docker_compose_finds_mistakes(tmp_path):
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("read_only: true", "read_onyl: true"))
    assert config(wrong).returncode != 0


def test_compose_v2_reads_it(tmp_path):
    go = shutil.which("go") or "/usr/local/go/bin/go"
    if not pathlib.Path(go).exists():
        pytest.skip("no go here, which builds Compose v2's reader")
    program = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "flexiconnect-tests" / COMPOSE_V2.replace("/", "_") / "cmd"
    if not program.exists():
        built = run(go, "install", COMPOSE_V2, env=os.environ | {"GOBIN": str(program.parent), "GOFLAGS": "-buildvcs=false"})
        if built.returncode:
            pytest.skip(f"go install {COMPOSE_V2} failed: {built.stderr.strip().splitlines()[-1]}")
    done = run(program, COMPOSE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"  {service}:" in done.stdout for service in SERVICES)
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("read_only: true", "read_onyl: true"))
    assert run(program, wrong).returncode != 0


@pytest.mark.parametrize("file", [COMPOSE, OVERRIDE], ids=lambda file: file.name)
def test_yamllint(file):
    done = run("yamllint", "--strict", "-c", ROOT / "deploy/.yamllint", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_service_has_a_target(composed, stages):
    for name, service in composed["services"].items():
        if "build" not in service:
            continue
        target = service["build"]["target"]
        assert target in stages and target == ("micro-caddy" if name == "caddy" else name)
        assert service["image"] == f"${{IMAGES:-flexiconnect}}/{target}:${{TAG:-latest}}"
    assert {service["build"]["target"] for service in composed["services"].values() if "build" in service} | {"build", "flexiconnect"} == set(stages)


def test_each_target_runs_its_service(stages):
    for target, role in SERVICES.items():
        assert f'CMD ["{role}"]' in stages[target]
    assert "USER 10001:10001" in stages["flexiconnect"] and "USER 10001:10001" in stages["micro-caddy"]


def test_the_dockerfile_asks_no_registry_for_a_frontend():
    assert "# syntax" not in (ROOT / "deploy/Dockerfile").read_text()


def test_published_ports(composed):
    def published(service):
        return [re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", port) for port in composed["services"][service].get("ports", [])]

    assert published("broker-service") == ["127.0.0.1:8080:80", "127.0.0.1:50001:50001", "127.0.0.1:5001:5001"]
    assert published("front-end") == ["127.0.0.1:8081:80"] and published("authentication-service") == ["127.0.0.1:8082:80"]
    assert published("logger-service") == published("mail-service") == published("listener-service") == []
    assert published("caddy") == ["80:80", "443:443"]
    for service, ports in {"postgres": [5432], "mongo": [27017], "rabbitmq": [5672, 15672], "mailhog": [1025, 8025]}.items():
        assert published(service) == [f"127.0.0.1:{port}:{port}" for port in ports]


def test_no_secret_stands_in_the_file(composed):
    for name, service in composed["services"].items():
        for variable, value in service.get("environment", {}).items():
            assert variable.endswith("_FILE") or not re.search("PASSWORD|SECRET|TOKEN|DSN|URI", variable), f"{name}: {variable}"
            assert not variable.endswith("_FILE") or value.startswith("/run/secrets/"), f"{name}: {variable}"


def test_secrets_are_made_once_and_never_committed(composed, tmp_path):
    folder = tmp_path / "secrets"
    first = run("deploy/make-secrets", folder)
    assert first.returncode == 0, first.stderr
    made = {file.name: file.read_text() for file in folder.iterdir()}
    assert set(composed["secrets"]) <= set(made) and folder.stat().st_mode & 0o777 == 0o700
    assert made["postgres_password"].strip() in made["dsn"] and made["mongo_password"].strip() in made["mongo_uri"]
    assert made["rabbitmq_password"].strip() in made["amqp_uri"] and made["rabbitmq_password"].strip() in made["rabbitmq_settings"]
    assert not [text for text in made.values() if text.strip() in first.stdout]
    again = run("deploy/make-secrets", folder)
    assert again.stdout == "" and made == {file.name: file.read_text() for file in folder.iterdir()}
    assert run("git", "check-ignore", "deploy/secrets/admin_token").returncode == 0
    context = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in context and not [line for line in context if line.startswith("!deploy") and line != "!deploy/Caddyfile"]


def test_only_the_targets_of_containers_get_their_settings():
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    seen = run("make", "-s", "-f", "-", "show", input="include Makefile\nshow:\n\t@env\n", env=clean).stdout
    assert not re.findall("^(?:IMAGES|TAG|SECRETS_FOLDER|DOCKER_BUILDKIT|STACK|PUBLISH|PUBLISH_MODE|PROXY_ENDPOINT)=", seen, re.M) and "PATH=" in seen


@pytest.mark.parametrize("target", TARGETS)
def test_make_has(target):
    told = run("make", "-n", target, "SERVICE=logger-service", "REGISTRY=registry.example.com/flexi", "TAG=7", "COMPOSE=docker-compose")
    assert told.returncode == 0 and told.stdout.strip(), told.stderr
    assert re.search(rf"^{target}\s", run("make", "help").stdout, re.MULTILINE), "make alone lists it"
    windows = (ROOT / "Makefile.windows").read_text()
    assert re.search(rf"^{target}:", windows, re.MULTILINE), "Makefile.windows"


@pytest.mark.parametrize("target", TARGETS)
def test_make_on_windows_says_the_same(target):
    """GNU make reads it; what cmd.exe makes of the lines has not been run."""
    told = run("make", "-n", "-f", "Makefile.windows", "SHELL=/bin/sh", ".SHELLFLAGS=-c", target, "SERVICE=logger-service", "REGISTRY=registry.example.com/flexi", "TAG=7")
    assert told.returncode == 0 and told.stdout.strip(), told.stderr


@pytest.mark.parametrize("target, needs", [("service-build", "SERVICE"), ("push", "REGISTRY")])
def test_make_says_what_a_target_lacks(target, needs):
    for makefile in ("Makefile", "Makefile.windows"):
        told = run("make", "-n", "-f", makefile, target, "SERVICE=", "REGISTRY=")
        assert told.returncode != 0 and f"say {needs}=" in told.stderr


def test_mailhog_is_one_line_away(composed):
    service = composed["services"]["mailhog"]
    assert service["image"].startswith("axllent/mailpit") and "image: mailhog/mailhog" in COMPOSE.read_text()
    assert not service.get("environment"), "what only one of the two knows"
