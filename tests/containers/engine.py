#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A Docker engine of the tests' own: dockerd with its own socket, folders and network namespace, so that nothing on the machine is changed and
everything, bridges and firewall rules too, is gone with it.

    engine.py check                    says why there can be none here, if so
    engine.py run -- COMMAND …         runs COMMAND with an engine, inside its network namespace (published ports are on COMMAND's loopback)
    engine.py shell                    … a shell, to look around

    FLEXI_TEST_CONTAINERS      folder of what is kept between runs: images, build cache (default: build/containers)

COMMAND gets DOCKER_HOST. The way out to package servers is slirp4netns: a process in the user's own network, no rule or address of the machine's.
"""

import argparse
import contextlib
import ctypes
import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEPT = pathlib.Path(os.environ.get("FLEXI_TEST_CONTAINERS", ROOT / "build/containers")).resolve()
PROGRAMS = {"dockerd": "docker.io", "docker": "docker.io", "docker-compose": "docker-compose", "debootstrap": "debootstrap", "slirp4netns": "slirp4netns",
            "ip": "iproute2", "iptables": "iptables"}
# dockerd makes a bridge, pairs of interfaces and rules of address translation; without one of these no container has a network.
PROBE = "ip link add probe type bridge && ip link add probe0 type veth peer name probe1 && iptables -t nat -S && iptables -t nat -A POSTROUTING -j MASQUERADE"
START_SECONDS, STOP_SECONDS, PR_SET_PDEATHSIG = 60, 60, 1


def why_not():
    """Why no engine can run here; none: one can."""
    if os.geteuid() != 0:
        return "not run: no Docker engine here (it wants root)"
    if missing := [f"{program} (apt-get install {package})" for program, package in PROGRAMS.items() if not shutil.which(program)]:
        return f"not run: no Docker engine here: no {', no '.join(missing)}"
    if "\toverlay\n" not in pathlib.Path("/proc/filesystems").read_text():
        return "not run: no Docker engine here: the kernel has no overlay file system"
    if not any(line.split()[2].startswith("cgroup") for line in pathlib.Path("/proc/mounts").read_text().splitlines()):
        return "not run: no Docker engine here: no cgroups are mounted"
    if not pathlib.Path("/dev/net/tun").exists():
        return "not run: no Docker engine here: no /dev/net/tun"
    probe = subprocess.run(["unshare", "--net", "sh", "-c", PROBE], capture_output=True, text=True)
    if probe.returncode:
        return f"not run: no Docker engine here: no network for containers: {(probe.stderr.strip() or 'no word').splitlines()[-1]}"
    return None


def with_parent():
    os.setsid()  # Ctrl-C is for us: we stop them in order
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def end(process, seconds):
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    if process.poll() is None:
        process.kill()
        process.wait()


class Engine:
    """`with Engine() as engine`: one at a time for a folder."""

    def __init__(self, kept=KEPT):
        self.kept = kept
        self.folder = self.daemon = None
        self.stack = contextlib.ExitStack()

    @property
    def host(self):
        return f"unix://{self.folder}/docker.sock"

    def environment(self):
        """Debian's own client comes first: it builds without plugins."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "COMPOSE_", "FLEXI_"))}
        own |= {name: value for name, value in os.environ.items() if name.startswith("FLEXI_TEST_")}
        return own | {"DOCKER_HOST": self.host, "DOCKER_CONFIG": f"{self.folder}/config", "DOCKER_BUILDKIT": "1", "COMPOSE_DOCKER_CLI_BUILD": "1",
                      "PATH": f"/usr/bin:/usr/sbin:{os.environ['PATH']}", "FLEXI_TEST_ENGINE": str(self.folder)}

    def __enter__(self):
        try:
            self.begin()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_):
        self.stack.close()

    def begin(self):
        self.kept.mkdir(parents=True, exist_ok=True)
        lock = self.stack.enter_context((self.kept / "lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)  # dockerd's data folder has one user
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="flexi-engine-"))
        self.stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        (self.folder / "config").mkdir()
        log = self.stack.enter_context((self.folder / "dockerd.log").open("wb"))
        command = ["dockerd", "--host", self.host, "--data-root", self.kept / "docker", "--exec-root", self.folder / "exec", "--pidfile", self.folder / "pid",
                   "--exec-opt", "native.cgroupdriver=cgroupfs"]
        script = 'ip link set lo up && sysctl -qw net.ipv4.ip_forward=1 net.ipv4.ip_unprivileged_port_start=0 && exec "$@"'
        self.daemon = subprocess.Popen(["unshare", "--net", "sh", "-c", script, "dockerd", *map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       preexec_fn=with_parent, env=os.environ | {"PATH": f"/usr/bin:/usr/sbin:/sbin:{os.environ['PATH']}"})
        self.stack.callback(end, self.daemon, STOP_SECONDS)
        self.wait("it answers", lambda: subprocess.run(["/usr/bin/docker", "version"], env=self.environment(), capture_output=True).returncode == 0)
        out = subprocess.Popen(["slirp4netns", "--configure", "--mtu=1500", "--disable-host-loopback", str(self.daemon.pid), "tap0"], stdin=subprocess.DEVNULL, stdout=log,
                               stderr=log, preexec_fn=with_parent)
        self.stack.callback(end, out, 5)
        self.wait("it has a way out", lambda: "default" in self.run("ip", "route", capture_output=True, text=True).stdout)

    def wait(self, what, condition):
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the Docker engine: not within {START_SECONDS} s: {what}\n{(self.folder / 'dockerd.log').read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

    def inside(self, *command):
        """The command, in the engine's network."""
        return ["nsenter", "--target", str(self.daemon.pid), "--net", *map(str, command)]

    def run(self, *command, **how):
        return subprocess.run(self.inside(*command), env=self.environment(), **how)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["check", "run", "shell"])
    parser.add_argument("command", nargs="*")
    arguments = parser.parse_args()
    if why := why_not():
        print(why)
        return 77
    if arguments.what == "check":
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Engine() as engine:
        return engine.run(*(arguments.command if arguments.what == "run" else [os.environ.get("SHELL", "/bin/sh")])).returncode


if __name__ == "__main__":
    sys.exit(main())
