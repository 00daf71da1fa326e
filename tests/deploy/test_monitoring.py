# SPDX-License-Identifier: Apache-2.0
"""deploy/monitoring: its rules are right, and name what the product really tells; a real Prometheus fires."""

import json
import os
import re
import subprocess
import sys

import httpx
import pytest
import yaml
from edge import ROOT, Ports
from fixtures import TOKEN
from parts import Part, System, eventually

sys.path.append(str(ROOT / "tests/system"))

FOLDER = ROOT / "deploy/monitoring"
SELECTOR = re.compile(r"\b((?:flexi|flexiconnect)_\w+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\bby \(([^)]*)\)")
OF_PROMETHEUS = {"instance", "job", "service", "le"}  # what scraping adds; le is a histogram's


def promtool(*words):
    return subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=60, cwd=FOLDER)


def rules():
    return [rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]]


def panels():
    return [panel for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"] if panel["type"] != "row"]


def expressions():
    found = {rule.get("alert") or rule["record"]: rule["expr"] for rule in rules()}
    return found | {f"panel {panel['title']} {target['refId']}": target["expr"] for panel in panels() for target in panel["targets"]}


@pytest.mark.parametrize("words", [("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml"), ("check", "config", "--syntax-only", "prometheus.yml"),
                                   ("check", "config", "--syntax-only", "prometheus-swarm.yml")], ids=" ".join)
def test_promtool_finds_nothing(words):
    done = promtool(*words)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_and_says_what_to_do():
    tested = (FOLDER / "rules_test.yml").read_text()
    documented = (ROOT / "docs/monitoring.md").read_text()
    for rule in rules():
        if name := rule.get("alert"):
            assert name in tested, f"{name} is fired by no test"
            assert f"`{name}`" in documented, f"docs/monitoring.md has no row for {name}"
            assert rule["labels"]["severity"] in ("page", "ticket") and set(rule["annotations"]) == {"summary", "action"}


def test_the_dashboards_queries_can_be_read(tmp_path):
    queries = [target["expr"].replace("$__rate_interval", "5m") for panel in panels() for target in panel["targets"]]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [{"record": f"q{n}", "expr": query} for n, query in enumerate(queries)]}]}))
    done = promtool("check", "rules", str(tmp_path / "queries.yml"))
    assert done.returncode == 0 and len(queries) > 20, done.stdout + done.stderr


def test_swarms_configuration_differs_by_its_names_alone():
    compose, swarm = (yaml.safe_load((FOLDER / name).read_text()) for name in ("prometheus.yml", "prometheus-swarm.yml"))
    for job in compose["scrape_configs"]:
        for discovery in job["dns_sd_configs"]:
            discovery["names"] = [f"tasks.{name}" for name in discovery["names"]]
    assert compose == swarm


@pytest.fixture(scope="module")
def token(tmp_path_factory):
    file = tmp_path_factory.mktemp("token") / "admin_token"
    file.write_text(TOKEN + "\n")
    return file


@pytest.fixture
def whole(tmp_path, token, request):
    """Every service on its real server: {service name: Part}."""
    from smtp_support import SmtpServer
    vhost, users, logs = (request.getfixturevalue(name) for name in ("vhost", "pg_database", "log_database"))
    smtp = SmtpServer()
    own = {"FLEXI_ADMIN_TOKEN_FILE": token, "FLEXI_ADMIN_TOKEN_ALWAYS": "true"}
    on = {"logger": own | logs.settings | {"FLEXI_STORAGE": "auto"}, "authentication": own | {"DSN": users.dsn, "FLEXI_STORAGE": "auto", "FLEXI_EXAMPLE_USER": "yes"},
          "mail": own | {"DSN": users.dsn, "MAIL_HOST": "127.0.0.1", "MAIL_PORT": smtp.port, "FLEXI_STORAGE": "auto"}}
    system = System(tmp_path / "system", amqp_url=vhost.url, mail=True, on=on, queue_settings=own, listener_settings=own).start()
    front_end = Part("front-end", tmp_path, own).start()
    try:
        yield {"broker-service": system.broker, "authentication-service": system.authentication, "logger-service": system.logger, "mail-service": system.mail,
               "listener-service": system.listeners[0], "front-end": front_end}
    finally:
        front_end.close()
        system.close()
        smtp.stop()


def metrics_of(part):
    headers = {"Authorization": f"Bearer {TOKEN}"} if "FLEXI_ADMIN_TOKEN_FILE" in part.settings else {}
    with part.client() as client:
        return client.get("/metrics", headers=headers).text


