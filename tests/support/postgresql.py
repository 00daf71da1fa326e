#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL of a test's own: Debian's server on a free port, in a temporary folder, never the system's service.

    postgresql.py run -- COMMAND …      runs COMMAND with a server; its environment is below
    postgresql.py check                 says why there can be none here, if so
    postgresql.py serve                 a server until standard input ends; commands: stop start kill freeze thaw, one a line

    FLEXI_TEST_PG_DSN    keyword string of its superuser and the database postgres; the server may still be starting
    FLEXI_TEST_PG_TLS    the folder of certificates for it, as RabbitMQ's (rabbitmq.make_certificates)

From Python: Server. It ends with whoever started it, however that ends. Runs as root or not: PostgreSQL itself never does.
"""

import argparse
import contextlib
import ctypes
import json
import os
import pathlib
import pwd
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

from rabbitmq import PR_SET_PDEATHSIG, Ports, make_certificates
from supervised import Supervised

START_SECONDS = 60  # about 2 on a quiet machine, with a new cluster
PASSWORD = "flexi-test-secret"


def programs():
    """The folder of the newest version's programs; None: there is none."""
    found = [p.parent for p in pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if not found and (on_path := shutil.which("postgres")):
        found = [pathlib.Path(on_path).parent]
    return max(found, key=lambda p: [int(n) for n in p.parent.name.split(".") if n.isdigit()], default=None)


def why_not():
    """Why there can be no server here; none: there can."""
    missing = [] if programs() else ["postgres"]
    missing += [name for name in ("openssl",) if not shutil.which(name)]
    if os.geteuid() == 0 and not servant():
        missing.append("a user that is not root")
    return f"not run: no PostgreSQL here ({', '.join(missing)} missing; apt-get install postgresql)" if missing else None


def servant():
    """Whom the server runs as, where we are root."""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def plan(folder, durable):
    """What a server in `folder` will be, before it is."""
    ports = Ports()
    made = {"folder": str(folder), "port": ports.take(), "durable": durable}
    made["dsn"] = dsn_of(made, "postgres")
    return made, ports


def dsn_of(made, database, port=None, **more):
    words = {"host": "127.0.0.1", "port": port or made["port"], "user": "postgres", "password": PASSWORD, "dbname": database, **more}
    return " ".join(f"{key}={value}" for key, value in words.items())


def environment(made):
    """What tests look at."""
    return {"FLEXI_TEST_PG_DSN": made["dsn"], "FLEXI_TEST_PG_TLS": f"{made['folder']}/tls"}


class Supervisor:
    """Runs the server, and takes it along when it ends."""

    def __init__(self, made):
        self.made = made
        self.folder = pathlib.Path(made["folder"])
        self.data = self.folder / "data"
        self.server = None

    def as_servant(self):
        if os.geteuid() == 0:
            who = servant()
            os.setgroups([])
            os.setgid(who.pw_gid)
            os.setuid(who.pw_uid)
        # Behind the change of user, which would forget it. SIGQUIT: the server takes its processes along.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)

    def prepare(self):
        if self.data.exists():
            return
        make_certificates(self.folder / "tls")
        if os.geteuid() == 0:
            for path in (self.folder, self.folder / "tls", *(self.folder / "tls").iterdir()):
                os.chown(path, servant().pw_uid, servant().pw_gid)
        (self.folder / "tls" / "server.key").chmod(0o600)
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        made = subprocess.run([programs() / "initdb", "-D", self.data, "-U", "postgres", "--pwfile", secret, "-A", "scram-sha-256", "-E", "UTF8",
                               "--locale=C.UTF-8", "--no-sync"], cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, preexec_fn=self.as_servant)
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {made.stdout}{made.stderr}")
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write(f"listen_addresses = '127.0.0.1'\nport = {self.made['port']}\nunix_socket_directories = '{self.folder}'\nmax_connections = 200\n"
                       f"shared_buffers = 64MB\nssl = on\nssl_cert_file = '{self.folder}/tls/server.pem'\nssl_key_file = '{self.folder}/tls/server.key'\n"
                       f"log_line_prefix = '%m [%p] %a '\n")
            # A killed process loses nothing of it; only a machine that dies would.
            if not self.made["durable"]:
                conf.write("fsync = off\n")

    def begin(self):
        self.prepare()
        if self.server and self.server.poll() is None:
            return
        with (self.folder / "log").open("ab") as out:
            self.server = subprocess.Popen([programs() / "postgres", "-D", self.data], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                           preexec_fn=self.as_servant, start_new_session=True)

    def start(self):
        self.begin()
        self.wait_until_ready()

    def wait_until_ready(self, given_up=lambda: False):
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.made["port"]):
            if given_up():
                return
            if self.server.poll() is not None:
                # Processes of one that was killed may still hold its memory.
                if time.monotonic() < deadline - START_SECONDS + 10:
                    time.sleep(0.1)
                    self.begin()
                    continue
                raise RuntimeError(f"postgres ended with {self.server.returncode}\n{self.log()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"postgres was not ready within {START_SECONDS} s\n{self.log()}")
            time.sleep(0.05)

    def processes(self):
        """The server's own and its children's."""
        pids = [self.server.pid]
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rsplit(")", 1)[1].split()
                if int(fields[1]) == self.server.pid:
                    pids.append(int(stat.parent.name))
        return pids

    def signal_all(self, number):
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self):
        """Orderly, connections cut ("fast")."""
        if self.server and self.server.poll() is None:
            self.server.send_signal(signal.SIGINT)
            self.server.wait(30)

    def kill(self):
        """As a crash."""
        self.signal_all(signal.SIGKILL)
        self.server.wait()

    def freeze(self):
        self.signal_all(signal.SIGSTOP)

    def thaw(self):
        self.signal_all(signal.SIGCONT)

    def end(self):
        if self.server and self.server.poll() is None:
            self.thaw()
            self.server.send_signal(signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server.wait(10)
            if self.server.poll() is None:
                self.kill()

    def log(self):
        return (self.folder / "log").read_text(errors="replace")[-3000:]


def answers(port):
    return subprocess.run([programs() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "2"], stdin=subprocess.DEVNULL).returncode == 0


def serve(made, watched_pid):
    """Until standard input ends, the watched process has gone, or a signal comes."""
    supervisor = Supervisor(made)
    reading, writing = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os.write(writing, b"x"))
    commands = sys.stdin.fileno()
    ends = [reading]
    if watched_pid:
        try:
            ends.append(os.pidfd_open(watched_pid))
        except ProcessLookupError:
            return
    else:
        ends.append(commands)

    def say(**what):
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(what), flush=True)

    try:
        supervisor.begin()
        supervisor.wait_until_ready(lambda: bool(select.select([e for e in ends if e != commands], [], [], 0)[0]))
        say(ready=True, pid=supervisor.server.pid, **made)
        pending = b""
        while select.select(ends, [], [])[0] == [commands]:
            chunk = os.read(commands, 4096)
            if not chunk:
                return
            pending += chunk
            while b"\n" in pending:
                line, pending = pending.split(b"\n", 1)
                command = line.decode().strip()
                if command not in ("stop", "start", "kill", "freeze", "thaw"):
                    say(error=f"no such command: {command}")
                    continue
                try:
                    getattr(supervisor, command)()
                    say(done=command)
                except RuntimeError as error:
                    say(error=str(error))
    except RuntimeError as error:
        say(error=str(error))
        print(error, file=sys.stderr)
        sys.exit(1)
    finally:
        supervisor.end()


