"""Mail servers for whoever proves who they are, and a file of all who tried to. Says on which ports they listen."""

import asyncio
import json
import ssl
import sys

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP, AuthResult

given = json.loads(sys.argv[1])


def authenticate(server, session, envelope, mechanism, data):
    login, password = data.login.decode(), data.password.decode()
    with open(given["tried"], "a") as file:
        file.write(f"{login} {password}\n")
    return AuthResult(success=(login, password) == (given["user"], given["password"]), handled=False)


def context(name):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(given[name]["certificate"], given[name]["key"])
    return made


async def main():
    loop = asyncio.get_running_loop()

    async def listen(first=None, later=None):
        def serve():
            return SMTP(
                Mailbox(given["mailbox"]),
                hostname="mail.test",
                loop=loop,
                tls_context=later,
                require_starttls=later is not None,
                auth_required=True,
                auth_require_tls=later is not None,
                authenticator=authenticate,
            )

        server = await loop.create_server(serve, "127.0.0.1", 0, ssl=first)
        return server.sockets[0].getsockname()[1]

    ours, renamed = context("ours"), context("renamed")
    ports = {
        "tls": await listen(first=ours),
        "starttls": await listen(later=ours),
        "renamed": await listen(first=renamed),
        "plain": await listen(),
    }
    print(json.dumps(ports), flush=True)
    # Until whoever started it is gone.
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
