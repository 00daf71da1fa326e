# SPDX-License-Identifier: Apache-2.0
"""The stack on Docker Swarm, driven by the Make targets that an operator uses. Run by `make test-containers`, on images that images.py made; its name
keeps `pytest tests` from collecting it. What it measures is printed, and written to build/containers/swarm-figures.json.

One node's tasks are reached by their own addresses and by ports of the node, because the kernels that the tests run on often lack IPVS, which virtual
addresses and the routing mesh are made of; tools/test-containers says so in its last lines.
"""

import json
import pathlib
import time

import open_loop
import pytest
from swarm import KEPT, PAGE, SERVICES, STACK, Cluster, eventually

LOG = {"action": "log", "ack": "stored", "log": {"name": "event", "data": "hello"}}
MAIL = {"action": "mail", "mail": {"from": "me@example.com", "to": "you@example.com", "subject": "hello", "message": "hello"}}
LOGIN = {"action": "auth", "auth": {"email": "admin@example.com", "password": "verysecret"}}


@pytest.fixture(scope="module")
def cluster():
    made = Cluster()
    yield made
    made.close()


def show(title, figures):
    print(f"\n{title}: {figures['requests']} requests, {figures['failures']} failures, p50 {figures['p50']:.0f} ms, p99 {figures['p99']:.0f} ms, "
          f"longest {figures['max']:.0f} ms", flush=True)


def nothing_lost(load):
    failed = [line for line in load.lines if "error" in line]
    assert not failed, f"{len(failed)} of {len(load.lines)} failed, the first: {failed[:5]}"
    for found in load.settled():
        assert found["accepted"] > 0
        assert not found["lost"] and not found["doubled"], {name: keys if name == "accepted" else keys[:5] for name, keys in found.items()}


def test_every_service_answers_through_the_proxy(cluster):
    for request in (LOG, LOGIN, MAIL):  # healthy is what lives; the databases may want a moment more
        eventually(lambda r=request: cluster.call("POST", "/handle", r)[0] == 202, f"an answer to {request}")
    assert cluster.call("GET", "/", host=PAGE)[0] == 200


def test_the_broker_reaches_the_mail_service_by_the_queue_alone(cluster):
    status, said = cluster.call("POST", "/handle", MAIL | {"via": "http"})
    assert (status, said["error"]) == (403, True)
    broker, mail = cluster.first.containers("broker-service")[0], cluster.first.containers("mail-service")[0]
    assert broker.ran("getent", "hosts", "logger-service").returncode == 0
    assert broker.ran("getent", "hosts", "mail-service").returncode != 0
    for address in mail.ran("hostname", "-I").stdout.split():
        assert "pong" not in broker.curl(f"http://{address}/ping", "--connect-timeout", "1").lower(), f"the broker reaches {address}"


def test_secrets_are_in_no_environment_and_no_task_is_root(cluster):
    passwords = [(cluster.folder / "secrets" / name).read_text().strip() for name in ("admin_token", "postgres_password", "mongo_password", "rabbitmq_password")]
    for service in SERVICES:
        [spec] = json.loads(cluster.first.docker("service", "inspect", f"{STACK}_{service}"))
        assert not any(password in json.dumps(spec) for password in passwords), service
        for container in cluster.first.containers(service):
            assert pathlib.Path(f"/proc/{container.pid}/status").read_text().split("Uid:")[1].split()[0] == "10001", service


def test_scaled_services_share_the_work_within_seconds(cluster):
    for service in ("logger-service", "listener-service"):
        cluster.make("swarm-scale", f"SERVICE={service}", "N=3")
    eventually(lambda: len(cluster.first.containers("logger-service")) == len(cluster.first.containers("listener-service")) == 3, "three tasks of each")
    eventually(lambda: all(container.metric("flexi_amqp_queue_consumers", cluster.token) for container in cluster.first.containers("listener-service")), "three consumers")
    counts = {"logger-service": "flexi_http_requests_total", "listener-service": "flexi_amqp_stored_total"}

    def counted():
        return {(service, task.name): task.metric(name, cluster.token) for service, name in counts.items() for task in cluster.first.containers(service)}

    before = counted()
    with cluster.load() as load:
        time.sleep(10)
        after = counted()
    more = {task: after[task] - before.get(task, 0) for task in after}
    assert len(more) == 6 and min(more.values()) >= 10, more
    nothing_lost(load)
    for service in ("logger-service", "listener-service"):
        cluster.make("swarm-scale", f"SERVICE={service}", "N=2")


