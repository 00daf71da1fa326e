# SPDX-License-Identifier: Apache-2.0
"""An SMTP server that tells its standard output what happens, one JSON object a line, until its standard input ends.
Recipients called defer@, refuse@ and dropdata@ make it fail."""
import asyncio
import json
import sys

from aiosmtpd.smtp import SMTP, AuthResult

connections = 0


def tell(**what):
    print(json.dumps(what), flush=True)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refuse@"):
            return "550 5.1.1 no such user here"
        if address.startswith("defer@"):
            return "451 4.3.0 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if any(to.startswith("dropdata@") for to in envelope.rcpt_tos):
            server.transport.abort()
            return "421 gone"
        if any(to.startswith("spam@") for to in envelope.rcpt_tos):
            return "554 5.7.1 looks like spam"
        tell(mail_from=envelope.mail_from, rcpt_tos=envelope.rcpt_tos, content=envelope.original_content.decode("latin-1"), connections=connections)
        return "250 taken"


def check_login(server, session, envelope, mechanism, data):
    return AuthResult(success=data.login == b"user" and data.password == b"secret", handled=False)


class CountingSMTP(SMTP):
    def connection_made(self, transport):
        global connections
        connections += 1
        super().connection_made(transport)


async def main():
    loop = asyncio.get_running_loop()
    auth = "--auth" in sys.argv
    options = dict(authenticator=check_login, auth_required=True, auth_require_tls=False) if auth else {}
    server = await loop.create_server(lambda: CountingSMTP(Handler(), **options), "127.0.0.1", 0)
    tell(port=server.sockets[0].getsockname()[1])
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


asyncio.run(main())
