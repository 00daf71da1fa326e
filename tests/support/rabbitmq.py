#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A RabbitMQ of a test's own: Debian's rabbitmq-server on free ports, in a temporary folder, never the system's service.

    rabbitmq.py run -- COMMAND …        runs COMMAND with a server; its environment is below
    rabbitmq.py check                   says why there can be none here, if so
    rabbitmq.py serve                   a server until standard input ends; commands: stop start kill freeze thaw, one a line

    FLEXI_TEST_AMQP_URL       amqp://guest:guest@127.0.0.1:PORT/%2F; the server may still be starting
    FLEXI_TEST_RABBITMQCTL    rabbitmqctl of this server
    FLEXI_TEST_RABBITMQEVAL   evaluates one Erlang expression in it, in a fifth of the time
    FLEXI_TEST_AMQPS          port of its TLS listener, and the folder of certificates for it (Server.tls)

From Python: Server. It ends with whoever started it, however that ends: the supervisor watches the pipe to it (and a pid, if
told), and its own children get SIGKILL when it dies. Runs as root or not.
"""

import argparse
import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import random
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from supervised import Supervised

SCRIPTS = pathlib.Path("/usr/lib/rabbitmq/bin")  # Debian's /usr/sbin/rabbitmq-server insists on user and folder of the service
START_SECONDS = 120  # about 8 on a quiet machine
STOP_SECONDS = 30
CTL_PORTS = (11000, 19999)
SERVER_PORTS = (20000, 32000)  # below the ephemeral ports: nobody else is given one while the server starts
PR_SET_PDEATHSIG = 1


def why_not():
    """Why there can be no server here; none: there can."""
    missing = [str(p) for p in (SCRIPTS / "rabbitmq-server", SCRIPTS / "rabbitmqctl") if not p.exists()]
    missing += [name for name in ("erl", "epmd", "openssl") if not shutil.which(name)]
    return f"not run: no RabbitMQ here ({', '.join(missing)} missing; apt-get install rabbitmq-server)" if missing else None


class Ports:
    """Ports that no other server of ours has: each is locked by a file as long as its owner lives."""

    def __init__(self):
        self.locks = []

    def take(self):
        folder = pathlib.Path(tempfile.gettempdir()) / f"flexi-test-ports-{os.getuid()}"
        folder.mkdir(exist_ok=True)
        while True:
            port = random.randint(*SERVER_PORTS)
            lock = (folder / str(port)).open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            except OSError:
                lock.close()
                continue
            self.locks.append(lock)
            return port


def plan(folder):
    """What a server in `folder` will be, before it is."""
    ports = Ports()
    made = {"folder": str(folder), "port": ports.take(), "dist": ports.take(), "epmd": ports.take(), "tls": ports.take()}
    made["url"] = f"amqp://guest:guest@127.0.0.1:{made['port']}/%2F"
    made["node"] = f"flexi-{made['port']}@localhost"
    made["ctl"] = str(folder / "rabbitmqctl")
    made["eval"] = str(folder / "rabbitmqeval")
    return made, ports


def environment(made):
    """What tests look at."""
    return {"FLEXI_TEST_AMQP_URL": made["url"], "FLEXI_TEST_RABBITMQCTL": made["ctl"], "FLEXI_TEST_RABBITMQEVAL": made["eval"],
            "FLEXI_TEST_AMQPS": f"{made['tls']} {made['folder']}/tls"}


def erlang_environment(made):
    folder = pathlib.Path(made["folder"])
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "HOME": str(folder),
        "ERL_EPMD_PORT": str(made["epmd"]), "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_CRASH_DUMP_SECONDS": "0",
        "RABBITMQ_CONF_ENV_FILE": str(folder / "no-environment"), "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "no-advanced.config"), "RABBITMQ_NODENAME": made["node"],
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_NODE_PORT": str(made["port"]), "RABBITMQ_DIST_PORT": str(made["dist"]),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"), "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PLUGINS_EXPAND_DIR": str(folder / "plugins_expand"), "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"), "RABBITMQ_CTL_DIST_PORT_MIN": str(CTL_PORTS[0]), "RABBITMQ_CTL_DIST_PORT_MAX": str(CTL_PORTS[1]),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false +S 2:2",
        "detached": "1",  # the script becomes the server, rather than its parent
    }


def make_certificates(folder):
    """ca.pem signed server.pem, for the name localhost alone, and client.pem; other-ca.pem signed other-client.pem. Keys: .key"""
    if folder.exists():
        return
    folder.mkdir()

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    for ca, leaves in (("ca", ("server", "client")), ("other-ca", ("other-client",))):
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        openssl("req", "-x509", *key, "-days", "2", "-subj", f"/CN={ca}", "-keyout", f"{ca}.key", "-out", f"{ca}.pem")
        for leaf in leaves:
            openssl("req", *key, "-subj", f"/CN={leaf}", "-addext", "subjectAltName=DNS:localhost", "-keyout", f"{leaf}.key", "-out", f"{leaf}.csr")
            openssl("x509", "-req", "-in", f"{leaf}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-days", "2",
                    "-copy_extensions", "copy", "-out", f"{leaf}.pem")


def prepare(made):
    """The files of a server in its folder."""
    folder = pathlib.Path(made["folder"])
    for name in ("mnesia", "log", "plugins_expand"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    cookie = folder / ".erlang.cookie"
    if not cookie.exists():
        cookie.write_text("".join(random.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(20)))
        cookie.chmod(0o400)
    (folder / "enabled_plugins").write_text("[].\n")
    make_certificates(folder / "tls")
    # A client need not show a certificate; one that is shown must be right.
    (folder / "rabbitmq.conf").write_text("log.file.level = info\nlog.console = false\ndisk_free_limit.absolute = 10MB\n"
                                          "raft.wal_max_size_bytes = 67108864\n"
                                          f"listeners.ssl.1 = 127.0.0.1:{made['tls']}\nssl_options.cacertfile = {folder}/tls/ca.pem\n"
                                          f"ssl_options.certfile = {folder}/tls/server.pem\nssl_options.keyfile = {folder}/tls/server.key\n"
                                          "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = false\n")
    exports = "".join(f"export {name}='{value}'\n" for name, value in erlang_environment(made).items())
    scripts = {
        made["ctl"]: f"#!/bin/sh\n{exports}exec {SCRIPTS}/rabbitmqctl \"$@\"\n",
        made["eval"]: f"""#!/bin/sh
{exports}export EXPRESSION="$1"
exec erl -noinput -boot no_dot_erlang -sname "eval-$$@localhost" -hidden -start_epmd false -kernel inet_dist_use_interface '{{127,0,0,1}}' -eval '
  Text = os:getenv("EXPRESSION"),
  {{ok, Tokens, _}} = erl_scan:string(case lists:suffix(".", Text) of true -> Text; false -> Text ++ "." end),
  {{ok, Parsed}} = erl_parse:parse_exprs(Tokens),
  case rpc:call(list_to_atom(os:getenv("RABBITMQ_NODENAME")), erl_eval, exprs, [Parsed, []], 30000) of
    {{value, Value, _}} -> io:format("~tp~n", [Value]), halt(0);
    Failed -> io:format(standard_error, "~tp~n", [Failed]), halt(1)
  end.'
