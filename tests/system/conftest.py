# SPDX-License-Identifier: Apache-2.0
"""Fixtures that start the built binary as a user does. FLEXI_BINARY names it; see README.md."""

import contextlib
import os
import pathlib
import queue
import signal
import subprocess
import threading
import time
import uuid

import httpx
import containers
import pytest
from services import DIRECT, INPROC, ON_SERVICES, QUEUE_WAY, Destinations, Services, embedded_only, leave_out, summary  # noqa: F401  for tests, too

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("FLEXI_BINARY", ROOT / "build/release/flexiconnect")).resolve()
READY = " is ready at "
START_SECONDS = 20
STOP_SECONDS = 10
EXAMPLE_USER = {"email": "admin@example.com", "password": "verysecret"}


def eventually(condition, what, seconds=20, interval=0.02):
    """The first true value of `condition()`; fails with its last value when `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}; last: {value!r}"
        time.sleep(interval)


def clean_environment(settings):
    """Nothing of the developer's own settings reaches the binary: an unknown FLEXI_ variable is an error to it."""
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS") if name in os.environ}
    return keep | {name: str(value) for name, value in settings.items()}


class Instance:
    """One running flexiconnect on a free port with its own data folder; with a role, that service alone."""

    def __init__(self, folder, data_dir=None, settings=None, preexec_fn=None, role=None):
        self.folder = folder
        self.command = [str(BINARY), *([role] if role else [])]
        self.data_dir = data_dir or folder / "data"
        listen = {f"FLEXI_{transport}_LISTEN": "127.0.0.1:0" for transport in ("HTTP", "GRPC", "RPC")}
        # Tests fail logins on purpose, many of them on one server: a test of the lockout sets what it wants.
        patient = {"FLEXI_AUTHENTICATION_LOCKOUT_FREE_FAILURES": 1000}
        self.settings = listen | {"FLEXI_DATA_DIR": self.data_dir} | patient | (settings or {})
        self.preexec_fn = preexec_fn
        self.process = None
        self.url = None
        self.log_files = []

    def start(self):
        log = self.folder / f"log-{len(self.log_files)}.jsonl"
        self.log_files.append(log)
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=stderr, stdin=subprocess.DEVNULL, cwd=self.folder,
                                            env=clean_environment(self.settings), preexec_fn=self.preexec_fn)
        lines = queue.Queue()

        def read(stdout=self.process.stdout):
            for line in stdout:
                lines.put(line.decode())
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                line = lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"no ready line within {START_SECONDS} s\n{self.log()}")
            if line is None:
                pytest.fail(f"it ended before it was ready, exit code {self.process.wait()}\n{self.log()}")
            if READY in line:
                self.url = line.split(READY, 1)[1].split()[0].rstrip("/")
                return self

    @property
    def page_url(self):
        return self.url

    @property
    def port(self):
        return int(self.url.rsplit(":", 1)[1])

    def client(self, **options):
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False, **options)

    @property
    def data_dirs(self):
        return [pathlib.Path(self.data_dir)]

    def users(self, *arguments, stdin=""):
        """`flexiconnect users …` on its accounts."""
        return run_cli("users", *arguments, "--data-dir", self.data_dir, stdin=stdin)

    def at(self, path):
        """Whoever answers a call of the contract: here all by one."""
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self):
        """SIGTERM; fails unless it ends with 0 in time."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"it did not stop within {STOP_SECONDS} s after SIGTERM\n{self.log()}")
        assert code == 0, f"exit code {code} after SIGTERM\n{self.log()}"

    def running(self):
        return self.process is not None and self.process.poll() is None

    def log(self):
        return "\n".join(f"--- {file}\n{file.read_text(errors='replace')[-8000:]}" for file in self.log_files)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what the binary logged."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for instance in getattr(item, "flexi_instances", []):
            report.sections.append((f"log of {instance.url}", instance.log()))


@pytest.fixture(scope="session", autouse=True)
def binary_is_there():
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is not there: build it (make build), or name it in FLEXI_BINARY", returncode=2)


def pytest_collection_modifyitems(config, items):
    if ON_SERVICES:
        leave_out(config, items, *([containers.why_left_out] if containers.ON_CONTAINERS else []))


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["flexi_left_out"] = getattr(session.config, "flexi_left_out", {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """With xdist a worker collects, and each the same."""
    node.config.flexi_left_out = getattr(node, "workeroutput", {}).get("flexi_left_out", {})


def pytest_terminal_summary(terminalreporter, config):
    for line in summary(config):
        terminalreporter.write_line(line)


@pytest.fixture
def make_instance(tmp_path, request):
    """Makes instances; those that still run at the end must stop cleanly. With FLEXI_TEST_ON=services one without a role is six processes
    on real servers."""
    made, destinations = [], []
    request.node.flexi_instances = made

    def make(**options):
        folder = options.pop("folder", tmp_path / f"instance-{len(made)}")
        folder.mkdir(parents=True, exist_ok=True)
        if ON_SERVICES and not options.get("role"):
            unknown = set(options) - {"settings"}
            assert not unknown, f"a test with {unknown} is about one process: mark it embedded_only"
            destinations.append(Destinations(request))
            made.append(Services(Instance, folder, destinations[-1], options.get("settings")))
        else:
            made.append(Instance(folder, **options))
        return made[-1]

    yield make
    problems = []
    for instance in made:
        if instance.running():
            try:
                instance.terminate()
            except BaseException as problem:  # stop the others too
                problems.append(problem)
    for each in destinations:
        each.close()
    if problems:
        raise problems[0]


@pytest.fixture
def own(make_instance, request):
    """An instance of this test's own, with the settings of an indirect parameter where there is one."""
    return make_instance(settings=getattr(request, "param", None)).start()


