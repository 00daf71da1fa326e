# SPDX-License-Identifier: Apache-2.0
"""The page and the broker as a client sees them through Caddy."""

import gzip
import json
import re
import socket
import time

import httpx
import pytest
from edge import BACKEND, PAGE, Caddy
from fixtures import TOKEN, backend, page, product  # noqa: F401  fixtures
from parts import eventually

ADMINISTRATOR = {"Authorization": f"Bearer {TOKEN}"}


def log(client, data="through the proxy", **options):
    return client.post("/handle", json={"action": "log", "log": {"name": "proxy", "data": data}}, **options)


def test_the_contract_goes_through(backend):  # noqa: F811
    assert backend.post("/").json() == {"error": False, "message": "Hit the broker"}
    answer = log(backend)
    assert answer.status_code == 202 and answer.json()["message"] == "logger via RabbitMQ" and answer.headers["x-flexi-id"]
    assert backend.get("/ping").status_code == 200


def test_http_is_sent_to_https(product):  # noqa: F811
    with socket.create_connection(("127.0.0.1", product.caddy.http)) as plain:
        plain.sendall(f"GET /x HTTP/1.1\r\nHost: {PAGE}\r\n\r\n".encode())
        head = plain.recv(4096).decode()
    assert head.startswith("HTTP/1.1 308") and f"Location: https://{PAGE}" in head


@pytest.mark.parametrize("site", [PAGE, BACKEND])
def test_http_2_is_spoken(product, site):  # noqa: F811
    done = product.caddy.curl(site, "/ping", "--http2", "--write-out", "%{http_version} %{http_code}", "--output", "/dev/null")
    assert done.stdout.split()[0] == "2", done.stderr


def test_an_old_tls_is_refused(product):  # noqa: F811
    assert product.caddy.curl(PAGE, "/", "--tls-max", "1.1").returncode != 0


@pytest.mark.parametrize("site, path", [(PAGE, "/"), (PAGE, "/app/app.js"), (PAGE, "/nowhere"), (BACKEND, "/ping"), (BACKEND, "/nowhere")])
def test_security_headers(product, site, path):  # noqa: F811
    with product.caddy.client(site) as client:
        headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert "'none'" in headers["content-security-policy"]
    assert "server" not in headers or "addy" not in headers["server"]
    for name in ("content-security-policy", "x-content-type-options", "referrer-policy"):
        assert len(headers.get_list(name)) == 1, "said once, by the page or by the proxy"


def test_the_pages_own_policy_stays(product, page):  # noqa: F811
    assert product.backend in page.get("/").headers["content-security-policy"]


def test_hsts_is_for_real_names_alone(product, backend, make_plain):  # noqa: F811
    assert "strict-transport-security" not in backend.get("/ping").headers, "it would hold for every port of localhost"
    caddy = make_plain
    assert "strict-transport-security" not in caddy["plain"].headers
    assert caddy["named"].headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"


@pytest.fixture
def make_plain(product, tmp_path):  # noqa: F811
    """The same broker under a name, with a local certificate, and in plain text."""
    environment = {name: product.caddy.environment[name] for name in ("BROKER_HOST", "BROKER_PORT", "FRONT_END_HOST", "FRONT_END_PORT")}
    caddy = Caddy(tmp_path / "named", environment | {"CADDY_GLOBAL_OPTIONS": "local_certs"})
    port = caddy.ports.take()
    caddy.environment |= {"BACKEND": f"api.flexi.test, http://127.0.0.1:{port}"}
    caddy.can_greet = lambda: True
    caddy.start()

    def ask():
        try:
            with caddy.client("api.flexi.test") as client:
                return client.get("/ping")
        except httpx.TransportError:
            return None

    yield {"named": eventually(ask, "it has a certificate", seconds=20), "plain": httpx.get(f"http://127.0.0.1:{port}/ping", trust_env=False)}
    caddy.stop()