""",
    }
    for path, text in scripts.items():
        pathlib.Path(path).write_text(text)
        pathlib.Path(path).chmod(0o755)


def answers(port):
    """Whether an AMQP server greets there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as s:
        s.settimeout(2)
        s.sendall(b"AMQP\0\0\x09\x01")
        return s.recv(1) == b"\x01"  # a method frame: connection.start
    return False


class Supervisor:
    """Runs epmd and the server, and takes both with it when it ends."""

    def __init__(self, made):
        self.made = made
        self.folder = pathlib.Path(made["folder"])
        self.epmd = self.server = None
        prepare(made)

    def spawn(self, command, log):
        def die_with_me():
            os.setpgid(0, 0)  # a Ctrl-C in the terminal is for who started us
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

        with (self.folder / "log" / log).open("ab") as out:
            return subprocess.Popen(command, env=erlang_environment(self.made), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                    preexec_fn=die_with_me)

    def begin(self):
        if not self.epmd or self.epmd.poll() is not None:
            self.epmd = self.spawn(["epmd", "-port", str(self.made["epmd"]), "-address", "127.0.0.1"], "epmd")
        if not self.server or self.server.poll() is not None:
            self.server = self.spawn([str(SCRIPTS / "rabbitmq-server")], "server")

    def start(self):
        self.begin()
        self.wait_until_ready()

    def wait_until_ready(self, given_up=lambda: False):
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.made["port"]):
            if given_up():
                return
            if self.server.poll() is not None:
                raise RuntimeError(f"rabbitmq-server ended with {self.server.returncode}\n{self.log()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"rabbitmq-server was not ready within {START_SECONDS} s\n{self.log()}")
            time.sleep(0.1)

    def stop(self):
        """Orderly: what was confirmed is there after the next start."""
        if self.server and self.server.poll() is None:
            self.server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server.wait(STOP_SECONDS)
        self.end_now()

    def kill(self):
        """As a crash. But RabbitMQ notes the name of a new quorum queue on the disk up to 5 s late and comes back with a queue that
        never answers: that is its own affair, and not what the tests are about."""
        subprocess.run([self.made["eval"], "[dets:sync(T) || T <- dets:all()]"], stdout=subprocess.DEVNULL, timeout=60)
        self.end_now()

    def end_now(self):
        if self.server and self.server.poll() is None:
            os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait()

    def freeze(self):
        self.server.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.server.send_signal(signal.SIGCONT)

    def end(self):
        self.end_now()
        if self.epmd:
            self.epmd.kill()
            self.epmd.wait()

    def log(self):
        return "\n".join(f"--- {f}\n{f.read_text(errors='replace')[-3000:]}" for f in sorted((self.folder / "log").iterdir()) if f.is_file())


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

    def nobody_is_left():
        return bool(select.select([e for e in ends if e != commands], [], [], 0)[0])

    try:
        supervisor.begin()
        supervisor.wait_until_ready(nobody_is_left)
        say(ready=True, pid=supervisor.server.pid, **made)
        pending = b""
        while True:
            if select.select(ends, [], [])[0] != [commands]:
                return
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
    """One server, from Python. `with Server() as server: server.url`"""

    name = "rabbitmq"

    def __init__(self, made=None):
        self.made = made

    @classmethod
    def from_environment(cls):
        """The one of this test run: not to be stopped. None: there is none."""
        if "FLEXI_TEST_AMQP_URL" not in os.environ:
            return None
        url = os.environ["FLEXI_TEST_AMQP_URL"]
        tls, folder = os.environ["FLEXI_TEST_AMQPS"].split(" ", 1)
        server = cls({"tls": int(tls), "folder": folder.removesuffix("/tls"), "url": url, "port": int(url.rsplit(":", 1)[1].split("/")[0]), "ctl": os.environ["FLEXI_TEST_RABBITMQCTL"],
                      "eval": os.environ["FLEXI_TEST_RABBITMQEVAL"]})
        server.wait_until_ready()
        return server

    def wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while not answers(self.port):
            if time.monotonic() > deadline:
                raise RuntimeError(f"no RabbitMQ answers at {self.url}")
            time.sleep(0.1)

    @property
    def url(self):
        return self.made["url"]

    @property
    def port(self):
        return self.made["port"]

    def url_of(self, vhost, port=None):
        """Of another vhost, or through a gate."""
        return f"amqp://guest:guest@127.0.0.1:{port or self.port}/{vhost.replace('/', '%2F')}"

    @property
    def tls_port(self):
        return self.made["tls"]

    def tls(self, name):
        """A file of the TLS listener's: see make_certificates."""
        return f"{self.made['folder']}/tls/{name}"

    def ctl(self, *arguments):
        done = subprocess.run([self.made["ctl"], *arguments], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"rabbitmqctl {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def eval(self, expression):
        done = subprocess.run([self.made["eval"], expression], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{expression}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def add_vhost(self, name):
        """A vhost for one test, where guest may do everything. @return its URL"""
        self.eval(f'rabbit_vhost:add(<<"{name}">>, <<"guest">>), '
                  f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"guest">>)')
        return self.url_of(name)

    def delete_vhost(self, name):
        self.eval(f'rabbit_vhost:delete(<<"{name}">>, <<"guest">>)')

    def listed(self, what, *columns, vhost="/"):
        """Rows of `rabbitmqctl list_<what>`, as dictionaries."""
        return json.loads(self.ctl("-q", f"list_{what}", "-p", vhost, "--formatter", "json", *columns))

    def disk_alarm(self, on):
        """As when the server's disk is full: publishers are blocked."""
        node = "node()"
        if on:
            self.eval(f"rabbit_alarm:set_alarm({{{{resource_limit, disk, {node}}}, []}})")
        else:
            self.eval(f"rabbit_alarm:clear_alarm({{resource_limit, disk, {node}}})")

    def close_connections(self, reason="test"):
        """As an operator does."""
        self.ctl("close_all_connections", reason)


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
    folder = arguments.folder or pathlib.Path(tempfile.mkdtemp(prefix="flexi-rabbitmq-"))
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
