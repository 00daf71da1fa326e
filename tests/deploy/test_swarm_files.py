# SPDX-License-Identifier: Apache-2.0
"""The stack file of Docker Swarm without an engine: that it is one, and what it must say."""

import os
import pathlib
import re
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
STACK, OVERRIDE = ROOT / "deploy/swarm.yml", ROOT / "tests/containers/swarm-override.yml"
OWN = ["front-end", "broker-service", "authentication-service", "logger-service", "mail-service", "listener-service"]
DATABASES = ["postgres", "mongo", "rabbitmq"]
TARGETS = ["swarm-init", "swarm-deploy", "swarm-scale", "swarm-update", "swarm-rollback", "swarm-ls", "swarm-join-token", "swarm-stop", "swarm-rm", "swarm-leave",
           "swarm-secrets"]
DRAIN_SECONDS = 8 + 2  # stop_grace's default, and what a process that hangs all the same may take


def run(*words, **how):
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=60, cwd=ROOT, **how)


def config(file, **variables):
    return run("docker-compose", "-f", file, "config", env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | variables)


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load(STACK.read_text())["services"]


def seconds(text):
    return sum(float(number) * {"s": 1, "m": 60, "ms": 0.001}[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m)", text))


@pytest.mark.parametrize("file", [STACK, OVERRIDE], ids=lambda file: file.name)
def test_yamllint(file):
    done = run("yamllint", "--strict", "-c", ROOT / "deploy/.yamllint", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_reader_of_the_format_takes_it_and_finds_mistakes(tmp_path):
    for variables in ({}, {"PUBLISH_MODE": "host", "PROXY_ENDPOINT": "dnsrr", "PROXY_ORDER": "stop-first", "PROXY_REPLICAS": "1", "ENDPOINT_MODE": "vip"}):
        done = config(STACK, **variables)
        assert done.returncode == 0, done.stderr
    wrong = tmp_path / "swarm.yml"
    wrong.write_text(STACK.read_text().replace("failure_action:", "failure_axion:"))
    assert config(wrong).returncode != 0


@pytest.mark.parametrize("name", [*OWN, "caddy"])
def test_an_update_starts_first_and_rolls_back(services, name):
    service = services[name]
    deploy = service["deploy"]
    order = "${PROXY_ORDER:-start-first}" if name == "caddy" else "start-first"
    assert deploy["update_config"]["order"] == deploy["rollback_config"]["order"] == order
    assert deploy["update_config"]["failure_action"] == "rollback" and seconds(deploy["update_config"]["monitor"]) >= 10
    assert deploy["update_config"]["parallelism"] == 1 and deploy["update_config"]["max_failure_ratio"] == 0
    assert deploy["restart_policy"]["condition"] == "any" and {"limits", "reservations"} <= set(deploy["resources"])
    assert seconds(service["stop_grace_period"]) > DRAIN_SECONDS
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["user"] == "10001:10001" and service["healthcheck"]["test"]


@pytest.mark.parametrize("name", DATABASES)
def test_a_database_is_one_task_with_a_named_volume_on_its_node(services, name):
    deploy = services[name]["deploy"]
    assert deploy["replicas"] == 1 and deploy.get("mode", "replicated") == "replicated"
    assert deploy["update_config"]["order"] == "stop-first" and deploy["placement"]["constraints"] == ["node.labels.flexiconnect.data == true"]
    [volume] = services[name]["volumes"]
    assert volume.split(":")[0] in yaml.safe_load(STACK.read_text())["volumes"]


def test_rabbitmq_keeps_its_name(services):
    assert services["rabbitmq"]["hostname"] == "rabbitmq"


def test_the_broker_shares_no_network_with_the_mail_service(services):
    members = {name: set(service["networks"]) for name, service in services.items()}
    assert not members["broker-service"] & members["mail-service"]
    for one, other in (("broker-service", "rabbitmq"), ("rabbitmq", "listener-service"), ("listener-service", "mail-service"), ("mail-service", "logger-service")):
        assert members[one] & members[other], f"{one} and {other}"
    for name in ("caddy", "front-end", "broker-service"):
        assert not members[name] & (members["postgres"] | members["mongo"]), name
    broker = services["broker-service"]["environment"]
    assert broker["FLEXI_PEERS_MAIL"] == "" and set(broker["FLEXI_BROKER_MAIL_FORBIDDEN"].split(",")) == {"http", "grpc", "rpc"}


def test_no_secret_stands_in_the_file(services):
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            assert variable.endswith("_FILE") or not re.search("PASSWORD|SECRET|TOKEN|DSN|URI", variable), f"{name}: {variable}"
            assert not variable.endswith("_FILE") or value.startswith("/run/secrets/"), f"{name}: {variable}"
    assert all(secret["external"] for secret in yaml.safe_load(STACK.read_text())["secrets"].values())


@pytest.mark.parametrize("target", TARGETS)
def test_make_has(target):
    told = run("make", "-n", target, "SERVICE=logger-service", "N=3", "TAG=7")
    assert told.returncode == 0 and told.stdout.strip(), told.stderr
    assert re.search(rf"^{target}\s", run("make", "help").stdout, re.MULTILINE), "make alone lists it"


@pytest.mark.parametrize("target, needs", [("swarm-scale", "SERVICE"), ("swarm-update", "SERVICE"), ("swarm-rollback", "SERVICE"), ("swarm-stop", "SERVICE")])
def test_make_says_what_a_target_lacks(target, needs):
    told = run("make", "-n", target, "SERVICE=")
    assert told.returncode != 0 and f"say {needs}=" in told.stderr


def test_how_the_proxy_is_published_decides_how_it_is_updated():
    # As what swarm-deploy makes first sees it, which ends it: nothing is deployed.
    seen = "swarm-secrets: show\ninclude Makefile\nshow:\n\t@echo $$PROXY_ENDPOINT $$PROXY_ORDER; exit 1\n"
    told = {mode: run("make", "-s", f"PUBLISH_MODE={mode}", "-f", "-", "swarm-deploy", input=seen).stdout.split() for mode in ("ingress", "host")}
    assert told == {"ingress": ["vip", "start-first"], "host": ["dnsrr", "stop-first"]}


# A docker that knows the secrets that are files in $KNOWN.
DOCKER = '''#!/bin/sh
case "$2" in
  inspect) test -e "$KNOWN/$3" ;;
  create) cp "$4" "$KNOWN/$3" ;;
esac
'''


@pytest.fixture
def swarm_secrets(tmp_path):
    program, known, folder = tmp_path / "bin/docker", tmp_path / "known", tmp_path / "secrets"
    program.parent.mkdir()
    known.mkdir()
    program.write_text(DOCKER)
    program.chmod(0o755)

    def make():
        return run("deploy/swarm-secrets", "s", folder, env=os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "KNOWN": str(known)})
    make.known, make.folder = known, folder
    return make


def test_secrets_are_made_once(swarm_secrets):
    first = swarm_secrets()
    assert first.returncode == 0, first.stderr
    made = {file.name: file.read_text() for file in swarm_secrets.known.iterdir()}
    assert set(made) == {f"s_{name}" for name in yaml.safe_load(STACK.read_text())["secrets"]}
    assert not [text for text in made.values() if text.strip() in first.stdout]
    assert "all of s are there" in swarm_secrets().stdout
    assert made == {file.name: file.read_text() for file in swarm_secrets.known.iterdir()}


def test_a_password_that_only_the_swarm_knows_is_not_made_anew(swarm_secrets):
    swarm_secrets()
    (swarm_secrets.known / "s_dsn").unlink()
    assert swarm_secrets().returncode == 0, "its file is there still"
    (swarm_secrets.known / "s_dsn").unlink()
    (swarm_secrets.folder / "dsn").unlink()
    lost = swarm_secrets()
    assert lost.returncode == 1 and "dsn" in lost.stderr and not (swarm_secrets.known / "s_dsn").exists()