def use(parts):
    """One of each, so that what is counted from the first time is there."""
    with parts["broker-service"].client() as client:
        payloads = {"log": {"name": "m", "data": "d"}, "mail": {"to": "you@example.com", "subject": "s", "message": "m"},
                    "auth": {"email": "admin@example.com", "password": "verysecret"}}
        for action, payload in payloads.items():
            for via in ("http", "amqp"):
                eventually(lambda: client.post("/handle", json={"action": action, "via": via, action: payload}).status_code == 202, f"{action} by {via}", seconds=60)
        eventually(lambda: client.get("/readyz").status_code == 200, "the broker is ready")
        # The broker reads the ledger by itself, but after a slow reading, as at the start, not for a while.
        assert client.get("/ledger", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def series_of(parts):
    """{metric: [labels]} as the processes tell them now."""
    found = {}
    for part in parts.values():
        for line in metrics_of(part).splitlines():
            if match := re.match(r"(\w+)(?:\{(.*)\})? ", line):
                found.setdefault(match[1], []).append(dict(re.findall(r'(\w+)="([^"]*)"', match[2] or "")))
    return found


def complaints(told):
    """What the rules and the dashboard ask for that nobody tells."""
    wrong = []
    for where, expression in expressions().items():
        known = set(OF_PROMETHEUS)
        for name, matchers in SELECTOR.findall(expression):
            series = told.get(name, [])
            if not series:
                wrong.append(f"{where}: no metric {name}")
            known |= {label for labels in series for label in labels}
            for label, sign, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers):
                if label not in known or (sign == "=" and label not in OF_PROMETHEUS and not any(labels.get(label) == value for labels in series)):
                    wrong.append(f"{where}: {name} has no {label}{sign}{value}")
        if SELECTOR.search(expression):
            wrong += [f"{where}: no label {label}" for group in GROUPING.findall(expression) for label in re.split(r", *", group) if label not in known]
    return wrong


PROMETHEUS = {"global": {"scrape_interval": "300ms", "scrape_timeout": "250ms", "evaluation_interval": "300ms"}}


@pytest.fixture
def prometheus(tmp_path, token, whole):
    """A real one: the repository's job and rules, at a test's pace, told where the processes are."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text()) | PROMETHEUS
    job = config["scrape_configs"][0]
    assert job["job_name"] == "flexiconnect"
    job["authorization"]["credentials_file"] = str(token)
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [part.gate_url.removeprefix("http://")], "labels": {"__meta_dns_name": f"{name}."}} for name, part in whole.items()]
    config["scrape_configs"] = [job]
    quick = yaml.safe_load((FOLDER / "rules.yml").read_text())
    for group in quick["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = "1s"
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(quick))
    ports = Ports()
    url = f"http://127.0.0.1:{ports.take()}"
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(["prometheus", f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                                    f"--web.listen-address={url.removeprefix('http://')}"], stdout=log, stderr=log, env={"PATH": os.environ["PATH"]})
    with httpx.Client(base_url=url, timeout=10, trust_env=False) as client:
        def ready():
            assert process.poll() is None, (tmp_path / "prometheus.log").read_text()
            try:
                return client.get("/-/ready").status_code == 200
            except httpx.TransportError:
                return False

        try:
            eventually(ready, "Prometheus is ready", seconds=30)
            yield client
        finally:
            process.terminate()
            process.wait(20)


def query(client, expression):
    answer = client.get("/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", answer
    return answer["data"]["result"]


def firing(client):
    return {(alert["labels"]["alertname"], alert["labels"].get("service")) for alert in client.get("/api/v1/alerts").json()["data"]["alerts"] if alert["state"] == "firing"}


def test_a_real_prometheus_reads_the_product_and_fires(prometheus, whole, tmp_path):
    use(whole)
    embedded = Part("broker", tmp_path, {}, name="embedded").start()  # whose queue is its own
    try:
        told = series_of(whole | {"embedded": embedded})
    finally:
        embedded.close()
    assert complaints(told) == []
    eventually(lambda: len(query(prometheus, "flexi_ready == 1")) == len(whole), "all six are read and ready", seconds=30)
    assert {each["metric"]["service"] for each in query(prometheus, "up == 1")} == set(whole)
    eventually(lambda: not firing(prometheus), "nothing fires while all is well", seconds=30)
    logger = whole["logger-service"]
    logger.kill()
    eventually(lambda: ("ProcessDown", "logger-service") in firing(prometheus), "the alert fires", seconds=30)
    logger.start()
    eventually(lambda: not {alert for alert in firing(prometheus) if alert[0] in ("ProcessDown", "NotReady")}, "and ends", seconds=60)


def test_what_is_not_told_is_found():
    assert "MessagesUnaccounted: no metric flexiconnect_ledger_unaccounted" in complaints({})
