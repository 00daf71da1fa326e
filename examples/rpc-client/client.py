# SPDX-License-Identifier: Apache-2.0
"""The same client in Python, with pycapnp (pip install pycapnp, 2.x): client.py [HOST:PORT]"""
import asyncio
import pathlib
import sys

import capnp

SCHEMA = pathlib.Path(__file__).parents[2] / "schemas" / "flexiconnect.capnp"
flexiconnect = capnp.load(str(SCHEMA), imports=["/usr/include"])


async def main():
    host, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:5001").rsplit(":", 1)
    stream = await capnp.AsyncIoStream.create_connection(host=host, port=int(port))
    table = capnp.TwoPartyClient(stream).bootstrap().cast_as(flexiconnect.ExportTable)
    broker = (await table.get("Broker")).object.as_interface(flexiconnect.Broker)
    answer = await broker.handle(
        request={"payload": {"log": {"name": "event", "data": "Some kind of RPC data"}}},
        meta={"id": "order-18", "ack": "stored", "via": "auto", "timeoutMs": 2000},
    )
    if answer.which() == "error":
        sys.exit(f"error {answer.error.kind}: {answer.error.message}")
    print(f"{answer.ok.message} (way {answer.ok.way}, id {answer.ok.id})")


asyncio.run(capnp.run(main()))
