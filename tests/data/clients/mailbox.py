"""A mail server for tests: aiosmtpd over loopback, letters judged by Python's own parser and by dkimpy.

Usage: mailbox.py CERT KEY PUBLIC_KEY_BASE64. Prints its port, then one JSON line a letter. `cut` on standard input closes the connection behind
the next letter without an answer, after it was taken.
"""
import asyncio
import hashlib
import json
import socket
import ssl
import sys
import threading
from email import message_from_bytes, policy

import dkim
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

CUT = threading.Event()


def record(name, timeout=5):
    return b"v=DKIM1; k=rsa; p=" + sys.argv[3].encode() if name.startswith(b"omnigate._domainkey.gw.example.org") else None


class Letters:
    async def handle_DATA(self, server, session, envelope):
        content = envelope.original_content
        parsed = message_from_bytes(content, policy=policy.default)
        parts = [part for part in parsed.walk() if not part.is_multipart()]
        print(json.dumps({
            "dkim": dkim.verify(content, dnsfunc=record),
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None,
            "user": session.auth_data.decode() if session.auth_data else None,
            "headers": {name.lower(): str(value) for name, value in parsed.items()},
            "defects": [type(defect).__name__ for part in parsed.walk() for defect in part.defects],
            "text": next((part.get_content() for part in parts if part.get_content_type() == "text/plain" and not part.is_attachment()), None),
            "html": next((part.get_content() for part in parts if part.get_content_type() == "text/html" and not part.is_attachment()), None),
            "files": {part.get_filename(): hashlib.sha256(part.get_payload(decode=True)).hexdigest() for part in parts if part.is_attachment()},
            "body_sha256": hashlib.sha256(content.split(b"\r\n\r\n", 1)[1]).hexdigest(),
        }), flush=True)
        if CUT.is_set():
            CUT.clear()
            server.transport.abort()
            await asyncio.sleep(0.2)
        return "250 2.0.0 taken"


def login(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and data.login == b"gateway" and data.password == b"a-password-for-tests"
    return AuthResult(success=good, handled=False, auth_data=data.login if good else None)


class Mailbox(Controller):
    def factory(self):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[1], sys.argv[2])
        return SMTP(self.handler, tls_context=tls, require_starttls=True, authenticator=login, auth_required=True, enable_SMTPUTF8=True)


with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
mailbox = Mailbox(Letters(), hostname="127.0.0.1", port=port, ready_timeout=30)
mailbox.start()
print(port, flush=True)
for line in sys.stdin:
    if line.strip() == "cut":
        CUT.set()
        print(json.dumps("cut"), flush=True)
