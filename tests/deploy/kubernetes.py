# SPDX-License-Identifier: Apache-2.0
"""What deploy/kubernetes becomes, and whether the API would take it. `kubernetes.py` prints what can't be looked at here, if so."""

import fcntl
import os
import pathlib
import shutil
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/kubernetes"
VALIDATOR = "kubernetes-validate==1.37.0"  # has the API's schemas in it
SECRETS = ("admin_token", "token_key", "dsn", "mongo_uri", "amqp_uri")
INSTALL_SECONDS = 300


def validator():
    """The folder of the validator's package, fetched once into the user's cache; None: it can't be had."""
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "flexiconnect-tests" / VALIDATOR.replace("==", "-")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            new = folder.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            try:
                done = subprocess.run(["/usr/bin/python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(new), VALIDATOR], capture_output=True,
                                      timeout=INSTALL_SECONDS)
            except subprocess.TimeoutExpired:
                return None
            if done.returncode != 0:
                return None
            new.rename(folder)
    return folder


def cannot():
    """In words for the last lines of a run. Slow the first time."""
    return [] if validator() else [f"not run: deploy/kubernetes against the API's schemas ({VALIDATOR} can't be installed from PyPI)"]


def cannot_render():
    return [] if shutil.which("kubectl") else ["not run: deploy/kubernetes as kustomize renders it (no kubectl on PATH; its files were looked at one by one)"]


def complaints(text):
    """Of a file with one or more resources; unknown fields count."""
    code = ("import sys, yaml, kubernetes_validate as k\nfor d in yaml.safe_load_all(sys.stdin):\n  try: k.validate(d, '1.37', strict=True)\n"
            "  except Exception as e: print(d.get('kind'), getattr(e, 'path', ''), str(e).splitlines()[0])")
    done = subprocess.run(["/usr/bin/python3", "-c", code], input=text, env=os.environ | {"PYTHONPATH": str(validator())}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def rendered(folder):
    """The example overlay, as kustomize renders it with secrets made for it; without kubectl, the base's files as they are."""
    shutil.copytree(FOLDER, folder / "kubernetes", ignore=shutil.ignore_patterns("secrets"))
    overlay = folder / "kubernetes/overlays/example"
    (overlay / "secrets").mkdir()
    for name in SECRETS:
        (overlay / "secrets" / name).write_text("x" * 32)
    if cannot_render():
        return "---\n".join(path.read_text() for path in sorted((FOLDER / "base").glob("*.yaml")) if path.name != "kustomization.yaml")
    done = subprocess.run(["kubectl", "kustomize", str(overlay)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def resources(text):
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text)}


if __name__ == "__main__":
    for why in cannot_render() + cannot():
        print(why)
