# SPDX-License-Identifier: Apache-2.0
"""The stack of deploy/compose.yaml on the tests' engine, started as a user does: with make."""

import json
import os
import subprocess
import time

from engine import ROOT

# Of each role: its service, and where its HTTP is; those that the stack publishes nowhere are published by override.yaml.
PARTS = {"broker": ("broker-service", 8080), "authentication": ("authentication-service", 8082), "logger": ("logger-service", 8083), "mail": ("mail-service", 8084),
         "listener": ("listener-service", None), "front-end": ("front-end", 8081)}
DATABASES = ("postgres", "mongo", "rabbitmq", "mailhog")
EVERYTHING = (*(service for service, _ in PARTS.values()), "caddy", *DATABASES)
MAKE_SECONDS = 1500  # with everything to be compiled


class Stack:
    """`with Stack(folder) as stack`: up-build … down, volumes too."""

    def __init__(self, folder):
        self.folder, self.secrets = folder, folder / "secrets"
        self.environment = os.environ | {"COMPOSE_PROJECT_NAME": "flexiconnect"}

    def make(self, *words, check=True, seconds=MAKE_SECONDS):
        command = ["make", "--no-print-directory", *words, f"SECRETS={self.secrets}", "OVERRIDE=tests/containers/override.yaml", "COMPOSE=docker-compose"]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds)
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout[-6000:]}"
        return done.stdout

    def __enter__(self):
        self.make("down", "ARGS=-v --remove-orphans")  # a run before this one that was killed
        self.make("up-build")
        self.token = (self.secrets / "admin_token").read_text().strip()
        return self

    def __exit__(self, *_):
        self.make("down", "ARGS=-v")

    def container(self, service):
        return docker("ps", "-aq", "--filter", f"label=com.docker.compose.service={service}", "--filter", "label=com.docker.compose.project=flexiconnect").strip()

    def inspect(self, service):
        return json.loads(docker("inspect", self.container(service)))[0]

    def wait_until(self, service, healthy=True, seconds=60):
        deadline = time.monotonic() + seconds
        while (self.inspect(service)["State"].get("Health", {}).get("Status") == "healthy") != healthy:
            assert time.monotonic() < deadline, f"{service} is not {'healthy' if healthy else 'unhealthy'} within {seconds} s\n{docker('logs', self.container(service))[-3000:]}"
            time.sleep(0.2)

    def description(self):
        """For the system suite."""
        own = {role: {"http": f"http://127.0.0.1:{port}", "container": self.container(service)} for role, (service, port) in PARTS.items() if port}
        return {"sites": {"broker": "https://backend.localhost", "front-end": "https://localhost"}, "token": self.token, "parts": own, "grpc": "127.0.0.1:50001", "rpc": "127.0.0.1:5001",
                "amqp": (self.secrets / "amqp_uri").read_text().strip().replace("@rabbitmq", "@127.0.0.1")}


def docker(*words, check=True):
    done = subprocess.run(["docker", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert not check or done.returncode == 0, f"docker {' '.join(words)}: {done.stdout[-3000:]}"
    return done.stdout
