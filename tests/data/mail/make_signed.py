#!/usr/bin/env python3
"""Makes the signed mails of the corpus (349 and on) and the answers of the DNS beside them: signers that are not ours.

Needs dkimpy with PyNaCl, Perl's Mail::DKIM and openssl. Keys are made anew at every run and thrown away, so a run changes all of
these mails; what is expected of them stays. Run it only to add one.
"""
import base64, json, os, subprocess, sys, tempfile
import dkim

HERE = os.path.dirname(os.path.abspath(__file__))
RECEIVED = 1795338843  # 2026-11-22T09:14:03Z, the time at which the corpus comes in
SIGNED = RECEIVED - 60
dkim.time.time = lambda: SIGNED


def rsa(bits):
    pem = subprocess.run(["openssl", "genrsa", "-traditional", str(bits)], check=True, capture_output=True).stdout
    der = subprocess.run(["openssl", "rsa", "-pubout", "-outform", "DER"], input=pem, check=True, capture_output=True).stdout
    return pem, "v=DKIM1; k=rsa; p=" + base64.b64encode(der).decode()


def ed25519():
    import nacl.encoding, nacl.signing
    key = nacl.signing.SigningKey.generate()
    public = key.verify_key.encode(nacl.encoding.Base64Encoder).decode()
    return key.encode(nacl.encoding.Base64Encoder), "v=DKIM1; k=ed25519; p=" + public


class Signer(dkim.DKIM):
    """With an expiry, which dkimpy cannot set."""
    expiry = None

    def gen_header(self, fields, *rest, **more):
        if self.expiry is not None and not any(name == b"x" for name, _ in fields):
            at = [name for name, _ in fields].index(b"t")
            fields.insert(at + 1, (b"x", str(self.expiry).encode()))
        return super().gen_header(fields, *rest, **more)


def mail(sender="Ana Lindqvist <ana@example.org>", subject="Order 4711", body="Where is my order?\r\n\r\nAna\r\n", fields=""):
    return (f"From: {sender}\r\nTo: support@acme.example\r\nSubject: {subject}\r\nDate: Sun, 22 Nov 2026 09:13:00 +0000\r\n"
            f"Message-ID: <m1@{sender.rsplit('@', 1)[1].rstrip('>')}>\r\n{fields}\r\n{body}").encode()


RSA, RSA_TXT = rsa(2048)
OTHER, OTHER_TXT = rsa(1024)
SHORT, SHORT_TXT = rsa(512)
ED, ED_TXT = ed25519()
HEADERS = [b"from", b"to", b"subject", b"date", b"message-id"]
POLICY = {"_dmarc.example.org": ["v=DMARC1; p=reject"], "_dmarc.org": None}


def sign(text, domain="example.org", selector="k1", key=RSA, how=None, expiry=None, canon=(b"relaxed", b"relaxed"), **more):
    signer = Signer(text, signature_algorithm=how or b"rsa-sha256")
    signer.expiry = expiry
    return signer.sign(selector.encode(), domain.encode(), key, canonicalize=canon, include_headers=HEADERS, **more) + text


PERL = """use Mail::DKIM::Signer; my $mail = do { local $/; <STDIN> };
my $dkim = Mail::DKIM::Signer->new(Algorithm => 'rsa-sha256', Method => 'simple/relaxed', Domain => $ARGV[0], Selector => $ARGV[1],
  KeyFile => $ARGV[2], Timestamp => $ARGV[3]);
$dkim->PRINT($mail); $dkim->CLOSE; print $dkim->signature->as_string, "\\r\\n", $mail;"""


def by_perl(text, domain, selector, key):
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(key)
        file.flush()
        arguments = ["perl", "-e", PERL, domain, selector, file.name, str(SIGNED)]
        return subprocess.run(arguments, input=text, check=True, capture_output=True).stdout


def key(txt=RSA_TXT, domain="example.org", selector="k1"):
    return {f"{selector}._domainkey.{domain}": txt if txt is None or txt == "unknown" else [txt]}


cases = []


def case(name, about, text, zone, **expected):
    cases.append((name, about, text, zone, expected))


def result(dkim_word, dmarc, verified, spf=None):
    return {"spf": spf, "dkim": dkim_word, "dmarc": dmarc, "verified": verified}


def check(dkim_word, dmarc, *signatures, **more):
    said = {"dkim": dkim_word, "dmarc": dmarc, **more}
    if signatures:
        said["signatures"] = [{"domain": d, "result": r, **({"why": w} if w else {})} for d, r, w in signatures]
    return {"sender_check": said}


