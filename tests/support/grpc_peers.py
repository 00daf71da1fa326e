# SPDX-License-Identifier: Apache-2.0
"""gRPC peers for tests: Python stubs of our schemas, our test server and test client, and servers and clients of others."""

import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FLEXI_BINARY", ROOT / "build/release/flexiconnect")).resolve().parent
PLUGIN = shutil.which("grpc_python_plugin")


def why_not():
    """Why no test here can run; None: they can."""
    for tool in ("protoc", "grpc_python_plugin"):
        if not shutil.which(tool):
            return f"not run: no {tool} (package protobuf-compiler-grpc)"
    try:
        import grpc  # noqa: F401
    except ImportError:
        return "not run: no grpcio (package python3-grpcio)"
    return None


class Stubs:
    """What protoc makes of the schemas, as modules: `logs`, `logs_grpc`, `flexi`, `health`, `reflection_v1`, …"""

    def __init__(self, folder):
        protos, out = folder / "protos", folder / "stubs"
        protos.mkdir()
        out.mkdir()
        # A module "grpc.health" would hide behind the package grpc: health and reflection get names of their own.
        for source, name in (("grpc/health/v1/health.proto", "flexi_health.proto"), ("grpc/reflection/v1/reflection.proto", "flexi_reflection_v1.proto"),
                             ("grpc/reflection/v1alpha/reflection.proto", "flexi_reflection_v1alpha.proto")):
            shutil.copy(ROOT / "schemas" / source, protos / name)
        for name in ("messages", "test"):
            text = (ROOT / f"tests/grpc/proto/grpc/testing/{name}.proto").read_text()
            (protos / f"interop_{name}.proto").write_text(text.replace("grpc/testing/messages.proto", "interop_messages.proto"))
        ours = ["logs.proto", "flexiconnect/v1/flexiconnect.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"]
        subprocess.run(["protoc", f"-I{ROOT / 'schemas'}", f"-I{protos}", f"--python_out={out}", f"--grpc_python_out={out}",
                        f"--plugin=protoc-gen-grpc_python={PLUGIN}", *ours, *(file.name for file in protos.iterdir())], check=True, cwd=protos)
        sys.path.append(str(out))
        # "google" is a package of folders that was looked up before this one was there.
        import google
        google.__path__ = [*google.__path__, str(out / "google")]
        import flexi_health_pb2, flexi_health_pb2_grpc, flexi_reflection_v1_pb2, flexi_reflection_v1_pb2_grpc
        import flexi_reflection_v1alpha_pb2, flexi_reflection_v1alpha_pb2_grpc, interop_messages_pb2, interop_test_pb2_grpc, logs_pb2, logs_pb2_grpc
        from flexiconnect.v1 import flexiconnect_pb2, flexiconnect_pb2_grpc
        from google.rpc import error_details_pb2, status_pb2

        self.logs, self.logs_grpc = logs_pb2, logs_pb2_grpc
        self.flexi, self.flexi_grpc = flexiconnect_pb2, flexiconnect_pb2_grpc
        self.status, self.details = status_pb2, error_details_pb2
        self.health, self.health_grpc = flexi_health_pb2, flexi_health_pb2_grpc
        self.reflection_v1, self.reflection_v1_grpc = flexi_reflection_v1_pb2, flexi_reflection_v1_pb2_grpc
        self.reflection_v1alpha, self.reflection_v1alpha_grpc = flexi_reflection_v1alpha_pb2, flexi_reflection_v1alpha_pb2_grpc
        self.interop, self.interop_grpc = interop_messages_pb2, interop_test_pb2_grpc

    def details_of(self, error):
        """An RpcError's google.rpc.Status and its details by type name; None where it has none."""
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                status = self.status.Status.FromString(value)
                found = {}
                for detail in status.details:
                    kind = {"google.rpc.ErrorInfo": self.details.ErrorInfo, "google.rpc.RetryInfo": self.details.RetryInfo}[detail.TypeName()]
                    found[detail.TypeName().rsplit(".", 1)[1]] = kind.FromString(detail.value)
                return status, found
        return None


class Program:
    """A process that says "ready <endpoint>" on its standard output, and stops when its standard input ends."""

    def __init__(self, *command):
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("ready "), f"{command[0]} said {line!r}"
        self.endpoint = line.split()[1]
        self.target = self.endpoint.split("://", 1)[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        assert self.process.returncode == 0, f"exit code {self.process.returncode}"

    def tell(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == f"done {word}\n"


def test_server(*arguments):
    return Program(BUILD / "grpc_test_server", *arguments)


def call(endpoint, action, payload, *arguments, before=()):
    """One request by our client; its outcome as a dict."""
    command = [BUILD / "grpc_test_client", *before, "call", endpoint, action, payload if isinstance(payload, str) else json.dumps(payload), *arguments]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout, f"exit code {done.returncode}: {done.stderr}"
    return json.loads(done.stdout)


def interop_with_our_client(endpoint, case):
    done = subprocess.run([str(BUILD / "grpc_test_client"), "interop", endpoint, case], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# Go tools: the gRPC project's interoperability peers, the client that people use by hand, and the conformance suite of HTTP/2.
GO_TOOLS = {"client": "google.golang.org/grpc/interop/client@v1.85.0", "server": "google.golang.org/grpc/interop/server@v1.85.0",
            "grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3",
            "h2spec": "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"}


def go_tool(name):
    """The tool's path, or why there is none. Built once, into the user's cache."""
    if not shutil.which("go"):
        return None, "not run: no go"
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "flexiconnect-tests" / GO_TOOLS[name].replace("/", "_")
    folder.mkdir(parents=True, exist_ok=True)
    binary = folder / name
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            built = subprocess.run(["go", "install", GO_TOOLS[name]], env={**os.environ, "GOBIN": str(folder), "GOFLAGS": "-buildvcs=false"},
                                   capture_output=True, text=True, timeout=900)
            if built.returncode != 0:
                return None, f"not run: go install {GO_TOOLS[name]} failed: {built.stderr.strip().splitlines()[-1] if built.stderr.strip() else ''}"
    return binary, None