def test_a_container_that_is_killed_is_replaced(cluster):
    victim, *others = cluster.first.containers("logger-service")
    began = time.monotonic()
    cluster.first.docker("kill", "--signal", "KILL", victim.name)

    def replaced():
        names = {container.name for container in cluster.first.containers("logger-service")}
        return len(names) == 1 + len(others) and victim.name not in names
    eventually(replaced, "another one in its place")
    print(f"\na killed logger was replaced after {time.monotonic() - began:.0f} s", flush=True)
    cluster.make("swarm-scale", "SERVICE=logger-service", "N=2")
    assert cluster.call("POST", "/handle", LOG)[0] == 202


def test_rolling_every_service_to_a_new_tag_and_back_loses_no_request(cluster):
    with cluster.load() as load:
        time.sleep(20)
        began = time.time()
        for tag in ("two", "one"):
            for service in SERVICES:
                cluster.make("swarm-update", f"SERVICE={service}", f"TAG={tag}")
                assert cluster.image_of(service) == f"flexiconnect/{service}:{tag}"
        ended = time.time()
        time.sleep(20)
    phases = {"before": lambda at: at < began, "during": lambda at: began <= at < ended, "after": lambda at: at >= ended}
    figures = {phase: open_loop.figures([line for line in load.lines if when(line["at"])]) for phase, when in phases.items()}
    for phase, found in figures.items():
        show(f"rolling all services to a new tag and back, {phase}", found)
    (KEPT / "swarm-figures.json").write_text(json.dumps(figures | {"seconds": round(ended - began)}, indent=1) + "\n")
    nothing_lost(load)


def test_a_service_of_one_task_is_updated_without_a_gap(cluster):
    alone = ("logger-service", "broker-service")
    for service in alone:
        cluster.make("swarm-scale", f"SERVICE={service}", "N=1")
    with cluster.load() as load:
        time.sleep(3)
        for service in alone:
            cluster.make("swarm-update", f"SERVICE={service}", "TAG=two")
            cluster.make("swarm-rollback", f"SERVICE={service}")
            assert cluster.image_of(service) == f"flexiconnect/{service}:one"
    for service in alone:
        cluster.make("swarm-scale", f"SERVICE={service}", "N=2")
    show("rolling a logger and a broker of one task each, and back", open_loop.figures(load.lines))
    nothing_lost(load)


def test_what_an_update_of_the_proxy_costs_on_a_port_of_its_node(cluster):
    """Stop-first: nobody listens for a while. What was accepted is there all the same."""
    with cluster.load() as load:
        time.sleep(5)
        cluster.make("swarm-update", "SERVICE=caddy", "TAG=two")
        time.sleep(5)
    failed = [line for line in load.lines if "error" in line]
    kinds = sorted({line["error"].split(" ", 1)[0] for line in failed})
    away = max(line["at"] for line in failed) - min(line["at"] for line in failed) if failed else 0
    print(f"\nupdating the proxy on a port of its node: {len(failed)} of {len(load.lines)} requests failed within {away:.1f} s: {', '.join(kinds)}", flush=True)
    for found in load.settled():
        assert found["accepted"] > 0 and not found["lost"] and not found["doubled"], found
    cluster.make("swarm-update", "SERVICE=caddy", "TAG=one")


BROKEN = {"ends at once": 'CMD ["no-such-command"]', "never gets healthy": 'HEALTHCHECK --interval=1s --retries=2 CMD ["false"]\nENTRYPOINT ["sleep", "600"]'}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_image_is_rolled_back_by_itself(cluster, how):
    cluster.build("flexiconnect/logger-service:broken", f"FROM flexiconnect/logger-service:one\n{BROKEN[how]}\n")
    before = {container.name for container in cluster.first.containers("logger-service")}
    with cluster.load() as load:
        time.sleep(3)
        code, said = cluster.make("swarm-update", "SERVICE=logger-service", "TAG=broken", check=False)
    assert code != 0 and "rollback" in said, said
    assert cluster.image_of("logger-service") == "flexiconnect/logger-service:one"
    assert before <= {container.name for container in cluster.first.containers("logger-service")}, "the tasks that worked were left alone"
    nothing_lost(load)
