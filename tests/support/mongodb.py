#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A MongoDB of a test's own on a free port, in a temporary folder: mongod where it is on PATH, else FerretDB with SQLite, built by go.

    mongodb.py run -- COMMAND …        runs COMMAND with a server; its environment is below
    mongodb.py check                   says why there can be none here, if so
    mongodb.py serve                   a server until standard input ends; commands: stop start kill freeze thaw, one a line
    mongodb.py cannot                  what this kind of server can't serve, one a line

    FLEXI_TEST_MONGO_URI       mongodb://admin:password@127.0.0.1:PORT/; yours, where it is set already: then none is started
    FLEXI_TEST_MONGO_STATUS    a file that says "ready", or "not run: <why>", as soon as that is known
    FLEXI_TEST_MONGO_TLS       port of its TLS listener, and the folder of certificates for it (as rabbitmq.py makes them)

`go install` of FerretDB 1.24 gives a program that ends at once, because a file that its release process writes is not in the module. So the
module is fetched as usual, copied, given that file, and built; once, into the user's cache.

From Python: Server. It ends with whoever started it, however that ends.
"""

import argparse
import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import secrets
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from rabbitmq import PR_SET_PDEATHSIG, Ports, make_certificates
from supervised import Supervised

FERRETDB = "github.com/FerretDB/FerretDB@v1.24.2"
BUILD_SECONDS = 600  # 75 from nothing, with everything to be fetched
START_SECONDS = 60
STOP_SECONDS = 20
USER, PASSWORD = "admin", "password"


def go():
    return shutil.which("go") or next((p for p in ("/usr/local/go/bin/go", "/usr/lib/go/bin/go") if os.access(p, os.X_OK)), None)


def why_not():
    """Why there can be no server here; none: there can, unless the build fails."""
    if shutil.which("mongod") or go():
        return None
    return "not run: no MongoDB here (neither mongod nor go, which builds FerretDB; or set FLEXI_TEST_MONGO_URI)"


def cannot():
    """What the server of the tests can't serve, in words for the last lines of a run."""
    if shutil.which("mongod") or "FLEXI_TEST_MONGO_URI" in os.environ:
        return []
    return ["not run: replica sets and their elections (FerretDB has none)", "not run: $text searches of a server (FerretDB has none; their statements are checked)"]


class Unavailable(Exception):
    """There is no server, and that is nobody's mistake: its text begins with "not run"."""


def ferretdb():
    """The program, built once."""
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "flexiconnect-tests" / FERRETDB.replace("/", "_")
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "ferretdb"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            build_ferretdb(folder, program)
    return program


def build_ferretdb(folder, program):
    def run(*words, **how):
        try:
            done = subprocess.run([go(), *words], capture_output=True, text=True, timeout=BUILD_SECONDS, env=os.environ | {"GOFLAGS": "-buildvcs=false"}, **how)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"not run: go {words[0]} of {FERRETDB} took more than {BUILD_SECONDS} s") from None
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
            raise Unavailable(f"not run: go {words[0]} of {FERRETDB} failed: {said}")
        return done.stdout

    module = json.loads(run("mod", "download", "-json", FERRETDB, cwd=folder))
    source = folder / "source"
    shutil.rmtree(source, ignore_errors=True)
    subprocess.run(["cp", "-r", "--no-preserve=mode", module["Dir"], source], check=True)
    (source / "build/version/version.txt").write_text(FERRETDB.rsplit("@", 1)[1] + "\n")
    run("build", "-o", str(program) + ".new", "./cmd/ferretdb", cwd=source)
    pathlib.Path(str(program) + ".new").rename(program)
    shutil.rmtree(source, ignore_errors=True)


def plan(folder):
    """What a server in `folder` will be, before it is."""
    ports = Ports()
    made = {"folder": str(folder), "port": ports.take(), "tls": ports.take()}
    made["url"] = f"mongodb://{USER}:{PASSWORD}@127.0.0.1:{made['port']}/"
    made["status"] = str(folder / "status")
    return made, ports


def environment(made):
    """What tests look at."""
    return {"FLEXI_TEST_MONGO_URI": made["url"], "FLEXI_TEST_MONGO_STATUS": made["status"], "FLEXI_TEST_MONGO_TLS": f"{made['tls']} {made['folder']}/tls"}


def wait_for_status(path):
    """@return why there is no server; none: there is"""
    deadline = time.monotonic() + BUILD_SECONDS
    while True:
        with contextlib.suppress(OSError):
            if said := pathlib.Path(path).read_text():
                return None if said == "ready" else said
        if time.monotonic() > deadline:
            return f"not run: MongoDB was not ready within {BUILD_SECONDS} s"
        time.sleep(0.1)