good = sign(mail())
path = b"Return-Path: <ana@example.org>\r\n"
foreign = b"Return-Path: <bounces@mailer.example>\r\n"
border = lambda words: f"Authentication-Results: mx.acme.example; {words}\r\n".encode()

case("signed-rsa", "A signature of the author's domain and its policy: proven.", good, {**key(), **POLICY},
     authentication=result("pass", "pass", True), extra=check("pass", "pass", ("example.org", "pass", None)))
case("signed-ed25519", "RFC 8463: the small keys.", sign(mail(), key=ED, how=b"ed25519-sha256", selector="e1"),
     {**key(ED_TXT, selector="e1"), **POLICY}, authentication=result("pass", "pass", True))
case("signed-twice", "RFC 8463: both kinds of key on one mail.",
     sign(sign(mail(), key=ED, how=b"ed25519-sha256", selector="e1")), {**key(), **key(ED_TXT, selector="e1"), **POLICY},
     extra=check("pass", "pass", ("example.org", "pass", None), ("example.org", "pass", None)))
case("signed-simple", "Canonicalisation `simple`: not one byte may differ.", sign(mail(), canon=(b"simple", b"simple")),
     {**key(), **POLICY}, authentication=result("pass", "pass", True))
case("signed-by-perl", "Another program's signature.", by_perl(mail(), "example.org", "k1", RSA),
     {**key(), **POLICY}, authentication=result("pass", "pass", True))
case("signed-body-changed", "One letter of the text changed on the way. SPF could still have passed, so DMARC is not known.",
     path + good.replace(b"my order", b"our order"), {**key(), **POLICY},
     authentication=result("fail", None, False), extra=check("fail", None, ("example.org", "fail", "body_changed")))
case("signed-header-changed", "The subject was changed on the way.", path + good.replace(b"Order 4711", b"Order 4712"),
     {**key(), **POLICY}, extra=check("fail", None, ("example.org", "fail", "header_changed")))
case("signed-expired", "It had expired when it came.", sign(mail(), expiry=RECEIVED - 10), {**key(), **POLICY},
     extra=check("fail", None, ("example.org", "fail", "expired")))
case("signed-expired-since", "RFC 6376 §3.5: it was valid when it came, and that counts.", sign(mail(), expiry=RECEIVED + 600),
     {**key(), **POLICY}, authentication=result("pass", "pass", True))
case("signed-key-revoked", "An empty key is one that was taken back.", good, {**key("v=DKIM1; p="), **POLICY},
     extra=check("permerror", None, ("example.org", "permerror", "key_revoked")))
case("signed-no-key", "Nobody knows the key.", good, {**key(None), **POLICY},
     extra=check("permerror", None, ("example.org", "permerror", "no_key")))
case("signed-dns-silent", "No answer is no failure: not known.", good, {**key("unknown"), **POLICY},
     authentication=result("temperror", "temperror", False), extra=check("temperror", "temperror", ("example.org", "temperror", "dns")))
case("signed-policy-silent", "The signature is proven, the policy not known.", good, {**key(), "_dmarc.example.org": "unknown", "_dmarc.org": None},
     authentication=result("pass", "temperror", False))
case("signed-no-policy", "A domain without a policy asks for nothing: proven is only the signature.", good,
     {**key(), "_dmarc.example.org": None, "_dmarc.org": None}, authentication=result("pass", "none", False))
case("signed-length-limited", "With `l=` everybody can add text behind what is signed: not believed.",
     sign(mail(), length=True) + b"Please pay to another account.\r\n", {**key(), **POLICY},
     extra=check("policy", None, ("", "policy", "length_limited")))
case("signed-rsa-sha1", "RFC 8301: must not be believed any more.", sign(mail(), how=b"rsa-sha1"), {**key(), **POLICY},
     extra=check("policy", None, ("example.org", "policy", "rsa_sha1")))
case("signed-short-key", "RFC 8301: a key of 512 bits proves nothing.", sign(mail(), key=SHORT, selector="s1"),
     {**key(SHORT_TXT, selector="s1"), **POLICY}, extra=check("policy", None, ("example.org", "policy", "key_too_short")))
