# SPDX-License-Identifier: Apache-2.0
"""The served description against the running server: every operation answers as it says, and every route is in it."""

import re
import uuid

import jsonschema
import pytest
import yaml
from conftest import EXAMPLE_USER, ROOT, envelope, eventually, post_log

DOCUMENT = yaml.safe_load((ROOT / "schemas/openapi.yaml").read_text())
METHODS = {"get", "post", "put", "patch", "delete"}
OPERATIONS = [(method, path) for path, item in DOCUMENT["paths"].items() for method in item if method in METHODS]
RESOLVER = jsonschema.RefResolver.from_schema(DOCUMENT)

# What MISSION.md and the issue name; a route that is missing here and in the document would be nobody's.
ROUTES = {"post /", "get /", "post /handle", "post /log-gRPC", "post /authenticate", "post /log", "post /send", "post /actions/{action}", "get /logs", "get /logs/{id}", "get /logs/tail", "get /receipts/{id}", "get /ledger",
          "get /mails", "get /mails/{id}", "delete /mails/{id}", "post /mails/{id}/release", "get /users", "post /users", "get /users/{id}", "put /users/{id}", "delete /users/{id}",
          "post /users/{id}/password", "get /me", "get /dlq", "get /dlq/{id}",
          "post /dlq/{id}/replay", "delete /dlq/{id}", "post /dlq/replay", "delete /dlq", "get /system", "get /ping", "get /healthz", "get /readyz", "get /metrics", "get /openapi.yaml"}


def resolved(value):
    while isinstance(value, dict) and "$ref" in value:
        value = RESOLVER.resolve(value["$ref"])[1]
    return value


def operation(method, path):
    return DOCUMENT["paths"][path][method]


def parameters(method, path):
    listed = DOCUMENT["paths"][path].get("parameters", []) + operation(method, path).get("parameters", [])
    return [resolved(parameter) for parameter in listed]


def check(response, method, path):
    """The status is documented, and the body fits what is documented for it."""
    documented = operation(method, path)["responses"]
    assert str(response.status_code) in documented, f"{method} {path}: {response.status_code} is not documented; {response.text}"
    answer = resolved(documented[str(response.status_code)])
    content = answer.get("content")
    if not content:
        return
    kind = response.headers["content-type"].split(";")[0]
    assert kind in content, f"{method} {path}: {kind} is not documented"
    if kind == "application/json":
        jsonschema.Draft202012Validator(content[kind]["schema"], resolver=RESOLVER).validate(response.json())
    for name, header in answer.get("headers", {}).items():
        if name in response.headers:
            schema = resolved(resolved(header)["schema"])
            value = int(response.headers[name]) if schema.get("type") == "integer" else response.headers[name]
            jsonschema.Draft202012Validator(schema, resolver=RESOLVER).validate(value)


def bodies(method, path):
    body = operation(method, path).get("requestBody")
    if not body:
        return [None]
    media = body["content"]["application/json"]
    return [example["value"] for example in media.get("examples", {}).values()] or [media.get("example", {})]


@pytest.fixture(scope="module")
def existing(shared):
    """Something for each {id} to be."""
    key = uuid.uuid4().hex
    with shared.client() as client:
        envelope(client.post("/send", json={"to": "you@example.com", "subject": "openapi", "message": "m"}), 202)
        envelope(client.post("/log", json={"name": "a", "data": "1"}, headers={"X-Flexi-Id": key}), 202)
        envelope(post_log(client, "b", "2", headers={"Idempotency-Key": key}, via="amqp", ack="accepted"), 202)
        letter = eventually(lambda: client.get("/dlq").json()["data"], "a dead letter")[0]
        mail = client.get("/mails").json()["data"][0]
        return {"/mails": mail["id"], "/dlq": letter["id"], "/users": 1, "/logs": key, "/receipts": key}


def urls(method, path, existing):
    """With an id that is there, and with one that is not; those that destroy come with the latter only, see below."""
    if "{id}" not in path:
        return [path.replace("{action}", "logs.list")]
    there = existing["/" + path.split("/")[1]]
    missing = path.replace("{id}", "424242")
    return [missing] if method == "delete" else [path.replace("{id}", str(there)), missing]