@contextlib.contextmanager
def system(request, settings=None):
    """One that runs for a whole module, as make_instance's for one test."""
    folder = request.getfixturevalue("tmp_path_factory").mktemp("system")
    destinations = Destinations(request) if ON_SERVICES else None
    instance = (Services(Instance, folder, destinations, settings) if destinations else Instance(folder, settings=settings)).start()
    yield instance
    assert instance.running(), f"it died\n{instance.log()}"
    instance.terminate()
    if destinations:
        destinations.close()


@pytest.fixture(scope="module")
def shared(request):
    """One instance for the tests of a module that leave it as they found it, apart from new entries."""
    if containers.ON_CONTAINERS:
        instance = containers.Containers()
        yield instance
        assert instance.running(), f"a container died\n{instance.log()}"
        return
    with system(request) as instance:
        yield instance


@pytest.fixture
def http(shared):
    with shared.client() as client:
        yield client


@pytest.fixture
def unique():
    """A word that no other test uses."""
    return "u" + uuid.uuid4().hex


def run_cli(*arguments, stdin="", settings=None, timeout=60, cwd=None):
    """The binary as a command; stdout and stderr are text."""
    return subprocess.run([str(BINARY), *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=timeout, cwd=cwd,
                          env=clean_environment(settings or {}))


def envelope(response, status, error=None):
    """The contract's envelope, checked; `data` and `next` are there only where they hold something."""
    assert response.status_code == status, f"{response.status_code} {response.text}"
    assert response.headers["content-type"].split(";")[0] == "application/json"
    body = response.json()
    assert set(body) <= {"error", "message", "data", "next"}, body
    assert body["error"] is (status >= 400 if error is None else error), body
    assert isinstance(body["message"], str) and body["message"], body
    if status >= 400:
        assert "data" not in body, body
        assert response.headers.get("x-flexi-error"), response.headers
    return body


def all_logs(client, **query):
    """Every log entry, page by page."""
    entries, cursor = [], None
    while True:
        parameters = query | {"limit": 500} | ({"cursor": cursor} if cursor else {})
        body = envelope(client.get("/logs", params=parameters), 200)
        entries += body["data"]
        cursor = body.get("next")
        if not cursor:
            return entries


def post_log(client, name, data, headers=None, **fields):
    return client.post("/handle", json={"action": "log", **fields, "log": {"name": name, "data": data}}, headers=headers)
