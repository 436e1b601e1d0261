"""A mail server for tests that hands each letter to a program, as Postfix and Exim do with a pipe, and does it badly when told to.

Usage: mailgate.py PROGRAM ARGUMENT... Prints its port. `percent N SEED` on standard input makes N of a hundred letters go wrong, at every point of the
exchange; `faults` prints how many did. Code 0 of the program is 250, 75 is 451, everything else 554.
"""
import asyncio
import random
import socket
import sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

FAULTS = ["cut_mail", "cut_rcpt", "cut_before", "cut_after", "stall", "busy_after", "killed", "twice"]
dice, percent, count = random.Random(1), 0, 0


async def run(content, killed_after=None):
    child = await asyncio.create_subprocess_exec(
        *sys.argv[1:], stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, start_new_session=True
    )
    talk = asyncio.ensure_future(child.communicate(content))
    if killed_after is not None:
        await asyncio.wait([talk], timeout=killed_after)
        if child.returncode is None:
            child.kill()
    await talk
    return child.returncode


class Pipe:
    async def handle_MAIL(self, server, session, envelope, address, options):
        global count
        session.fault = dice.choice(FAULTS) if dice.random() * 100 < percent else None
        count += session.fault is not None
        envelope.mail_from = address
        if session.fault == "cut_mail":
            server.transport.abort()
        return "250 2.1.0 yes"

    async def handle_RCPT(self, server, session, envelope, address, options):
        envelope.rcpt_tos.append(address)
        if session.fault == "cut_rcpt":
            server.transport.abort()
        return "250 2.1.5 yes"

    async def handle_DATA(self, server, session, envelope):
        content, fault = envelope.original_content, session.fault
        if fault == "cut_before":
            server.transport.abort()
            return "451 4.3.0 cut"
        if fault == "twice":
            # A relay that lost its own answer hands on twice, at once.
            await asyncio.gather(run(content), run(content))
        # Not with the session: the letter was taken in, and goes on when the client hangs up.
        code = await asyncio.shield(run(content, dice.random() * 2 if fault == "killed" else None))
        if fault == "cut_after":
            server.transport.abort()
        if fault == "stall":
            await asyncio.sleep(30)
        if fault == "busy_after":
            return "451 4.3.0 later"
        return {0: "250 2.0.0 taken", 75: "451 4.3.0 later"}.get(code, "451 4.3.0 killed" if code < 0 else "554 5.3.0 refused")


class Server(Controller):
    def factory(self):
        return SMTP(self.handler, enable_SMTPUTF8=True)


with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
server = Server(Pipe(), hostname="127.0.0.1", port=port, ready_timeout=60)
server.start()
print(port, flush=True)
for line in sys.stdin:
    words = line.split()
    if words[0] == "percent":
        percent, dice = int(words[1]), random.Random(int(words[2]))
    else:
        print(count, flush=True)