def client(url, **options):
    import pymongo

    return pymongo.MongoClient(url, **({"serverSelectionTimeoutMS": 2000} | options))


class Supervisor:
    """Runs the server, and takes it with it when it ends."""

    def __init__(self, made):
        self.made = made
        self.folder = pathlib.Path(made["folder"])
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        make_certificates(self.folder / "tls")
        both = self.folder / "tls/both.pem"
        both.write_text((self.folder / "tls/server.pem").read_text() + (self.folder / "tls/server.key").read_text())
        self.mongod = shutil.which("mongod")
        self.program = self.mongod or ferretdb()
        self.server = None

    def command(self):
        data, tls = self.folder / "data", self.folder / "tls"
        if self.mongod:
            key = self.folder / "keyfile"
            if not key.exists():
                key.write_text(secrets.token_hex(32))
                key.chmod(0o400)
            return [self.mongod, "--dbpath", data, "--bind_ip", "127.0.0.1", "--port", self.made["port"], "--replSet", "flexi", "--keyFile", key, "--auth",
                    "--tlsMode", "allowTLS", "--tlsCertificateKeyFile", tls / "both.pem", "--tlsCAFile", tls / "ca.pem", "--tlsAllowConnectionsWithoutCertificates"]
        return [self.program, "--handler=sqlite", f"--sqlite-url=file:{data}/", f"--state-dir={data}", f"--listen-addr=127.0.0.1:{self.made['port']}",
                f"--listen-tls=127.0.0.1:{self.made['tls']}", f"--listen-tls-cert-file={tls}/server.pem", f"--listen-tls-key-file={tls}/server.key", "--debug-addr=-",
                "--telemetry=disable", "--log-level=warn", "--test-enable-new-auth", f"--setup-username={USER}", f"--setup-password={PASSWORD}", "--setup-database=admin"]

    def start(self):
        if self.server and self.server.poll() is None:
            return

        def die_with_me():
            os.setpgid(0, 0)  # a Ctrl-C in the terminal is for who started us
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

        with (self.folder / "log").open("ab") as out:
            self.server = subprocess.Popen([str(word) for word in self.command()], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.folder,
                                           preexec_fn=die_with_me)
        self.wait_until_ready()

    def wait_until_ready(self):
        import pymongo

        if self.mongod:
            self.make_replica_set()
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with contextlib.closing(client(self.made["url"])) as c:
                    c.admin.command("ping")
                    return
            except pymongo.errors.PyMongoError as error:
                if self.server.poll() is not None:
                    raise RuntimeError(f"MongoDB ended with {self.server.returncode}\n{self.log()}") from None
                if time.monotonic() > deadline:
                    raise RuntimeError(f"MongoDB was not ready within {START_SECONDS} s: {error}\n{self.log()}") from None
                time.sleep(0.05)

    def make_replica_set(self):
        """Of one, with its first user, whom MongoDB lets anybody on this machine make. Done already after a restart."""
        import pymongo

        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.server.poll() is None:
            with contextlib.suppress(pymongo.errors.PyMongoError), contextlib.closing(client(f"mongodb://127.0.0.1:{self.made['port']}/?directConnection=true")) as c:
                with contextlib.suppress(pymongo.errors.OperationFailure):
                    c.admin.command("replSetInitiate", {"_id": "flexi", "members": [{"_id": 0, "host": f"127.0.0.1:{self.made['port']}"}]})
                if not c.admin.command("hello").get("isWritablePrimary"):
                    time.sleep(0.1)
                    continue
                with contextlib.suppress(pymongo.errors.OperationFailure):
                    c.admin.command("createUser", USER, pwd=PASSWORD, roles=["root"])
                return

    def stop(self):
        if self.server and self.server.poll() is None:
            self.server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server.wait(STOP_SECONDS)
        self.kill()

    def kill(self):
        if self.server and self.server.poll() is None:
            os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait()

    def freeze(self):
        self.server.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.server.send_signal(signal.SIGCONT)

    def log(self):
        with contextlib.suppress(OSError):
            return (self.folder / "log").read_text(errors="replace")[-3000:]
        return ""


