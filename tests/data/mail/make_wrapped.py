#!/usr/bin/env python3
"""Makes the mails of the corpus whose body is wrapped (378 and on): compressed RTF in winmail.dat, S/MIME in one piece. By programs that
are not ours: compressed_rtf packs the RTF, openssl signs and encrypts. Run it only to add one; the certificates are made anew.
"""
import base64, hashlib, json, os, struct, subprocess, sys, tempfile
import compressed_rtf

HERE = os.path.dirname(os.path.abspath(__file__))
HEAD = ("From: Ana Lindqvist <ana@example.org>\r\nTo: support@acme.example\r\nSubject: {0}\r\nDate: Sun, 22 Nov 2026 09:13:00 +0000\r\n"
        "Message-ID: <m1@example.org>\r\nMIME-Version: 1.0\r\n")


def attribute(level, number, value):
    return struct.pack("<BII", level, number, len(value)) + value + struct.pack("<H", sum(value) & 0xFFFF)


def prop(kind, number, value):
    if kind == 3:
        return struct.pack("<HHI", kind, number, value)
    return struct.pack("<HHII", kind, number, 1, len(value)) + value + b"\0" * (-len(value) % 4)


def tnef(*properties, body=None):
    out = struct.pack("<IH", 0x223E9F78, 1) + attribute(1, 0x00069007, struct.pack("<II", 1252, 0))
    if body is not None:
        out += attribute(1, 0x0002800C, body)
    return out + attribute(1, 0x00069003, struct.pack("<I", len(properties)) + b"".join(properties))


def wrapped(subject, stream, text=None):
    part = ("Content-Type: application/ms-tnef; name=winmail.dat\r\nContent-Transfer-Encoding: base64\r\n"
            "Content-Disposition: attachment; filename=winmail.dat\r\n\r\n" + base64.encodebytes(stream).decode().replace("\n", "\r\n"))
    if text is None:
        return (HEAD.format(subject) + part).encode()
    return (HEAD.format(subject) + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n" + text +
            "\r\n--b\r\n" + part + "--b--\r\n").encode()


HTML_RTF = (r"{\rtf1\ansi\ansicpg1252\fromhtml1 \fbidis \deff0{\fonttbl" "\r\n" r"{\f0\fswiss Arial;}{\f1\fswiss\fcharset204 Arial;}{\f2\fnil\fcharset128 MS Gothic;}}" "\r\n"
            r"{\colortbl\red0\green0\blue0;}" "\r\n" r"\uc1\pard\plain\deftab360 \f0\fs24 {\*\htmltag18 <html>}{\*\htmltag50 <body>}" "\r\n"
            r"{\*\htmltag64 <p>}\htmlrtf {\htmlrtf0 Gr\'fc\'dfe, wo ist meine {\*\htmltag84 <b>}\htmlrtf {\b\htmlrtf0 Bestellung 4711{\*\htmltag92 </b>}\htmlrtf }\htmlrtf0 ?\htmlrtf\par}\htmlrtf0 {\*\htmltag72 </p>}" "\r\n"
            r"{\*\htmltag64 <p>}{\f1 \'cf\'f0\'e8\'e2\'e5\'f2}, {\f2 \'93\'fa\'96\'7b}, \u8364 ? 5 {\*\htmltag84 &lt;}\htmlrtf <\htmlrtf0  6{\*\htmltag72 </p>}{\*\htmltag58 </body>}{\*\htmltag27 </html>}}").encode()
TEXT_RTF = (r"{\rtf1\ansi\ansicpg1252\fromtext \deff0{\fonttbl{\f0\fswiss Arial;}}{\*\generator Exchange;}" "\r\n"
            r"\f0 Hello,\par where is my order \{4711\}?\par \par Ana\par}").encode()
BODY_RTF = (r"{\rtf1\ansi\ansicpg1250\deff0{\fonttbl{\f0\froman\fcharset238 Times;}}{\info{\author Nobody}}\pard\f0\fs20 Dobr\'fd den, kde je \b moje\b0  objedn\'e1vka?\par}").encode()
BIG_RTF = b"{\\rtf1\\ansi\\fromtext " + b"Where is my order 4711? " * 20000 + b"}"

cases = []


def case(name, about, mail, /, **expected):
    cases.append((name, about, mail, expected))


pack = lambda rtf: prop(0x102, 0x1009, compressed_rtf.compress(rtf, True))
html_text = "Grüße, wo ist meine Bestellung 4711?\n\nПривет, 日本, € 5 < 6"
case("winmail-rtf-of-html", "The only body is compressed RTF made of HTML, in three charsets: the HTML comes out again.", wrapped("Order", tnef(pack(HTML_RTF))),
     text=html_text, html="<p>Grüße, wo ist meine <b>Bestellung 4711</b>?</p><p>Привет, 日本, € 5 &lt; 6</p>")
