# SPDX-License-Identifier: Apache-2.0
"""A real SMTP server (aiosmtpd) in a process of its own, and what Python's email package reads of the mails that it took."""

import collections
import email
import email.policy
import json
import pathlib
import queue
import subprocess
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]

SERVER = ROOT / "src/mailers/smtp/smtp_test_server.py"
PYTHON = pathlib.Path("/usr/bin/python3")


def why_not():
    """Why there can be no server here; none: there can."""
    if subprocess.run([str(PYTHON), "-c", "import aiosmtpd"], capture_output=True).returncode:
        return "not run: aiosmtpd is not installed (make deps-test)"
    return None


class Taken(dict):
    """One mail as the server tells it."""

    @property
    def content(self):
        return self["content"].encode("latin-1")

    @property
    def message(self):
        return email.message_from_bytes(self.content, policy=email.policy.default)


class SmtpServer:
    """`taken()` is the next mail; `arguments` are those of smtp_test_server.py. stop() and start() keep the port."""

    def __init__(self, *arguments):
        self.arguments = [str(argument) for argument in arguments]
        self.port = 0
        self.start()

    def start(self):
        self.process = subprocess.Popen([str(PYTHON), str(SERVER), *self.arguments, "--port", str(self.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        lines = self.process.stdout
        self.port = json.loads(lines.readline())["port"]
        if not hasattr(self, "lines"):
            self.lines = queue.Queue()
        self.reader = threading.Thread(target=lambda: [self.lines.put(line) for line in lines], daemon=True)
        self.reader.start()

    def taken(self, timeout=20):
        return Taken(json.loads(self.lines.get(timeout=timeout)))

    def all_taken(self):
        """What came until now, and was not asked for yet."""
        mails = []
        while not self.lines.empty():
            mails.append(Taken(json.loads(self.lines.get())))
        return mails

    def stop(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(20)
            self.reader.join(20)

    def kill(self):
        self.process.kill()
        self.process.wait(20)
        self.reader.join(20)


def subjects(mails):
    return collections.Counter(str(mail.message["subject"]) for mail in mails)
