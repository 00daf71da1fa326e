# SPDX-License-Identifier: Apache-2.0
"""A server of a test's own, kept by a process that ends with whoever started it: what rabbitmq.py, postgresql.py and mongodb.py share from Python."""

import json
import shutil
import subprocess
import sys
import tempfile


class Supervised:
    """`with Server() as server`. A subclass stands in the script whose `serve` keeps the server, and sets `made`: what that said of it."""

    name = ""  # of its folder
    made = process = own_folder = None

    def options(self):
        """More words for `serve`."""
        return []

    def __enter__(self):
        return self.begin()

    def begin(self, watched_pid=None):
        self.own_folder = tempfile.mkdtemp(prefix=f"flexi-{self.name}-")
        command = [sys.executable, sys.modules[type(self).__module__].__file__, "serve", "--folder", self.own_folder, *self.options()]
        if watched_pid:
            command += ["--watch", str(watched_pid), "--remove"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL if watched_pid else subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        start_new_session=True)
        self.made = self.answer()
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()
        shutil.rmtree(self.own_folder, ignore_errors=True)

    def answer(self):
        said = json.loads(self.process.stdout.readline() or '{"error": "the supervisor has gone"}')
        if "error" in said:
            raise RuntimeError(said["error"])
        return said

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        self.answer()

    def stop(self):
        self.tell("stop")

    def start(self):
        self.tell("start")

    def kill(self):
        self.tell("kill")

    def freeze(self):
        self.tell("freeze")

    def thaw(self):
        self.tell("thaw")