@pytest.mark.parametrize("method, path", OPERATIONS, ids=lambda value: value)
def test_every_operation_answers_as_documented(http, existing, method, path):
    if path == "/logs/tail":
        with http.stream("GET", path) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].split(";")[0] in operation(method, path)["responses"]["200"]["content"]
        return
    query = {parameter["name"]: parameter["example"] for parameter in parameters(method, path) if parameter["in"] == "query" and "example" in parameter}
    required = any(parameter.get("required") for parameter in parameters(method, path) if parameter["in"] == "query")
    # What wants a login gets one.
    headers = {}
    if operation(method, path).get("security") == [{"loginToken": []}]:
        check(http.request(method.upper(), path), method, path)
        headers["Authorization"] = "Bearer " + http.post("/authenticate", json=EXAMPLE_USER).headers["x-flexi-token"]
    statuses = []
    for url in urls(method, path, existing):
        for body in bodies(method, path):
            for chosen in ([query] if required else [{}, query] if query else [{}]):
                response = http.request(method.upper(), url, json=body, params=chosen, headers=headers)
                check(response, method, path)
                statuses.append(response.status_code)
    if path == "/receipts/{id}":
        assert set(statuses) == {200}  # an id that nobody knows is `unknown`
    elif "{id}" in path and method != "delete" and "release" not in path and "replay" not in path:
        assert statuses[0] == 200 and 404 in statuses
    elif "{id}" not in path:
        assert min(statuses) in (200, 202) and max(statuses) in (200, 202), statuses


def test_what_is_deleted_answers_as_documented(own):
    with own.client() as client:
        envelope(client.post("/send", json={"to": "you@example.com", "subject": "openapi", "message": "m"}), 202)
        mail = client.get("/mails").json()["data"][0]
        check(client.delete(f"/mails/{mail['id']}"), "delete", "/mails/{id}")


BAD = [b"", b"{", b'{"action":1}', b"[]", b'{"name":1}']


@pytest.mark.parametrize("method, path", [pair for pair in OPERATIONS if pair[0] == "post" and "requestBody" in operation(*pair) and operation(*pair)["requestBody"]["required"]], ids=lambda value: value)
@pytest.mark.parametrize("body", BAD)
def test_bad_input_answers_as_documented(http, method, path, body):
    check(http.post(path.replace("{action}", "logs.list").replace("{id}", "424242"), content=body, headers={"Content-Type": "application/json"}), method, path)


@pytest.mark.parametrize("method, path", [pair for pair in OPERATIONS if any(parameter["name"] == "limit" for parameter in parameters(*pair))], ids=lambda value: value)
def test_bad_queries_answer_as_documented(http, method, path):
    for query in ({"limit": 0}, {"limit": "x"}, {"cursor": "***"}):
        response = http.get(path, params=query)
        assert response.status_code == 400
        check(response, method, path)


def test_every_route_is_documented():
    assert {f"{method} {path}" for method, path in OPERATIONS} == ROUTES


@pytest.mark.parametrize("path", DOCUMENT["paths"], ids=lambda value: value)
def test_other_methods_are_refused_with_the_documented_ones(http, path):
    """A method that the server knows and the document does not would show in Allow."""
    response = http.request("PATCH", path.replace("{id}", "1").replace("{action}", "x"))
    assert response.status_code == 405
    allowed = {method.strip().lower() for method in response.headers["allow"].split(",")} - {"head", "options"}
    assert allowed == {method for method in DOCUMENT["paths"][path] if method in METHODS}


def test_the_page_calls_documented_paths_only():
    documented = {re.sub(r"\{\w+\}", "*", path) for path in DOCUMENT["paths"]}
    called = set()
    for script in (ROOT / "web/app").glob("*.js"):
        for path in re.findall(r"""["'`](/[a-zA-Z][^"'`?\s]*)""", script.read_text()):
            called.add(re.sub(r"\$\{[^}]*\}", "*", path))
    assert called and called <= documented | {"/"}, called - documented


def test_the_served_description_is_this_one(http):
    assert yaml.safe_load(http.get("/openapi.yaml").text) == DOCUMENT


def test_it_is_openapi():
    assert DOCUMENT["openapi"].startswith("3.1")
    ids = [operation(*pair)["operationId"] for pair in OPERATIONS]
    assert len(ids) == len(set(ids))
    for path in DOCUMENT["paths"]:
        for name in re.findall(r"\{(\w+)\}", path):
            for method in set(DOCUMENT["paths"][path]) & METHODS:
                assert any(parameter["name"] == name and parameter["in"] == "path" and parameter["required"] for parameter in parameters(method, path))
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    references = re.findall(r"#/components/[\w/]+", (ROOT / "schemas/openapi.yaml").read_text())
    for reference in references:
        RESOLVER.resolve(reference)
