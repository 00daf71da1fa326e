#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A gate between two parts: a TCP proxy on a free port that can cut, refuse, delay, freeze and corrupt, and heal.

    with Gate(("127.0.0.1", 5672)) as gate:
        ... gate.port ...
        gate.cut()      # connections die with a reset; new ones go through
        gate.refuse()   # as cut, and nobody listens until heal()
        gate.freeze()   # nothing gets through, nothing is closed, new connections are taken and stay silent
    gate.freeze("down")      # what the target says does not get through
        gate.delay(0.2) # what comes waits so long, in order
        gate.corrupt()  # each chunk has one byte changed, until heal(); corrupt(chunks=1) the next one only
        gate.cut_after(up=100)   # 100 more bytes to the target, then reset: in the middle of a frame
    gate.filter(make)        # of each connection from now on, what goes to the target passes through make()(bytes) -> bytes
        gate.heal()     # as at the beginning

The target may be away: then a connection through the gate is reset.
"""

import asyncio
import contextlib
import socket
import struct
import threading

CHUNK = 65536


class Gate:
    def __init__(self, target, host="127.0.0.1"):
        self.target = target
        self.host = host
        self.port = None
        self.connections = 0  # ever made through it
        self.cuts = 0  # by cut_after
        self.bytes = {"up": 0, "down": 0}  # that got through; up: towards the target
        self._make_filter = None
        self._reset_rules()
        self._links = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def _reset_rules(self):
        self._delay = 0
        self._frozen = frozenset()  # of "up", "down"
        self._corrupt = {"up": 0, "down": 0}  # chunks still to be changed; -1: all
        self._budget = {"up": None, "down": None}  # bytes until the cut

    def __enter__(self):
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(self, *_):
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # What a test says; each has taken effect when it returns.

    def cut(self):
        self._do(self._cut())

    def refuse(self):
        self._do(self._refuse())

    def freeze(self, *directions):
        self._do(self._set(_frozen=frozenset(directions or ("up", "down"))))

    def delay(self, seconds):
        self._do(self._set(_delay=seconds))

    def corrupt(self, chunks=-1, direction="up"):
        self._do(self._set(_corrupt=self._corrupt | {direction: chunks}))

    def cut_after(self, up=None, down=None):
        """Counts from now on, over all connections."""
        self._do(self._set(_budget={"up": up, "down": down}))

    def filter(self, make):
        """Stays until it is told otherwise; what knows a protocol must see a connection from its beginning."""
        self._do(self._set(_make_filter=make))

    def heal(self):
        self._do(self._heal())

    # Inside, on the loop's thread.

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _set(self, **rules):
        for name, value in rules.items():
            setattr(self, name, value)
        self._changed.set()

    async def _open(self):
        self._changed = asyncio.Event()
        self._server = await asyncio.start_server(self._connected, self.host, self.port or 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self):
        self._server.close()
        await self._cut()

    async def _heal(self):
        self._reset_rules()
        self._changed.set()
        if not self._server.is_serving():
            await self._open()

    async def _cut(self):
        for link in list(self._links):
            link.reset()

    async def _close(self):
        self._server.close()
        await self._cut()
        while self._links:
            await asyncio.sleep(0.001)

    async def _connected(self, reader, writer):
        self.connections += 1
        link = _Link(writer)
        self._links.add(link)
        try:
            while len(self._frozen) == 2:
                await self._wait_for_change(link)
            other_reader, other_writer = await asyncio.open_connection(*self.target)
            link.writers.append(other_writer)
            await asyncio.gather(self._pump(link, reader, other_writer, "up"), self._pump(link, other_reader, writer, "down"))
        except (OSError, asyncio.IncompleteReadError, _Cut):
            link.reset()
        finally:
            for w in link.writers:
                w.close()
            self._links.discard(link)

    async def _wait_for_change(self, link):
        self._changed.clear()
        change, gone = asyncio.ensure_future(self._changed.wait()), asyncio.ensure_future(link.gone.wait())
        await asyncio.wait({change, gone}, return_when=asyncio.FIRST_COMPLETED)
        for task in (change, gone):
            task.cancel()
        self._changed.set()  # the other links wait for the same
        if link.gone.is_set():
            raise _Cut()

    async def _pump(self, link, reader, writer, direction):
        changed = self._make_filter() if self._make_filter and direction == "up" else bytes
        while chunk := await reader.read(CHUNK):
            chunk = changed(chunk)
            if self._delay:
                await asyncio.sleep(self._delay)
            while direction in self._frozen:
                await self._wait_for_change(link)
            if self._corrupt[direction]:
                self._corrupt[direction] -= self._corrupt[direction] > 0
                middle = len(chunk) // 2
                chunk = chunk[:middle] + bytes([chunk[middle] ^ 0x55]) + chunk[middle + 1:]
            budget = self._budget[direction]
            last = budget is not None and len(chunk) >= budget
            if budget is not None:
                chunk = chunk[:budget]
                self._budget[direction] = budget - len(chunk)
            writer.write(chunk)
            self.bytes[direction] += len(chunk)
            await writer.drain()
            if last:
                self._budget[direction] = None
                # Both ends have read what came before the cut: a reset overtakes bytes.
                while writer.transport.get_write_buffer_size():
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.05)
                self.cuts += 1
                raise _Cut()
        with contextlib.suppress(OSError):
            writer.write_eof()


class _Cut(Exception):
    pass


class _Link:
    """One connection through the gate: both its ends."""

    def __init__(self, writer):
        self.writers = [writer]
        self.gone = asyncio.Event()

    def reset(self):
        self.gone.set()
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError, AttributeError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
