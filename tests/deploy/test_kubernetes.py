# SPDX-License-Identifier: Apache-2.0
"""deploy/kubernetes: what the API would take, and what it promises."""

import os
import re
import subprocess

import pytest
import yaml
from edge import BINARY
from kubernetes import FOLDER, ROOT, cannot, cannot_render, complaints, rendered, resources

SERVICES = ("broker-service", "authentication-service", "logger-service", "mail-service", "listener-service", "front-end")
OURS = ("FLEXI_", "MAIL_", "FROM_", "BROKER_URL", "DSN", "MONGO_URI", "AMQP_URI")
HARD_STOP_SECONDS = 2


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return rendered(tmp_path_factory.mktemp("kubernetes"))


@pytest.fixture(scope="module")
def all_of(text):
    return resources(text)


@pytest.fixture(scope="module")
def workloads(all_of):
    return {name: each for (kind, name), each in all_of.items() if kind in ("Deployment", "StatefulSet")}


def settings_of_the_program():
    """All of them, by their default; nothing of the caller's environment, where a FLEXI_ variable that is no setting is an error."""
    done = subprocess.run([str(BINARY), "print-config"], capture_output=True, text=True, timeout=20, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr
    return done.stdout


def pod(workload):
    return workload["spec"]["template"]["spec"]


def container(workload):
    return pod(workload)["containers"][0]


def test_the_api_would_take_it(text):
    if why := cannot():
        pytest.skip(why[0])
    assert complaints(text) == []


def test_a_field_that_does_not_exist_is_found(text):
    if why := cannot():
        pytest.skip(why[0])
    assert len(complaints(text.replace("readOnlyRootFilesystem", "readOnlyRootFileSystem", 1))) == 1


def test_it_has_the_contracts_services(all_of, workloads):
    assert set(workloads) == set(SERVICES)
    for name in SERVICES:
        service = all_of["Service", name]["spec"]
        assert service["clusterIP"] == "None", "callers see every pod"
        assert service["selector"].items() <= workloads[name]["spec"]["template"]["metadata"]["labels"].items()
        assert container(workloads[name])["image"].split("/")[-1].startswith(name + ":")
        ports = {port["port"] for port in service["ports"]}
        assert ports == ({80} if name in ("listener-service", "front-end") else {80, 50001, 5001})
        assert {port["containerPort"] for port in container(workloads[name])["ports"]} == ports


def test_nobody_has_more_rights_than_needed(workloads):
    for name, workload in workloads.items():
        assert pod(workload)["automountServiceAccountToken"] is False, name
        assert pod(workload)["securityContext"]["runAsNonRoot"] is True and pod(workload)["securityContext"]["runAsUser"] > 0
        rights = container(workload)["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True and rights["allowPrivilegeEscalation"] is False and rights["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container(workload)["resources"]["limits"]


def test_the_drain_fits_into_the_grace_period(workloads):
    stop_grace = int(re.search(r'^stop_grace = "(\d+)s"', settings_of_the_program(), re.M)[1])
    for name, workload in workloads.items():
        command = container(workload)["lifecycle"]["preStop"]["exec"]["command"]
        assert command[0] == "sleep"
        assert pod(workload)["terminationGracePeriodSeconds"] > int(command[1]) + stop_grace + HARD_STOP_SECONDS, name


def test_probes(workloads):
    for name, workload in workloads.items():
        paths = {probe: container(workload)[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
        # The broker serves while RabbitMQ is away, and says on /readyz that it is.
        assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/healthz" if name == "broker-service" else "/readyz"}, name


def test_the_spool_outlives_its_pod(workloads):
    broker = workloads["broker-service"]
    assert broker["kind"] == "StatefulSet" and broker["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    claims = {claim["metadata"]["name"] for claim in broker["spec"]["volumeClaimTemplates"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container(broker)["volumeMounts"]}
    variables = {each["name"]: each.get("value") for each in container(broker)["env"]}
    assert {"data", "spool"} == claims and claims <= set(mounts)
    assert variables["FLEXI_SPOOL_DIRECTORY"].startswith(mounts["spool"] + "/") and variables["FLEXI_DATA_DIR"].startswith(mounts["data"] + "/")


def test_every_service_keeps_a_pod_while_nodes_are_drained(all_of, workloads):
    for name in SERVICES:
        budget = all_of["PodDisruptionBudget", name]["spec"]
        assert budget["maxUnavailable"] == 1 and workloads[name]["spec"]["replicas"] > 1
        assert budget["selector"]["matchLabels"].items() <= workloads[name]["spec"]["template"]["metadata"]["labels"].items()
    scaled = {each["spec"]["scaleTargetRef"]["name"] for (kind, _), each in all_of.items() if kind == "HorizontalPodAutoscaler"}
    assert scaled and scaled <= {name for name, workload in workloads.items() if workload["kind"] == "Deployment"}, "a broker that goes may leave a spool"


def may_call(all_of, caller, service):
    """Whether a policy lets pods of one service call another's."""
    policy = all_of.get(("NetworkPolicy", service))
    peers = [peer for rule in policy["spec"]["ingress"] for peer in rule["from"]] if policy else []
    return any(peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/name") == caller for peer in peers)


def test_who_may_call_whom(all_of, workloads):
    calls = {(caller, service) for caller in SERVICES for service in SERVICES if may_call(all_of, caller, service)}
    assert calls == {("broker-service", "authentication-service"), ("listener-service", "authentication-service"), ("broker-service", "logger-service"),
                     ("listener-service", "logger-service"), ("authentication-service", "logger-service"), ("mail-service", "logger-service"), ("listener-service", "mail-service")}
    everyone = all_of["NetworkPolicy", "flexiconnect"]["spec"]
    assert everyone["policyTypes"] == ["Ingress"] and all(rule["from"] for rule in everyone["ingress"]), "what is not said is refused"
    for workload in workloads.values():
        assert everyone["podSelector"]["matchLabels"].items() <= workload["spec"]["template"]["metadata"]["labels"].items()
    broker = {each["name"]: each.get("value") for each in container(workloads["broker-service"])["env"]}
    assert broker["FLEXI_PEERS_MAIL"] == "" and broker["FLEXI_BROKER_MAIL_FORBIDDEN"] == "http,grpc,rpc"


def test_every_variable_is_a_setting(all_of, workloads):
    known = set(re.findall(r"\b[A-Z][A-Z_]+\b", settings_of_the_program()))
    used = {each["name"] for workload in workloads.values() for each in container(workload)["env"]}
    used |= {name for (kind, _), each in all_of.items() if kind == "ConfigMap" for name in each["data"]}
    used |= {literal.split("=", 1)[0] for path in FOLDER.rglob("kustomization.yaml") for each in yaml.safe_load(path.read_text()).get("configMapGenerator", []) for literal in each["literals"]}
    assert len(used) > 12 and all(name.startswith(OURS) for name in used)
    # X_FILE names a file that has X.
    assert {name for name in used if name not in known and name.removesuffix("_FILE") not in known} == set()


def test_what_is_named_is_there(all_of, workloads):
    if cannot_render():
        pytest.skip(cannot_render()[0])
    for name, workload in workloads.items():
        for source in container(workload)["envFrom"]:
            assert ("ConfigMap", source["configMapRef"]["name"]) in all_of, name
        for volume in pod(workload)["volumes"]:
            secret = all_of["Secret", volume["secret"]["secretName"]]
            assert {item["key"] for item in volume["secret"]["items"]} <= set(secret["data"]), name
            files = {f"/run/secrets/flexiconnect/{item['path']}" for item in volume["secret"]["items"]}
            named = {each["value"] for each in container(workload)["env"] if each["name"].endswith("_FILE")}
            assert named == files, f"{name} has what it reads, and nothing else"
    for rule in all_of["Ingress", "flexiconnect"]["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            assert ("Service", path["backend"]["service"]["name"]) in all_of


def test_no_secret_is_in_the_repository():
    for path in FOLDER.rglob("*.yaml"):
        for each in yaml.safe_load_all(path.read_text()):
            assert each["kind"] != "Secret", path
            assert not any("literals" in secret for secret in each.get("secretGenerator", [])), path
    ignored = subprocess.run(["git", "check-ignore", "deploy/kubernetes/overlays/example/secrets/dsn"], cwd=ROOT, capture_output=True, text=True)
    assert ignored.returncode == 0 or "not a git repository" in ignored.stderr