class Server(Supervised):
    """One server, from Python. `with Server() as server: server.dsn_of("users")`"""

    name = "postgresql"

    def __init__(self, made=None, durable=False):
        self.made, self.durable = made, durable

    def options(self):
        return ["--durable"] * self.durable

    @classmethod
    def from_environment(cls):
        """The one of this test run: not to be stopped. None: there is none."""
        if "FLEXI_TEST_PG_DSN" not in os.environ:
            return None
        dsn = os.environ["FLEXI_TEST_PG_DSN"]
        port = int(dict(word.split("=", 1) for word in dsn.split())["port"])
        server = cls({"folder": os.environ["FLEXI_TEST_PG_TLS"].removesuffix("/tls"), "dsn": dsn, "port": port})
        server.wait_until_ready()
        return server

    def wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.port):
            if time.monotonic() > deadline:
                raise RuntimeError(f"no PostgreSQL answers at port {self.port}")
            time.sleep(0.05)

    @property
    def port(self):
        return self.made["port"]

    def dsn_of(self, database, **more):
        """`more` replaces or adds words: port=gate.port, user="other"."""
        return dsn_of(self.made, database, **more)

    def tls(self, name):
        """A file of its TLS: see rabbitmq.make_certificates."""
        return f"{self.made['folder']}/tls/{name}"

    def run(self, database, sql, *values):
        """One or more statements, committed. @return the last one's rows"""
        import psycopg2

        connection = psycopg2.connect(self.dsn_of(database), connect_timeout=30)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql, values or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def add_database(self):
        """For one test. @return its name"""
        name = "test_" + uuid.uuid4().hex
        self.run("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def delete_database(self, name):
        self.run("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("words", nargs=argparse.REMAINDER)
    commands.add_parser("check")
    serving = commands.add_parser("serve")
    serving.add_argument("--folder", type=pathlib.Path)
    serving.add_argument("--watch", type=int, metavar="PID", help="end when this process has gone, rather than with standard input")
    serving.add_argument("--plan", type=pathlib.Path, metavar="FILE", help="write the environment there as soon as it is certain, before the server is ready")
    serving.add_argument("--remove", action="store_true", help="remove the folder at the end")
    serving.add_argument("--durable", action="store_true", help="with fsync, as in production: for benchmarks")
    arguments = parser.parse_args()
    if reason := why_not():
        print(reason, file=sys.stderr)
        sys.exit(77)
    if arguments.command == "check":
        return
    if arguments.command == "run":
        words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
        with Server() as server:
            sys.exit(subprocess.call(words, env=os.environ | environment(server.made)))
    folder = arguments.folder or pathlib.Path(tempfile.mkdtemp(prefix="flexi-postgresql-"))
    folder.mkdir(parents=True, exist_ok=True)
    made, ports = plan(folder, arguments.durable)
    if arguments.plan:
        temporary = arguments.plan.with_suffix(".new")
        temporary.write_text("".join(f"{name}={shlex.quote(str(value))}\n" for name, value in environment(made).items()))
        temporary.rename(arguments.plan)
    try:
        serve(made, arguments.watch)
    finally:
        del ports
        if arguments.remove or not arguments.folder:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
