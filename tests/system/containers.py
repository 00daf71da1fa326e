# SPDX-License-Identifier: Apache-2.0
"""The product as a Compose project that runs already, in an Instance's place, where FLEXI_TEST_ON=containers: what a client sends goes to the broker
through the proxy, as from another machine; what asks for a port gets the broker's own. tests/containers starts it and says in FLEXI_TEST_STACK where
everything is:

    {"sites": {"broker": "https://…", …}, "token": "…", "parts": {"broker": {"http": "http://…", "container": "…"}, …}}
"""

import json
import os
import pathlib
import socket
import subprocess

import httpx
from services import Router, role_of

ON_CONTAINERS = os.environ.get("FLEXI_TEST_ON") == "containers"
ANYBODYS = {("POST", path) for path in ("/", "/handle", "/log-gRPC", "/authenticate", "/log", "/send")}
PROXIED = "the proxy answers in the broker's place: tests/deploy/test_proxy.py"
LEFT_OUT = dict.fromkeys(("test_security.py::test_another_host_name_may_not_administer", "test_security.py::test_a_host_that_is_not_loopbacks_is_told_as_the_reason",
                          "test_security.py::test_the_own_origin_may"), PROXIED)


class Part:
    """One container's own address."""

    def __init__(self, url, container):
        self.url, self.container = url, container

    @property
    def port(self):
        return int(self.url.rsplit(":", 1)[1])

    def running(self):
        seen = subprocess.run(["docker", "inspect", "--format", "{{.State.Running}} {{.RestartCount}}", self.container], capture_output=True, text=True)
        return seen.stdout.split() == ["true", "0"]

    def log(self):
        return subprocess.run(["docker", "logs", "--tail", "100", self.container], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def resolve_localhost(getaddrinfo=socket.getaddrinfo):
    """Source: RFC 6761 section 6.3, which browsers follow and this system's resolver does not."""
    socket.getaddrinfo = lambda host, *more, **named: getaddrinfo("127.0.0.1" if str(host).endswith(".localhost") else host, *more, **named)


class ProxyRouter(Router):
    """The contract's calls of the broker and the page go through the proxy, the services' own to them; all as the administrator."""

    def handle_request(self, request):
        role = role_of(request.method, request.url.path)
        target = httpx.URL(self.services.sites.get(role) or self.services.parts[role].url)
        request.url = request.url.copy_with(scheme=target.scheme, host=target.host, port=target.port)
        if request.headers.get("host") == self.services.own_name:
            request.headers["host"] = target.netloc.decode()
        # A key that comes with the token is the administrator's own: what anybody may call is called by anybody.
        if "authorization" not in request.headers and (request.method, request.url.path) not in ANYBODYS:
            request.headers["authorization"] = f"Bearer {self.services.token}"
        return self.inner.handle_request(request)


class Containers:
    """What Instance is, from outside."""

    def __init__(self):
        stack = json.loads(pathlib.Path(os.environ["FLEXI_TEST_STACK"]).read_text())
        self.token, self.sites = stack["token"], stack["sites"]
        resolve_localhost()
        self.parts = {role: Part(part["http"], part["container"]) for role, part in stack["parts"].items()}
        self.own_name = httpx.URL(self.url).netloc.decode()

    @property
    def url(self):
        return self.parts["broker"].url

    @property
    def port(self):
        return self.parts["broker"].port

    def at(self, path):
        return self.parts[role_of("POST", path)]

    def client(self, **options):
        own = {name: options.pop(name) for name in ("http2",) if name in options}
        options.pop("verify", None)  # the proxy's certificate is its own authority's
        return httpx.Client(base_url=self.url, timeout=30, transport=ProxyRouter(self, verify=False, **own), **options)

    def running(self):
        return all(part.running() for part in self.parts.values())

    def log(self):
        return "\n".join(f"--- {role}\n{part.log()}" for role, part in self.parts.items())


def why_left_out(item):
    """Beside what a run on services leaves out."""
    if "shared" not in item.fixturenames or {"own", "make_instance"} & set(item.fixturenames):
        return "starts a system of its own"
    name = f"{item.path.name}::{item.name}"
    return next((why for key, why in LEFT_OUT.items() if name.startswith(key)), None)
