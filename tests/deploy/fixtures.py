# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the product behind Caddy. Not a conftest.py: the system suite imports names from its own."""

import shutil

import pytest
from edge import CADDY, PAGE, Caddy, Dns
from parts import BINARY, Part, System, eventually

TOKEN = "t" * 40


def need_caddy():
    if not shutil.which(CADDY):
        pytest.fail(f"{CADDY} is not there: make deps-test")
    if not BINARY.exists():
        pytest.fail(f"{BINARY} is not there: build it (make build), or name it in FLEXI_BINARY")


class Product:
    """Broker, logger, mail and front end, each a process, and Caddy before them."""

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        token = folder / "token"
        token.write_text(TOKEN)
        self.caddy = Caddy(folder / "caddy")
        self.origin = f"https://{PAGE}:{self.caddy.https}"
        self.backend = f"https://backend.localhost:{self.caddy.https}"
        administered = {"FLEXI_ADMIN_TOKEN_FILE": token, "FLEXI_HTTP_ALLOWED_ORIGINS": self.origin, "FLEXI_HTTP_EVENT_KEEP_ALIVE": "1s"}
        port = self.caddy.ports.take()  # kept, so that a broker that is started again is where it was
        at = {"FLEXI_HTTP_LISTEN": f"127.0.0.1:{port}"}
        services = dict.fromkeys(("logger", "mail", "authentication"), {"FLEXI_STORAGE": "embedded", "FLEXI_ADMIN_TOKEN_FILE": token})
        self.system = System(folder / "system", mail=True, on=services, queue_settings=administered | at)
        self.front_end = Part("front-end", folder, {"BROKER_URL": self.backend})
        self.caddy.environment |= {"BROKER_HOST": "127.0.0.1", "BROKER_PORT": str(port), "FRONT_END_HOST": "127.0.0.1"}

    def start(self):
        self.system.start()
        self.front_end.start()
        self.caddy.environment["FRONT_END_PORT"] = self.front_end.url.rsplit(":", 1)[1]
        with self.system.broker.client() as client:
            eventually(lambda: client.get("/readyz").status_code == 200, "the broker is ready")
        self.caddy.start()
        return self

    def close(self):
        self.caddy.stop()
        self.front_end.close()
        self.system.close()


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    need_caddy()
    made = Product(tmp_path_factory.mktemp("product"))
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def backend(product):
    with product.caddy.client() as client:
        yield client


@pytest.fixture
def page(product):
    with product.caddy.client(PAGE) as client:
        yield client


@pytest.fixture
def make_caddy(tmp_path):
    need_caddy()
    made = []

    def make(settings=None, addresses=None):
        made.append(Caddy(tmp_path / f"caddy-{len(made)}", settings, Dns(addresses) if addresses is not None else None))
        return made[-1]

    yield make
    for each in made:
        each.stop()
        if each.dns:
            each.dns.close()
