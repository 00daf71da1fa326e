# SPDX-License-Identifier: Apache-2.0
"""An SMTP server that tells its standard output what happens, one JSON object a line, until its standard input ends: then it
refuses what comes, and goes once it has answered what it took.

    --port N            that one instead of a free one
    --auth              wants user / secret
    --tls CERT KEY      TLS from the start
    --starttls CERT KEY STARTTLS, without which it takes nothing
    --utf8              has SMTPUTF8
    --delay SECONDS     before it takes a mail

What stands before the @ of a recipient makes it fail:
    refuse, defer       550, 451 to RCPT; deferonce: only the first time that this very address comes
    spam, deferdata     554, 451 to the mail itself
    drop…               it cuts the connection: droprcpt, dropdata (before it has taken it), droptaken (behind that, before it says so)
    hang                it never answers the mail"""
import argparse
import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--auth", action="store_true")
parser.add_argument("--tls", nargs=2)
parser.add_argument("--starttls", nargs=2)
parser.add_argument("--utf8", action="store_true")
parser.add_argument("--delay", type=float, default=0)
arguments = parser.parse_args([argument for argument in sys.argv[1:] if argument])

connections = 0
deferred = set()
taking = 0  # mails that have not been answered
closing = False


def tell(**what):
    print(json.dumps(what), flush=True)


def begins(addresses, word):
    return any(address.startswith(word) for address in addresses)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("droprcpt"):
            server.transport.abort()
            return "421 gone"
        if address.startswith("refuse"):
            return "550 5.1.1 no such user here"
        if address.startswith("defer@") or (address.startswith("deferonce") and address not in deferred):
            deferred.add(address)
            return "451 4.3.0 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        global taking
        if closing:
            return "421 4.3.2 closing"
        taking += 1
        try:
            return await self.take(server, session, envelope)
        finally:
            taking -= 1

    async def take(self, server, session, envelope):
        to = envelope.rcpt_tos
        if begins(to, "dropdata"):
            server.transport.abort()
            return "421 gone"
        if begins(to, "spam"):
            return "554 5.7.1 looks like spam"
        if begins(to, "deferdata"):
            return "451 4.7.0 not now"
        if begins(to, "hang"):
            await asyncio.sleep(3600)
        if arguments.delay:
            await asyncio.sleep(arguments.delay)
        tell(mail_from=envelope.mail_from, rcpt_tos=to, content=envelope.original_content.decode("latin-1"), connections=connections,
             utf8=bool(envelope.smtp_utf8), tls=bool(server.transport.get_extra_info("ssl_object")), login=bool(session.authenticated))
        if begins(to, "droptaken"):
            server.transport.abort()
            return "421 gone"
        return "250 taken"


def check_login(server, session, envelope, mechanism, data):
    return AuthResult(success=data.login == b"user" and data.password == b"secret", handled=False)


class CountingSMTP(SMTP):
    def connection_made(self, transport):
        global connections
        connections += 1
        super().connection_made(transport)


def context_of(files):
    if not files:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    return context


async def main():
    loop = asyncio.get_running_loop()
    options = dict(enable_SMTPUTF8=arguments.utf8)
    if arguments.auth:
        options |= dict(authenticator=check_login, auth_required=True, auth_require_tls=False)
    if arguments.starttls:
        options |= dict(tls_context=context_of(arguments.starttls), require_starttls=True)
    server = await loop.create_server(lambda: CountingSMTP(Handler(), **options), "127.0.0.1", arguments.port, ssl=context_of(arguments.tls))
    tell(port=server.sockets[0].getsockname()[1])
    await loop.run_in_executor(None, sys.stdin.read)
    global closing
    closing = True
    server.close()
    for _ in range(100):
        await asyncio.sleep(0.02)  # an answer is written a moment after the mail was taken
        if not taking:
            break


asyncio.run(main())
