# SPDX-License-Identifier: Apache-2.0
"""The tree is the architecture: apps → {transports, stores, mailers, services} → runtime → core, siblings apart."""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
LEVEL = {"core": 0, "runtime": 1, "transports": 2, "stores": 2, "mailers": 2, "services": 2, "apps": 3}
INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)
# Third-party headers that stand in one folder only, behind an implementation pointer.
DRIVERS = {"mongoc/mongoc.h": {"stores/mongo"}, "bson/bson.h": {"stores/mongo"}, "sqlite3.h": {"runtime/sqlite", "stores/sqlite"},
           "curl/curl.h": {"mailers/smtp", "apps/cli"}, "crypt.h": {"services/authentication"},
           "argon2.h": {"services/authentication"}, "jwt.h": {"services/authentication"},
           "gumbo.h": {"services/mail"}, "capnp/rpc.h": {"transports/rpc"}, "capnp/message.h": {"transports/rpc"}, "kj/async.h": {"transports/rpc"}}


def sources():
    found = [p for p in (ROOT / "src").rglob("*") if p.suffix in (".cpp", ".hpp")]
    assert len(found) > 20
    return found


def room(path):
    parts = path.split("/")
    return parts[0], parts[1] if len(parts) > 2 else ""


def test_includes_point_one_way():
    wrong = []
    for source in sources():
        where = source.relative_to(ROOT / "src").as_posix()
        if re.search(r"_(test|fixture|support)\.", where):
            continue  # a test may use the real sibling instead of a fake
        layer, folder = room(where)
        for included in INCLUDE.findall(source.read_text()):
            target, target_folder = room(included)
            if target not in LEVEL or not (ROOT / "src" / included).exists():
                continue  # generated
            sibling = LEVEL[target] == 2 and LEVEL[layer] == 2 and (target, target_folder) != (layer, folder) and target_folder
            own_layer = LEVEL[target] == 2 and LEVEL[layer] == 2 and target != layer
            if LEVEL[target] > LEVEL[layer] or sibling or own_layer:
                wrong.append(f"{where} includes {included}")
    assert not wrong, "\n".join(wrong)


def test_drivers_stay_in_their_folder():
    wrong = []
    for source in sources():
        where = source.relative_to(ROOT / "src").as_posix()
        if where.endswith("_test.cpp"):
            continue
        for header, folders in DRIVERS.items():
            if f"#include <{header}>" in source.read_text() and not any(where.startswith(folder) for folder in folders):
                wrong.append(f"{where} includes <{header}>")
    assert not wrong, "\n".join(wrong)


def test_every_source_names_its_licence():
    missing = [str(s.relative_to(ROOT)) for s in sources() if "SPDX-License-Identifier: Apache-2.0" not in s.read_text()[:200]]
    assert not missing, "\n".join(missing)


def test_coroutines_are_never_detached():
    wrong = [str(s.relative_to(ROOT)) for s in sources() if re.search(r"asio::detached|net::detached", s.read_text())]
    assert not wrong, "\n".join(wrong)


# Folders that no conformance suite runs over, each with its reason. The list may only shrink.
NO_CONFORMANCE = {
    "transports/spool": "a Client in front of another queue and no Server, so it is no Transport: spool_test and spool_crash_test hold its guarantees",
}


def conforms(folder):
    """Whether the adapter in this folder is listed where its conformance suite looks."""
    kind, name = folder.split("/")
    if kind == "transports":
        return f'{{"{name}", ' in (ROOT / "tests/conformance/transports/all_transports.cpp").read_text().split("all_transports_under_test()", 1)[1]
    return any(f'#include "{folder}/' in file.read_text() for suite in ("stores", "mailers") for file in (ROOT / "tests/conformance" / suite).glob("*.cpp"))


def test_every_adapter_is_under_a_conformance_suite_or_says_why_not():
    folders = {f"{kind}/{path.parent.name}" for kind in ("transports", "stores", "mailers") for path in (ROOT / "src" / kind).glob("*/CMakeLists.txt")}
    assert len(folders) >= 9
    missing = sorted(folder for folder in folders if not conforms(folder) and folder not in NO_CONFORMANCE)
    assert not missing, f"list them in tests/conformance/*/all_*.cpp, or say why not in NO_CONFORMANCE: {missing}"
    stale = sorted(folder for folder in NO_CONFORMANCE if folder not in folders or conforms(folder))
    assert not stale, f"no longer waived: {stale}"
