# SPDX-License-Identifier: Apache-2.0
"""A machine with a running systemd, in namespaces on top of this one's files: for what installs packages and starts units."""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

BOOT = pathlib.Path(__file__).with_name("boot-systemd")
START_SECONDS = 60


def why_not():
    if os.geteuid() != 0:
        return "not run: booting a systemd wants root"
    for tool in ("/lib/systemd/systemd", "unshare", "nsenter", "ip"):
        if not shutil.which(tool):
            return f"not run: no {tool} here"
    if "cgroup2" not in pathlib.Path("/proc/filesystems").read_text() or "overlay" not in pathlib.Path("/proc/filesystems").read_text():
        return "not run: this kernel has no cgroup2 or no overlay file system"
    return None


class Machine:
    """`with Machine() as machine: machine.run("systemctl", "status")`."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="flexi-booted-")
        self.log = pathlib.Path(self.folder, "log").open("w+b")
        mounts = pathlib.Path(self.folder, "mounts")
        mounts.mkdir()
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--net", "--cgroup", str(BOOT), str(mounts)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            self.wait_for_boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_for_boot(self):
        deadline = time.monotonic() + START_SECONDS
        while True:
            children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
            self.init = (children.read_text().split() or [None])[0] if children.exists() else None
            if self.init and self.run("systemctl", "is-active", "basic.target", check=False).stdout == "active\n":
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.log.seek(0)
                raise RuntimeError(f"systemd did not come up: {self.log.read().decode(errors='replace')}")
            time.sleep(0.1)

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()
        for _ in range(100):  # the mounts go with the last process of the namespaces
            shutil.rmtree(self.folder, ignore_errors=True)
            if not os.path.exists(self.folder):
                return
            time.sleep(0.05)

    def command(self, *words):
        return ["nsenter", "--target", self.init, "--all", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", *words]

    def run(self, *words, check=True, stdin=None, timeout=90):
        """@return the ended process; its output is text"""
        done = subprocess.run(self.command(*map(str, words)), input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, words))}: exit code {done.returncode}\n{done.stdout}{done.stderr}\n{self.journal()}")
        return done

    def journal(self, *words):
        return subprocess.run(self.command("journalctl", "--no-pager", "-n", "60", "-o", "cat", *words), capture_output=True, text=True, timeout=30).stdout

    def put(self, file, content):
        """Writes it; a host's path is copied."""
        data = content.read_bytes() if isinstance(content, pathlib.Path) else content.encode()
        subprocess.run(self.command("sh", "-c", f"cat > {file}"), input=data, check=True, timeout=30)

    def show(self, unit, what):
        return self.run("systemctl", "show", "-P", what, unit).stdout.strip()
