# SPDX-License-Identifier: Apache-2.0
"""`make up-build` and what it started: health, confinement, names, ports, volumes, stop."""

import socket
import subprocess
import time

import httpx
import pytest
from stack import DATABASES, EVERYTHING, PARTS, docker

OWN = [service for service, _ in PARTS.values()] + ["caddy"]
PORTS = {8080: "broker-service", 8081: "front-end", 8082: "authentication-service", 50001: "broker-service", 5001: "broker-service", 80: "caddy", 443: "caddy",
         5432: "postgres", 27017: "mongo", 5672: "rabbitmq", 15672: "rabbitmq", 1025: "mailhog", 8025: "mailhog"}
EXAMPLE = {"email": "admin@example.com", "password": "verysecret"}


@pytest.fixture
def broker(stack):
    with httpx.Client(base_url="http://127.0.0.1:8080", headers={"Authorization": f"Bearer {stack.token}"}, timeout=20, trust_env=False) as client:
        yield client


def eventually(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return value


def stored(broker, name):
    return [entry for entry in broker.get("/logs", params={"name": name}).json()["data"]]


@pytest.mark.parametrize("service", EVERYTHING)
def test_up_build_makes_everything_healthy(stack, service):
    state = stack.inspect(service)["State"]
    assert state["Health"]["Status"] == "healthy" and stack.inspect(service)["RestartCount"] == 0


@pytest.mark.parametrize("port", PORTS)
def test_published_ports(stack, port):
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    bindings = stack.inspect(PORTS[port])["NetworkSettings"]["Ports"]
    addresses = {bound["HostIp"] for of in bindings.values() for bound in of or [] if bound["HostPort"] == str(port)}
    assert addresses == ({"0.0.0.0"} if PORTS[port] == "caddy" else {"127.0.0.1"}) or addresses == {"0.0.0.0", "::"}, addresses


@pytest.mark.parametrize("service", OWN)
def test_no_process_is_root_or_may_become_it(stack, service):
    container = stack.inspect(service)
    assert {line.split()[1] for line in docker("top", container["Id"], "-eo", "pid,uid").splitlines()[1:]} == {"10001"}
    host = container["HostConfig"]
    assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and "no-new-privileges:true" in host["SecurityOpt"] and not host["Privileged"]
    assert host["Memory"] and host["NanoCpus"] and host["PidsLimit"]
    assert "Read-only file system" in docker("exec", "--user", "0", container["Id"], "sh", "-c", "echo x >/usr/local/bin/x", check=False)


@pytest.mark.parametrize("service", DATABASES)
def test_databases_have_limits(stack, service):
    host = stack.inspect(service)["HostConfig"]
    assert host["Memory"] and host["NanoCpus"] and host["PidsLimit"]


def test_no_secret_is_in_a_variable(stack):
    words = [file.read_text().strip() for file in stack.secrets.iterdir()]
    assert len(words) == 9
    for service in EVERYTHING:
        variables = "\n".join(stack.inspect(service)["Config"]["Env"])
        assert not [word for word in words if word in variables], service


def test_no_secret_is_in_a_log(stack):
    words = [(stack.secrets / name).read_text().strip() for name in ("admin_token", "token_key", "postgres_password", "mongo_password", "rabbitmq_password")]
    for service in EVERYTHING:
        log = docker("logs", stack.container(service))
        assert not [word for word in words if word in log], service


def test_the_proxy_and_the_page_reach_no_database(stack):
    for service in ("caddy", "front-end"):
        assert set(stack.inspect(service)["NetworkSettings"]["Networks"]) == {"flexiconnect_edge"}
    assert set(stack.inspect("postgres")["NetworkSettings"]["Networks"]) == {"flexiconnect_data"}


def test_the_contracts_names(stack):
    names = [*(service for service in EVERYTHING if service != "caddy")]
    # front-end alone is in another network than the databases; the broker is in all.
    found = docker("exec", stack.container("broker-service"), "getent", "ahosts", *names)
    assert all(name in found or docker("exec", stack.container("broker-service"), "getent", "hosts", name).strip() for name in names)


def test_the_proxy_has_the_page_and_the_broker(stack):
    """TLS with a certificate of its own authority, which is in its volume."""
    authority = docker("exec", stack.container("caddy"), "cat", "/data/caddy/pki/authorities/local/root.crt")
    (stack.folder / "root.crt").write_text(authority)
    for name, path, text in (("localhost", "/", "<!doctype html>"), ("backend.localhost", "/ping", "")):
        done = subprocess.run(["curl", "-sS", "--fail", "--cacert", stack.folder / "root.crt", "--resolve", f"{name}:443:127.0.0.1", f"https://{name}{path}"], capture_output=True, text=True)
        assert done.returncode == 0 and text in done.stdout, done.stderr


def test_what_the_proxy_says_of_a_client_is_believed(stack):
    """And what others say is not: the wait after failed log-ins is counted by the client's address, which the log names."""
    for told, url in (("192.0.2.77", "http://127.0.0.1:8080/handle"), ("192.0.2.78", "https://backend.localhost/handle")):
        for _ in range(3):
            subprocess.run(["curl", "-sSk", "--resolve", "backend.localhost:443:127.0.0.1", "-H", f"X-Forwarded-For: {told}", "-H", "Content-Type: application/json",
                            "-d", '{"action":"auth","auth":{"email":"a@example.com","password":"wrong-one"}}', url], check=True, capture_output=True)
    seen = docker("logs", stack.container("authentication-service"))
    assert "192.0.2.77" not in seen and "192.0.2.78" not in seen


@pytest.mark.parametrize("service", [*(service for service, _ in PARTS.values()), "caddy"])
def test_sigterm_is_honoured(stack, service):
    container = stack.container(service)
    started = time.monotonic()
    docker("stop", "--time", "30", container)
    assert time.monotonic() - started < 13
    assert stack.inspect(service)["State"]["ExitCode"] == 0
    docker("start", container)
    stack.wait_until(service)


def test_what_the_spool_has_outlives_the_container(stack, broker):
    docker("stop", stack.container("rabbitmq"))
    name = f"spool-{time.time_ns()}"
    said = eventually(lambda: (answer := broker.post("/handle", json={"action": "log", "via": "amqp", "log": {"name": name, "data": "kept"}})).status_code == 202 and answer, "it is spooled", 60)
    assert said.headers["x-flexi-way"] == "amqp;queue=spool"
    docker("rm", "--force", stack.container("broker-service"))
    docker("start", stack.container("rabbitmq"))
    stack.wait_until("rabbitmq")
    stack.make("up")
    found = eventually(lambda: stored(broker, name), "the entry is stored", 60)
    assert len(found) == 1 and found[0]["data"] == "kept"


def test_data_outlives_down(stack, broker):
    name = f"kept-{time.time_ns()}"
    assert broker.post("/handle", json={"action": "log", "ack": "stored", "log": {"name": name, "data": "kept"}}).status_code == 202
    before = docker("volume", "ls", "-q")
    stack.make("down")
    assert docker("ps", "-q") == "" and docker("volume", "ls", "-q") == before
    stack.make("up")
    assert len(stored(broker, name)) == 1
    assert broker.post("/handle", json={"action": "auth", "auth": EXAMPLE}).status_code == 202


def test_service_build_replaces_one(stack):
    before = {service: stack.container(service) for service in EVERYTHING}
    stack.make("service-build", "SERVICE=front-end", "TAG=other")
    after = {service: stack.container(service) for service in EVERYTHING}
    assert {service for service in before if before[service] != after[service]} == {"front-end"}
    assert stack.inspect("front-end")["Config"]["Image"] == "flexiconnect/front-end:other"
    stack.wait_until("front-end")
    stack.make("up")


def test_start_and_stop_have_the_page_alone(stack):
    stack.make("start", "PORT=18081")
    try:
        eventually(lambda: docker("inspect", "--format", "{{.State.Health.Status}}", "flexiconnect-start").strip() == "healthy", "it is healthy")
        assert "<!doctype html>" in httpx.get("http://127.0.0.1:18081/", trust_env=False).text
    finally:
        stack.make("stop")
    assert "flexiconnect-start" not in docker("ps", "-a")


def test_ps_lists_all(stack):
    listed = stack.make("ps")
    assert all(service in listed for service in EVERYTHING)


def test_what_lacks_a_word_says_so(stack):
    assert "SERVICE=" in stack.make("service-build", check=False)
    assert "REGISTRY=" in stack.make("push", check=False)


def test_push_reaches_a_registry(stack):
    """No registry is at hand: the images are built under its name, and docker goes there."""
    said = stack.make("push", "REGISTRY=127.0.0.1:1/flexi", "TAG=7", check=False)
    assert "127.0.0.1:1/flexi/front-end:7" in docker("images", "--format", "{{.Repository}}:{{.Tag}}")
    assert "connection refused" in said