def serve(made, watched_pid):
    """Until standard input ends, the watched process has gone, or a signal comes."""
    reading, writing = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os.write(writing, b"x"))
    ends = [reading]
    if watched_pid:
        try:
            ends.append(os.pidfd_open(watched_pid))
        except ProcessLookupError:
            return
    else:
        ends.append(sys.stdin.fileno())

    def say(**what):
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(what), flush=True)

    def note(status):
        path = pathlib.Path(made["status"])
        path.with_suffix(".new").write_text(status)
        path.with_suffix(".new").rename(path)

    supervisor = None
    try:
        supervisor = Supervisor(made)
        supervisor.start()
        note("ready")
        say(ready=True, pid=supervisor.server.pid, **made)
        pending = b""
        while select.select(ends, [], [])[0] == [sys.stdin.fileno()]:
            chunk = os.read(sys.stdin.fileno(), 4096)
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
    except Unavailable as why:
        note(str(why))
        say(unavailable=str(why))
        print(why, file=sys.stderr)
        if watched_pid:
            select.select(ends, [], [])  # the status is there as long as somebody may read it
    except RuntimeError as error:
        note(f"not run: {str(error).splitlines()[0]}")
        say(error=str(error))
        print(error, file=sys.stderr)
        if watched_pid:
            select.select(ends, [], [])
        sys.exit(1)
    finally:
        if supervisor:
            supervisor.kill()


class Server(Supervised):
    """One server, from Python. `with Server() as server: server.url`"""

    name = "mongodb"

    def __init__(self, made=None):
        self.made = made

    @classmethod
    def from_environment(cls):
        """The one of this test run: not to be stopped. None: there is none. Unavailable: there should be."""
        if "FLEXI_TEST_MONGO_URI" not in os.environ:
            return None
        if "FLEXI_TEST_MONGO_STATUS" in os.environ and (why := wait_for_status(os.environ["FLEXI_TEST_MONGO_STATUS"])):
            raise Unavailable(why)
        made = {"url": os.environ["FLEXI_TEST_MONGO_URI"]}
        if "FLEXI_TEST_MONGO_TLS" in os.environ:
            tls, folder = os.environ["FLEXI_TEST_MONGO_TLS"].split(" ", 1)
            made |= {"tls": int(tls), "folder": folder.removesuffix("/tls")}
        return cls(made)

    def answer(self):
        said = super().answer()
        if "unavailable" in said:
            raise Unavailable(said["unavailable"])
        return said

    @property
    def url(self):
        return self.made["url"]

    @property
    def address(self):
        host, _, port = self.url.split("//", 1)[1].split("@")[-1].split("/")[0].split(",")[0].partition(":")
        return host, int(port or 27017)

    def url_through(self, gate, password=None, options="directConnection=true"):
        """The same server through a gate, or with another password."""
        login = self.url.split("//", 1)[1].split("@")[0] + "@" if "@" in self.url else ""
        if password is not None:
            login = login.split(":")[0] + f":{password}@"
        host, port = ("127.0.0.1", gate.port) if gate else self.address
        return f"mongodb://{login}{host}:{port}/?{options}"

    def client(self, **options):
        return client(self.url, **options)

    @property
    def is_ferretdb(self):
        with contextlib.closing(self.client()) as c:
            return any("ferretdb" in key.lower() for key in c.admin.command("buildInfo"))


class Database:
    """One test's: `settings` of the binary for it, and `logs`, its collection."""

    def __init__(self, server, client, name):
        self.server, self.client, self.name = server, client, name
        self.logs = client[name]["logs"]
        self.settings = self.settings_for(server.url)

    def settings_for(self, uri):
        return {"FLEXI_MONGO_URI": uri, "FLEXI_MONGO_DATABASE": self.name}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("words", nargs=argparse.REMAINDER)
    commands.add_parser("check")
    commands.add_parser("cannot")
    serving = commands.add_parser("serve")
    serving.add_argument("--folder", type=pathlib.Path)
    serving.add_argument("--watch", type=int, metavar="PID", help="end when this process has gone, rather than with standard input")
    serving.add_argument("--plan", type=pathlib.Path, metavar="FILE", help="write the environment there as soon as it is certain, before the server is ready")
    serving.add_argument("--remove", action="store_true", help="remove the folder at the end")
    arguments = parser.parse_args()
    if arguments.command == "cannot":
        print("\n".join(cannot()))
        return
    if reason := why_not():
        print(reason, file=sys.stderr)
        sys.exit(77)
    if arguments.command == "check":
        return
    if arguments.command == "run":
        words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
        try:
            with Server() as server:
                sys.exit(subprocess.call(words, env=os.environ | environment(server.made)))
        except Unavailable as why:
            print(why, file=sys.stderr)
            sys.exit(77)
    folder = arguments.folder or pathlib.Path(tempfile.mkdtemp(prefix="flexi-mongodb-"))
    folder.mkdir(parents=True, exist_ok=True)
    made, ports = plan(folder)
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
