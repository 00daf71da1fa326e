# SPDX-License-Identifier: Apache-2.0
"""The product as six processes on real servers, in an Instance's place: authentication, logger, mail, listener, broker and front end. A
test that asks for an instance gets this one where FLEXI_TEST_ON=services; containers.py has them in containers."""

import concurrent.futures
import contextlib
import os
import uuid

import httpx
import pytest
from rabbitmq import Ports

ON = os.environ.get("FLEXI_TEST_ON", "embedded")
ON_SERVICES = ON in ("services", "containers")
ROLES = ("authentication", "logger", "mail", "listener", "broker", "front-end")
ALL = ("HTTP", "GRPC", "RPC")
LISTENERS = {"authentication": ALL, "logger": ALL, "mail": ALL, "broker": ALL, "listener": ("HTTP",), "front-end": ("HTTP",)}
QUICK = {"FLEXI_AMQP_RETRY_DELAY": "20ms", "FLEXI_AMQP_RETRY_FACTOR": "1", "FLEXI_AMQP_MAX_ATTEMPTS": "3", "FLEXI_AMQP_MAX_RECONNECT_DELAY": "300ms",
         "FLEXI_AMQP_RECONNECT_PATIENCE": "200ms", "FLEXI_SPOOL_MAX_RETRY_DELAY": "300ms"}
# Enough attempts for a database that is being reached while the services start.
PATIENT = QUICK | {"FLEXI_AMQP_RETRY_DELAY": "50ms", "FLEXI_AMQP_RETRY_FACTOR": "3", "FLEXI_AMQP_MAX_ATTEMPTS": "10"}
SERVICE_OF = {"/authenticate": "authentication", "/log": "logger", "/send": "mail"}


def role_of(method, path):
    """Where the contract has a call."""
    if path in SERVICE_OF:
        return SERVICE_OF[path]
    page = method in ("GET", "HEAD") and (path == "/" or path.startswith("/app/") or path == "/openapi.yaml")
    return "front-end" if page else "broker"


def embedded_only(why):
    """Marks what is about the embedded default itself: with FLEXI_TEST_ON=services it is left out, and counted."""
    return pytest.mark.embedded_only(why)


# What differs in words only: a way straight to a service, the way inside one process as a parameter, what the queue is called.
DIRECT = "http" if ON_SERVICES else "inproc"
INPROC = pytest.param("inproc", marks=embedded_only("a way inside one process"))
QUEUE_WAY = "amqp" if ON_SERVICES else "amqp;queue=embedded"


class Router(httpx.BaseTransport):
    """Sends each call to the process that owns it."""

    def __init__(self, services, **options):
        self.services, self.inner = services, httpx.HTTPTransport(trust_env=False, **options)

    def handle_request(self, request):
        part = self.services.parts[role_of(request.method, request.url.path)]
        request.url = request.url.copy_with(port=part.port)
        return self.inner.handle_request(request)

    def close(self):
        self.inner.close()


class Destinations:
    """Databases, a virtual host and a mail catcher of one system's own, on the servers of this run."""

    def __init__(self, request):
        from smtp_support import SmtpServer
        self.rabbitmq = request.getfixturevalue("rabbitmq")
        self.vhost = "test-" + uuid.uuid4().hex
        self.amqp_url = self.rabbitmq.add_vhost(self.vhost)
        self.postgresql, self.mongodb = request.getfixturevalue("postgresql"), request.getfixturevalue("mongodb")
        self.users = self.postgresql.add_database()
        self.dsn = self.postgresql.dsn_of(self.users)
        self.logs = "test-" + uuid.uuid4().hex
        self.smtp = SmtpServer()
        self.settings = {"authentication": {"DSN": self.dsn}, "logger": {"MONGO_URI": self.mongodb.url, "FLEXI_MONGO_DATABASE": self.logs},
                         "mail": {"MAIL_HOST": "127.0.0.1", "MAIL_PORT": self.smtp.port}, "listener": {"AMQP_URI": self.amqp_url}, "broker": {"AMQP_URI": self.amqp_url},
                         "front-end": {}}

    def close(self):
        self.smtp.stop()
        self.rabbitmq.delete_vhost(self.vhost)
        self.postgresql.delete_database(self.users)
        with contextlib.closing(self.mongodb.client()) as client:
            client.drop_database(self.logs)


