# SPDX-License-Identifier: Apache-2.0
"""Every header of ours that the server reads or writes is described in schemas/openapi.yaml."""

import re

import yaml
from conftest import ROOT

SOURCES = sorted((ROOT / "src/transports/http").glob("*.cpp"))
# What only our own processes tell each other, and what is told to services of others (docs/custom-actions.md).
DOCUMENTED_ELSEWHERE = {"X-Flexi-Action", "X-Flexi-Process-Key"}


def test_every_header_is_described():
    text = "\n".join(source.read_text() for source in SOURCES if not source.name.endswith(("_test.cpp", "_fuzz.cpp")))
    used = set(re.findall(r"X-Flexi-[A-Za-z-]*[A-Za-z]", text)) | {name for name in ("Idempotency-Key", "traceparent", "Retry-After") if name in text}
    assert len(used) > 8, "the sources were found"
    document = yaml.safe_load((ROOT / "schemas/openapi.yaml").read_text())
    described = {parameter["name"] for parameter in document["components"]["parameters"].values() if parameter["in"] == "header"}
    for responses in [document["components"]["responses"]] + [operation["responses"] for path in document["paths"].values() for operation in path.values() if "responses" in operation]:
        for response in responses.values():
            described |= set(response.get("headers", {}))
    assert {name.lower() for name in used - DOCUMENTED_ELSEWHERE} <= {name.lower() for name in described}


def test_what_browsers_may_read_and_send_is_described(http):
    origin = {"Origin": "http://somewhere.example"}
    exposed = http.post("/", headers=origin).headers["access-control-expose-headers"]
    for name in ("X-Flexi-Id", "X-Flexi-Way", "X-Flexi-Duplicate", "X-Flexi-Error", "X-Flexi-Sent", "Retry-After", "Link"):
        assert name in exposed