def test_what_is_text_is_compressed(product, page):  # noqa: F811
    for path in ("/", "/app/app.js", "/app/style.css", "/app/icon.svg"):
        answer = page.get(path, headers={"Accept-Encoding": "gzip"})
        assert answer.status_code == 200, path
        if int(answer.headers.get("content-length", 512)) >= 512 and len(answer.content) > 700:
            assert answer.headers["content-encoding"] == "gzip", path
    plain = page.get("/app/app.js", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers and plain.content == page.get("/app/app.js").content


def test_large_answers_of_the_broker_are_compressed(product, backend):  # noqa: F811
    for n in range(20):
        assert log(backend, "a line that repeats itself " * 20).status_code == 202
    with backend.stream("GET", "/metrics", headers=ADMINISTRATOR | {"Accept-Encoding": "gzip"}) as answer:
        assert answer.status_code == 200 and answer.headers["content-encoding"] == "gzip"
        assert b"flexi" in gzip.decompress(b"".join(answer.iter_raw()))


def test_static_files_are_kept_and_the_page_is_not(page):  # noqa: F811
    assert page.get("/app/app.js").headers["cache-control"] == "public, max-age=60"
    assert page.get("/").headers["cache-control"] == "no-cache"
    etag = page.get("/app/app.js").headers["etag"]
    again = page.get("/app/app.js", headers={"If-None-Match": etag})
    assert again.status_code == 304 and again.headers["cache-control"] == "public, max-age=60"
    assert "max-age" not in page.get("/app/nothing.js").headers.get("cache-control", "")


def test_every_request_has_an_id(product, backend):  # noqa: F811
    made = backend.get("/ping").headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f-]{36}", made)
    assert backend.get("/ping", headers={"X-Request-Id": "mine-1.2_3"}).headers["x-request-id"] == "mine-1.2_3"
    for forged in ("a b", "x" * 65, "<script>", "%0a"):
        assert re.fullmatch(r"[0-9a-f-]{36}", backend.get("/ping", headers={"X-Request-Id": forged}).headers["x-request-id"]), forged
    eventually(lambda: any("mine-1.2_3" in json.dumps(line) for line in product.caddy.accesses()), "it is in the access log")


def test_a_trace_goes_on(product, backend):  # noqa: F811
    trace = "0af7651916cd43dd8448eb211c80319c"
    assert log(backend, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01", "X-Flexi-Ack": "stored"}).status_code == 202
    found = backend.get("/logs", params={"trace": trace}, headers=ADMINISTRATOR)
    assert [entry["name"] for entry in found.json()["data"]] == ["proxy"]


def test_no_secret_is_in_the_access_log(product, backend):  # noqa: F811
    backend.get("/logs", headers=ADMINISTRATOR)
    backend.post("/handle", json={"action": "auth", "auth": {"email": "admin@example.com", "password": "secret-word"}})
    eventually(lambda: any(line["request"]["uri"] == "/logs" for line in product.caddy.accesses()), "the access is logged")
    assert TOKEN not in product.caddy.log() and "secret-word" not in product.caddy.log()


@pytest.mark.parametrize("forged", [{}, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1;host=localhost"}, {"X-Real-IP": "127.0.0.1"},
                                    {"Connection": "X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host"}, {"X-Flexi-Client": "127.0.0.1"}, {"Host": "backend.localhost:8080"}])
def test_nobody_is_an_administrator_because_the_proxy_is_near(backend, forged):  # noqa: F811
    for path in ("/logs", "/users", "/metrics", "/dlq", "/system"):
        assert backend.get(path, headers=forged).status_code in (401, 403), path
    assert backend.get("/logs", headers=forged | ADMINISTRATOR).status_code == 200


def test_a_page_of_the_site_may_administer_with_the_token(product, backend):  # noqa: F811
    answer = backend.get("/logs", headers=ADMINISTRATOR | {"Origin": product.origin})
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == product.origin
    assert backend.get("/logs", headers=ADMINISTRATOR | {"Origin": "https://elsewhere.example"}).status_code == 403


def test_the_brokers_own_limit_of_bodies_answers(backend):  # noqa: F811
    body = b'{"action":"log","log":{"name":"n","data":"' + b"x" * 1_200_000 + b'"}}'
    answer = backend.post("/handle", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"] is True


def test_past_the_proxys_limit_it_ends_there(backend):  # noqa: F811
    answer = backend.post("/handle", content=b"x" * 3_000_000, headers={"Content-Type": "application/json"})
    # 502: the broker closes behind its 413, which the proxy, still sending, may see before the answer.
    assert answer.status_code == 502 or (answer.status_code in (400, 413) and answer.json()["error"] is True)


def test_a_large_message_goes_through(backend):  # noqa: F811
    assert log(backend, "y" * 900_000).status_code == 202


def test_the_tail_comes_as_it_happens(product, backend):  # noqa: F811
    with backend.stream("GET", "/logs/tail", headers=ADMINISTRATOR | {"Accept": "text/event-stream", "Accept-Encoding": "gzip, zstd"}) as tail:
        assert tail.status_code == 200 and tail.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in tail.headers
        chunks = tail.iter_raw()
        with product.caddy.client() as other:
            before = time.monotonic()
            assert log(other, "seen at once", headers={"X-Flexi-Ack": "stored"}).status_code == 202
        seen = b""
        while b"seen at once" not in seen:
            seen += next(chunks)
        assert time.monotonic() - before < 3, "it is not held back until more comes"
        silence = next(chunks)  # what the server sends to say that it is there
        assert silence.startswith(b":")


def test_the_proxy_says_how_it_is(product):  # noqa: F811
    at = f"http://127.0.0.1:{product.caddy.status}"
    assert httpx.get(at + "/healthz", trust_env=False).text == "ok"
    assert "caddy_http_requests_total" in httpx.get(at + "/metrics", trust_env=False).text