class Services:
    """What Instance is, from outside."""

    def __init__(self, make_part, folder, destinations, settings=None):
        self.folder, self.destinations, self.settings = folder, destinations, settings or {}
        self.ports = Ports()
        listen = {role: {name: f"127.0.0.1:{self.ports.take()}" for name in names} for role, names in LISTENERS.items()}
        peers = {f"FLEXI_PEERS_{role.upper()}": ",".join(f"{name.lower()}://{listen[role][name]}" for name in ("HTTP", "GRPC", "RPC"))
                 for role in ("authentication", "logger", "mail")}
        self.parts = {}
        for role in ROLES:
            own = {f"FLEXI_{name}_LISTEN": address for name, address in listen[role].items()} | {"FLEXI_DATA_DIR": folder / role / "data"} | PATIENT | peers
            if role == "front-end":
                own["BROKER_URL"] = f"http://{listen['broker']['HTTP']}"
            if role == "broker":  # as docs/operations.md has it
                own["FLEXI_HTTP_ALLOWED_ORIGINS"] = f"http://{listen['front-end']['HTTP']}"
            (folder / role).mkdir(parents=True, exist_ok=True)
            if role == "authentication":  # alone it makes itself no key
                own["FLEXI_AUTHENTICATION_TOKEN_KEY_FILE"] = folder / role / "token.key"
                own["FLEXI_AUTHENTICATION_TOKEN_KEY_FILE"].write_text("k" * 32)
            self.parts[role] = make_part(folder / role, settings=own | destinations.settings[role] | self.settings, role=role)
            if "GRPC" not in LISTENERS[role]:
                for name in ("FLEXI_GRPC_LISTEN", "FLEXI_RPC_LISTEN"):
                    self.parts[role].settings.pop(name, None)

    def each(self, act, parts=None):
        """All at once: they come up, and go, in any order."""
        with concurrent.futures.ThreadPoolExecutor(len(ROLES)) as pool:
            for done in [pool.submit(act, part) for part in parts or self.parts.values()]:
                done.result()

    def start(self):
        from conftest import eventually
        self.each(lambda part: part.start())
        for role in ROLES:
            with self.parts[role].client() as client:
                eventually(lambda: client.get("/readyz").status_code == 200, f"the {role} is ready", seconds=60)
        if not self.has_token():
            with self.parts["authentication"].client() as client:
                eventually(lambda: client.get("/users").json().get("data"), "the example user is there", seconds=60)
        return self

    def has_token(self):
        return "FLEXI_ADMIN_TOKEN_ALWAYS" in self.settings

    @property
    def broker(self):
        return self.parts["broker"]

    @property
    def url(self):
        return self.broker.url

    @property
    def page_url(self):
        return self.parts["front-end"].url

    @property
    def port(self):
        return self.broker.port

    @property
    def log_files(self):
        return [file for part in self.parts.values() for file in part.log_files]

    @property
    def data_dirs(self):
        return [part.data_dirs[0] for part in self.parts.values()]

    def users(self, *arguments, stdin=""):
        """`flexiconnect users …` on this system's accounts."""
        from conftest import run_cli
        return run_cli("users", *arguments, stdin=stdin, settings=self.destinations.settings["authentication"])

    def client(self, **options):
        own = {name: options.pop(name) for name in ("http2", "verify") if name in options}
        return httpx.Client(base_url=self.url, timeout=30, transport=Router(self, **own), **options)

    def at(self, path):
        return self.parts[role_of("POST", path)]

    def kill(self):
        for part in self.parts.values():
            part.kill()

    def terminate(self):
        running = [part for part in self.parts.values() if part.running()]
        if running:
            self.each(lambda part: part.terminate(), running)

    def running(self):
        return any(part.running() for part in self.parts.values())

    def log(self):
        return "\n".join(part.log() for part in self.parts.values())


# Whole files, and single cases, that are left out likewise.
ONE_PROCESS, OWN, FILES, MAILBOX = "the doors of one process", "starts its processes itself", "the embedded store's files", "the mailbox"
LEFT_OUT = {
    **dict.fromkeys(("test_amqp.py", "test_amqp_outage.py", "test_amqp_tls.py", "test_ledger_rabbitmq.py", "test_custom_targets.py", "test_mongodb.py", "test_postgresql.py",
                     "test_sent_mails_postgresql.py", "test_smtp.py", "test_page_elsewhere.py"), OWN),
    **dict.fromkeys(("test_durability.py", "test_failures_in_log.py", "test_upgrade.py", "test_transfer.py"), FILES),
    **dict.fromkeys(("test_system.py", "test_stop.py", "test_grpc_h2spec.py"), ONE_PROCESS),
    "test_mail_release.py": MAILBOX,
    "test_openapi.py::test_every_operation_answers_as_documented[post-/actions/{action}]": ONE_PROCESS,
    "test_openapi.py::test_every_operation_answers_as_documented[get-/mails": MAILBOX,
    "test_openapi.py::test_every_operation_answers_as_documented[delete-/mails": MAILBOX,
    "test_openapi.py::test_what_is_deleted_answers_as_documented": MAILBOX,
    "test_openapi.py::test_other_methods_are_refused_with_the_documented_ones[/]": ONE_PROCESS,
    "test_openapi.py::test_other_methods_are_refused_with_the_documented_ones[/actions/{action}]": ONE_PROCESS,
    "test_openapi.py::test_other_methods_are_refused_with_the_documented_ones[/openapi.yaml]": ONE_PROCESS,
    "test_security.py::test_administration_does_not_pass_as_a_message": ONE_PROCESS,
    "test_security.py::test_a_proxy_that_says_nothing_is_no_administrator": ONE_PROCESS,
    "test_limits.py::test_a_key_of_the_brokers_holds_at_the_services_door": ONE_PROCESS,
    "test_security.py::test_through_a_proxy_administration_wants_the_token": ONE_PROCESS,
    "test_security.py::test_from_another_address_administration_wants_the_token": ONE_PROCESS,
    "test_security.py::test_off_loopback_there_is_no_example_user": ONE_PROCESS,
    "test_security.py::test_the_data_folder_is_private": FILES,
}


def why_left_out(item):
    if mark := item.get_closest_marker("embedded_only"):
        return mark.args[0]
    name = f"{item.path.name}::{item.name}"
    if why := next((why for key, why in LEFT_OUT.items() if name.startswith(key)), None):
        return why
    return None if {"own", "shared", "make_instance", "accounts", "answering"} & set(item.fixturenames) else "starts no instance"


def leave_out(config, items, or_else=lambda item: None):
    """Of a run on services: what is embedded_only, and what starts nothing that would differ."""
    reasons, kept, left = {}, [], []
    for item in items:
        why = why_left_out(item) or or_else(item)
        (left if why else kept).append(item)
        if why:
            reasons[why] = reasons.get(why, 0) + 1
    items[:] = kept
    config.flexi_left_out = reasons
    if left:
        config.hook.pytest_deselected(items=left)


def summary(config):
    """For the last lines of a run."""
    reasons = getattr(config, "flexi_left_out", {})
    return [f"on {ON} not run: {count}: {why}" for why, count in sorted(reasons.items(), key=lambda item: -item[1])]