case("signed-by-another", "A good signature of somebody else says nothing about the author.",
     foreign + sign(mail(), domain="mailer.example", key=OTHER),
     {**key(OTHER_TXT, "mailer.example"), **POLICY, "_dmarc.mailer.example": None, "_dmarc.example": None},
     authentication=result("pass", "fail", False), extra=check("pass", "fail", ("mailer.example", "pass", None)))
case("signed-two-from", "A second From before the signed one is what the reader would see.", b"From: boss@acme.example\r\n" + good,
     {**key(), **POLICY}, authentication=result("pass", "permerror", False), flags=["several_from"])
case("signed-subdomain", "The organisation vouches for a domain below it (relaxed alignment).",
     foreign + sign(mail("Ana <ana@news.example.org>")), {**key(), **POLICY, "_dmarc.news.example.org": None},
     authentication=result("pass", "pass", True))
case("signed-strict", "With strict alignment it does not.", foreign + sign(mail("Ana <ana@news.example.org>")),
     {**key(), "_dmarc.news.example.org": ["v=DMARC1; p=reject; adkim=s; aspf=s"], "_dmarc.example.org": ["v=DMARC1; p=none"], "_dmarc.org": None},
     authentication=result("pass", "fail", False))
case("signed-public-suffix", "What is signed above a public suffix is signed by nobody in particular.",
     foreign + sign(mail("Ana <ana@shop.co.example>"), domain="co.example"),
     {**key(domain="co.example"), "_dmarc.shop.co.example": ["v=DMARC1; p=reject"], "_dmarc.co.example": ["v=DMARC1; p=none; psd=y"], "_dmarc.example": None},
     authentication=result("pass", "fail", False))
many = sign(mail())
for n in range(100):
    many = sign(mail(), domain=f"list{n}.example", key=OTHER).split(b"\r\nFrom:")[0] + b"\r\n" + many
case("signed-a-hundred-times", "Few signatures are looked at, that of the author's domain first.", many, {**key(), **POLICY},
     authentication=result("pass", "pass", True))
listed = good + b"--\r\nTo leave this list, write to it.\r\n"
case("signed-list-footer", "Our border proved it before a footer was added: its word stands, the contradiction is told.",
     border("dkim=pass header.d=example.org; dmarc=pass header.from=example.org") + listed, {**key(), **POLICY},
     authentication=result("pass", "pass", True), extra=check("fail", None, ("example.org", "fail", "body_changed"), contradicts=["dkim"]))
case("signed-border-says-no", "Our border found it wrong, we find it right: its word stands, the contradiction is told.",
     border("dkim=fail header.d=example.org; dmarc=fail header.from=example.org") + good, {**key(), **POLICY},
     authentication=result("fail", "fail", False), extra=check("pass", "pass", ("example.org", "pass", None), contradicts=["dkim", "dmarc"]))
case("signed-border-could-not", "Where our border could not find out, our own word stands.",
     border("spf=pass smtp.mailfrom=example.org; dkim=temperror header.d=example.org; dmarc=temperror header.from=example.org") + good,
     {**key(), **POLICY}, authentication=result("pass", "pass", True, spf="pass"))
case("unsigned-spoofed", "No signature, and an envelope sender of somebody else: the policy's domain did not send it.", foreign + mail(),
     POLICY, authentication=result("none", "fail", False), extra=check("none", "fail"))
case("unsigned-aligned", "No signature, and an envelope sender of the author's domain: SPF might have passed.", path + mail(), POLICY,
     authentication=result("none", None, False), extra=check("none", None))
case("signed-garbage", "What cannot be read is told, and harms nothing.",
     b"DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=k1; h=from; bh=; b=====\r\nDKIM-Signature: x\r\n" + mail(), {**key(), **POLICY},
     authentication=result("permerror", None, False))

number = 349
for old in os.listdir(HERE):
    if old[:3].isdigit() and int(old[:3]) >= 349 and ("-signed-" in old or "-unsigned-" in old) and not old.endswith("expected.json"):
        os.remove(os.path.join(HERE, old))
for name, about, text, zone, expected in cases:
    stem = os.path.join(HERE, f"{number:03}-{name}")
    with open(stem + ".eml", "wb") as out:
        out.write(text)
    with open(stem + ".dns.json", "w") as out:
        json.dump(zone, out, indent=2)
        out.write("\n")
    with open(stem + ".expected.json", "w") as out:
        json.dump({"about": about, **expected}, out, indent=2, ensure_ascii=False)
        out.write("\n")
    number += 1
print(f"{len(cases)} mails, {number - 1} is the last", file=sys.stderr)
