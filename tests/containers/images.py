#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""All images of the container tests, made without a registry: Debian's base from debootstrap, stand-ins for other people's images from Debian's
packages and Go's modules, and the product's own from deploy/Dockerfile. What is there already and of the same sources is left.

    images.py              with an engine at hand (engine.py run -- images.py)
    images.py why-not      why the container tests can't run now, without an engine: none here, images missing or of other sources

The product's images are flexiconnect/<service>:dev.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent / "support")]

import mongodb  # noqa: E402
from engine import KEPT, ROOT, why_not  # noqa: E402

BASE, SUITE = "debian:bookworm-slim", "bookworm"
# The name in deploy/ of what each folder of standins/ stands in for.
STANDINS = {"postgres": "postgres:15", "rabbitmq": "rabbitmq:3-management", "mongo": "mongo:7", "mailpit": "axllent/mailpit:v1.27", "caddy": "caddy:2"}
SERVICES = ("broker-service", "authentication-service", "logger-service", "mail-service", "listener-service", "front-end")
TARGETS = (*SERVICES, "micro-caddy")
MAILPIT = "github.com/axllent/mailpit@v1.27.11"
# As the real base image: no documentation, no translations, no package lists.
SLIM = "rm -rf {0}/var/cache/apt/archives/*.deb {0}/var/lib/apt/lists/* {0}/usr/share/doc/* {0}/usr/share/man/* {0}/usr/share/locale/* {0}/var/log/*"
SOURCES = ("http://deb.debian.org/debian {0} main", "http://deb.debian.org/debian {0}-updates main", "http://deb.debian.org/debian-security {0}-security main")
INPUTS = (".dockerignore", "CMakeLists.txt", "CMakePresets.json", "LICENSE", "cmake", "schemas", "src", "web", "tools/deps", "deploy/Dockerfile", "deploy/Caddyfile")


def name_of(target, tag="dev"):
    return f"flexiconnect/{target}:{tag}"


def digest(*paths):
    """Of files and of what is in folders, by name and content; what git ignores is no source."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "--", *map(str, paths)], cwd=ROOT, capture_output=True, text=True).stdout.split("\n")
    found = hashlib.sha256()
    for name in sorted(set(filter(None, listed))):
        with contextlib.suppress(FileNotFoundError):
            found.update(name.encode() + b"\0" + hashlib.sha256((ROOT / name).read_bytes()).digest())
    return found.hexdigest()


def say(*words):
    print(*words, flush=True)


def docker(*words, **how):
    return subprocess.run(["docker", *words], check=True, **how)


class Stamps:
    """What each image was made of."""

    def __init__(self, kept=KEPT):
        self.file = kept / "images.json"
        self.made = json.loads(self.file.read_text()) if self.file.exists() else {}

    def fresh(self, image, of):
        return self.made.get(image) == of

    def note(self, image, of):
        self.made[image] = of
        self.file.write_text(json.dumps(self.made, indent=1) + "\n")


def wanted():
    """image → what it is to be made of, in the order of making."""
    base = hashlib.sha256("".join((SUITE, SLIM, *SOURCES)).encode()).hexdigest()
    standins = {image: base + digest(HERE / "standins" / folder) for folder, image in STANDINS.items()}
    standins[STANDINS["mongo"]] += mongodb.FERRETDB
    standins[STANDINS["mailpit"]] += MAILPIT
    return {BASE: base} | standins | {name_of(target): base + digest(*INPUTS) for target in TARGETS}


def build_base():
    say(f"{BASE}: debootstrap …")
    with tempfile.TemporaryDirectory(prefix="flexi-base-") as folder:
        root = pathlib.Path(folder) / "root"
        subprocess.run(["debootstrap", "--variant=minbase", SUITE, root, SOURCES[0].split()[0]], check=True, stdout=subprocess.DEVNULL)
        (root / "etc/apt/sources.list").write_text("".join(f"deb {line.format(SUITE)}\n" for line in SOURCES))
        subprocess.run(["sh", "-c", SLIM.format(root)], check=True)
        packed = subprocess.Popen(["tar", "--numeric-owner", "-C", root, "-c", "."], stdout=subprocess.PIPE)
        docker("import", "--change", 'CMD ["bash"]', "-", BASE, stdin=packed.stdout, stdout=subprocess.DEVNULL)
        if packed.wait():
            raise RuntimeError("tar failed")


def mailpit():
    """The program, built once: the real one, without the page's own scripts, which its releases add."""
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "flexiconnect-tests" / MAILPIT.replace("/", "_")
    if not (folder / "mailpit").exists():
        subprocess.run([mongodb.go(), "install", MAILPIT], check=True, env=os.environ | {"GOBIN": str(folder), "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"})
    return folder / "mailpit"


def build_standin(folder, image):
    say(f"{image}: stand-in …")
    programs = {"mongo": mongodb.ferretdb, "mailpit": mailpit}
    with tempfile.TemporaryDirectory(prefix="flexi-standin-") as copy:
        context = shutil.copytree(HERE / "standins" / folder, pathlib.Path(copy) / folder)
        if folder in programs:
            shutil.copy2(programs[folder](), context)
        docker("build", "--quiet", "--tag", image, str(context), stdout=subprocess.DEVNULL)


def build_target(target):
    say(f"{name_of(target)} …")
    docker("build", "--progress=plain", "--file", "deploy/Dockerfile", "--target", target, "--build-arg", "VERSION=dev", "--tag", name_of(target), ".", cwd=ROOT)


def make():
    stamps, goal = Stamps(), wanted()
    made = [(BASE, build_base)]
    made += [(image, lambda f=folder, i=image: build_standin(f, i)) for folder, image in STANDINS.items()]
    made += [(name_of(target), lambda t=target: build_target(t)) for target in TARGETS]
    for image, build in made:
        if not stamps.fresh(image, goal[image]):
            build()
            stamps.note(image, goal[image])
    say(f"{len(made)} images are there")


def why_not_now():
    if why := why_not():
        return f"containers {why}"
    stamps, goal = Stamps(), wanted()
    if missing := [image for image, of in goal.items() if not stamps.fresh(image, of)]:
        return f"containers not run: {len(missing)} of {len(goal)} images are missing or of other sources (make test-containers makes them)"
    return None


def main():
    if sys.argv[1:] == ["why-not"]:
        if why := why_not_now():
            print(why)
            return 77
        return 0
    make()
    return 0


if __name__ == "__main__":
    sys.exit(main())
