"""What Python's email package reads in mails: an opinion of somebody else for the tests of our reader.

In: mails, each behind a line with its length in bytes. Out: one JSON object a line, in the same order.
"""

import email
import email.policy
import hashlib
import json
import sys


def leaves(part):
    """The parts without parts; what is inside an attached mail belongs to that mail."""
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        for child in part.iter_parts():
            yield from leaves(child)
    else:
        yield part


def attachment(part):
    name = part.get_filename()
    if part.get_content_maintype() == "message":
        # Parsed and written again: its bytes are no longer those of the mail.
        if name is None and part.get_content_type() == "message/rfc822":
            name = str(part.get_payload(0)["subject"]) + ".eml"
        return {"name": name, "sha256": None}
    return {"name": name, "sha256": hashlib.sha256(part.get_payload(decode=True)).hexdigest()}


def facts(mail):
    body = mail.get_body(preferencelist=("plain",))
    bodies = [mail.get_body(preferencelist=(kind,)) for kind in ("plain", "html")]
    sender = mail["from"].addresses if mail["from"] is not None else ()
    return {
        "subject": str(mail["subject"]),
        "from": sender[0].addr_spec.lower() if sender else None,
        "text": None if body is None else body.get_content(),
        "attachments": [attachment(part) for part in leaves(mail) if not any(part is one for one in bodies)],
    }


given = sys.stdin.buffer.read()
while given:
    length, _, given = given.partition(b"\n")
    one, given = given[: int(length)], given[int(length) :]
    told = facts(email.message_from_bytes(one, policy=email.policy.default))
    # Surrogates stand for bytes that Python could not decode; JSON for others must not hold them.
    text = json.dumps(told, ensure_ascii=False).encode("utf-8", "replace").decode()
    print(json.dumps(json.loads(text)))