case("winmail-rtf-of-text", "RTF made of text.", wrapped("Order", tnef(pack(TEXT_RTF))), text="Hello,\nwhere is my order {4711}?\n\nAna", html=None)
case("winmail-rtf-as-it-is", "RTF that is not compressed, of a program that writes RTF: its text.",
     wrapped("Order", tnef(prop(0x102, 0x1009, compressed_rtf.compress(BODY_RTF, False)))), text="Dobrý den, kde je moje objednávka?", html=None)
case("winmail-html", "HTML beside the RTF needs no unpacking.",
     wrapped("Order", tnef(pack(TEXT_RTF), prop(0x102, 0x1013, "<p>Größe</p>".encode("cp1252")), prop(3, 0x3FDE, 1252))), text="Größe", html="<p>Größe</p>")
case("winmail-rtf-beside-text", "A mail with a text of its own keeps it.", wrapped("Order", tnef(pack(HTML_RTF)), "The text."), text="The text.", html=None)
case("winmail-rtf-broken", "Compressed RTF that is cut gives what was there before the cut.",
     wrapped("Order", tnef(prop(0x102, 0x1009, compressed_rtf.compress(TEXT_RTF, True)[:100]))))
case("winmail-rtf-lying", "A length that is not true.", wrapped("Order", tnef(prop(0x102, 0x1009, b"\xff\xff\xff\x7f" * 2 + b"LZFu\0\0\0\0" + b"\xff" * 50))), text=None)
case("winmail-rtf-long", "Half a megabyte out of a few kilobytes: cut to what a text may be.", wrapped("Order", tnef(pack(BIG_RTF))))

with tempfile.TemporaryDirectory() as at:
    run = lambda *words, data=None: subprocess.run(words, cwd=at, input=data, check=True, capture_output=True).stdout
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k.pem", "-out", "c.pem", "-days", "30", "-subj", "/CN=Ana/emailAddress=ana@example.org")
    plain = b"Content-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe, wo ist meine Bestellung?\r\n"
    mixed = (b"Content-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\nContent-Type: text/html\r\n\r\n<p>Where is <b>it</b>?</p>\r\n--i\r\n"
             b"Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERi0xLjQK\r\n--i--\r\n")
    signed = lambda data, *more: run("openssl", "cms", "-sign", "-nodetach", "-binary", "-outform", "DER", "-signer", "c.pem", "-inkey", "k.pem", *more, data=data)
    sealed = run("openssl", "cms", "-encrypt", "-binary", "-outform", "DER", "c.pem", data=plain)

    def pkcs7(data, kind):
        kind = f"; smime-type={kind}" if kind else ""
        return (HEAD.format("Order") + f"Content-Type: application/pkcs7-mime{kind}; name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n"
                "Content-Disposition: attachment; filename=smime.p7m\r\n\r\n" + base64.encodebytes(data).decode().replace("\n", "\r\n")).encode()

    said = {"protection": "smime_signed", "signature_checked": False}
    case("smime-opaque", "Signed in one piece: the content is taken out, the signature is not looked at and that is said.",
         pkcs7(signed(plain), "signed-data"), text="Grüße, wo ist meine Bestellung?", extra=said)
    case("smime-opaque-in-pieces", "The same as programs write it that do not know the length beforehand (BER).",
         pkcs7(signed(plain, "-stream"), "signed-data"), text="Grüße, wo ist meine Bestellung?", extra=said)
    case("smime-opaque-mixed", "HTML and a file inside: the file stays in the signed part, which is an attachment.",
         pkcs7(signed(mixed), "signed-data"), text="Where is it?", html="<p>Where is <b>it</b>?</p>", extra=said)
    case("smime-opaque-unnamed", "What it is shows only inside.", pkcs7(signed(plain), ""), text="Grüße, wo ist meine Bestellung?", extra=said)
    case("smime-opaque-in-opaque", "One inside of the other is not looked into.", pkcs7(signed(pkcs7(signed(plain), "signed-data")), "signed-data"), text=None)
    case("smime-enveloped", "Encrypted: a file, and said.", pkcs7(sealed, "enveloped-data"), text=None, extra={"protection": "smime_encrypted"})

number = 378
for old in os.listdir(HERE):
    if old[:3].isdigit() and int(old[:3]) >= number:
        os.remove(os.path.join(HERE, old))
for name, about, text, expected in cases:
    stem = os.path.join(HERE, f"{number:03}-{name}")
    with open(stem + ".eml", "wb") as out:
        out.write(text)
    with open(stem + ".expected.json", "w") as out:
        json.dump({"about": about, **expected}, out, indent=2, ensure_ascii=False)
        out.write("\n")
    number += 1
print(f"{len(cases)} mails, {number - 1} is the last", file=sys.stderr)
