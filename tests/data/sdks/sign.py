"""Requests of platforms, signed by their Python SDKs, and what these SDKs say about what became of them on the way.

stdin: {connector: a payload of it}. stdout: a JSON list of requests, each with the secrets it was signed for, what was done to it, and
whether a gateway must take it. Where an SDK can verify, its own verdict is held against that first: a wrong table ends here.
"""
import base64
import dataclasses
import hashlib
import hmac
import json
import sys
import time
import urllib.parse
import warnings
from datetime import datetime, timezone

import google.auth.crypt
import google.auth.jwt
import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from discord_interactions import verify_key
from gidgethub import ValidationFailure
from gidgethub.sansio import validate_event
from linebot.v3.webhook import SignatureValidator
from messagebird.error import ValidationError
from messagebird.request_validator import RequestValidator as MessageBirdValidator
from messagebird.signed_request import SignedRequest
from nacl.signing import SigningKey
from plivo.utils import validate_signature as plivo_v2, validate_v3_signature
from plivo.utils.signature_v3 import construct_post_url, get_signature_v3
from pywa.utils import webhook_updates_validator
from sendgrid.helpers.eventwebhook import EventWebhook
from slack_sdk.signature import SignatureVerifier
from svix.webhooks import Webhook as Svix, WebhookVerificationError
from telnyx.lib import WebhookVerificationError as TelnyxError, verify_webhook_signature
from twilio.request_validator import RequestValidator
from viberbot import Api, BotConfiguration
from vonage_jwt.verify_jwt import verify_signature as vonage_verifies
from wechatpy.crypto import WeChatCrypto
from wechatpy.exceptions import InvalidSignatureException

warnings.simplefilter("ignore")
NOW = int(time.time())
HOST = "https://hooks.example.org"
PATH = "/hooks/hook?from=the+address&x=1"
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
PAYLOADS = json.load(sys.stdin)
AES_KEY = base64.b64encode(bytes(range(32))).decode()[:43]


@dataclasses.dataclass
class Request:
    headers: dict
    body: bytes
    path: str = PATH

    @property
    def url(self):
        return HOST + self.path


@dataclasses.dataclass
class Key:
    """What the platform signs with, and what the channel file is given."""

    private: object
    public: str


def word(number):
    return Key(*2 * (f"a-secret-of-number-{number}-{'x' * 24}",))


@dataclasses.dataclass
class Platform:
    sdk: str
    connector: str
    secret: str  # name of the secret in the channel file
    header: str  # where the signature is
    sign: object  # (Key, time) -> Request
    verify: object = None  # (Key, Request) -> bool
    key: object = word  # number -> Key
    kind: str = JSON
    more_secrets: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)
    keys_url: str = None  # the secret is a key set that the platform publishes here
    covers_body: bool = True
    changes: bytes = b"e"  # behind this the body gets another letter
    too_old: int = None  # seconds
    sdk_looks_at_time: bool = True

    def payload(self):
        return PAYLOADS[self.connector].encode()


def spoiled(text):
    at = len(text) * 2 // 3
    return text[:at] + ("1" if text[at] == "0" else "0") + text[at + 1 :]


def requests(platform):
    right, other = platform.key(1), platform.key(2)
    intact = platform.sign(right, NOW)

    def changed(request, **what):
        return dataclasses.replace(request, **what)

    def with_signature(value):
        headers = {name: text for name, text in intact.headers.items() if name != platform.header}
        if value is not None:
            headers[platform.header] = value
        return changed(intact, headers=headers)

    body = intact.body.replace(platform.changes, platform.changes + b"0", 1)
    assert body != intact.body
    yield "intact", intact, True
    yield "another body", changed(intact, body=body), not platform.covers_body
    if platform.header:
        yield "another signature", with_signature(spoiled(intact.headers[platform.header])), False
        yield "an empty signature", with_signature(""), False
        yield "no signature", with_signature(None), False
    yield "another key", platform.sign(other, NOW), False
    if platform.too_old:
        yield "old", platform.sign(right, NOW - platform.too_old), False


def all_requests(platform):
    right = platform.key(1)
    for what, request, passes in requests(platform):
        missing = platform.header and platform.header not in request.headers
        if platform.verify and not missing and (what != "old" or platform.sdk_looks_at_time):
            said = platform.verify(right, request)
            assert said == passes, f"{platform.sdk}, {what}: the SDK says {said}"
        secrets = {} if platform.keys_url else {platform.secret: right.public}
        yield {
            "sdk": platform.sdk,
            "connector": platform.connector,
            "what": what,
            "passes": passes,
            "now": NOW,
            "secrets": secrets | platform.more_secrets,
            "settings": platform.settings,
            "keys_url": platform.keys_url,
            "keys": right.public if platform.keys_url else None,
            "method": "POST",
            "target": request.path,
            "headers": {"Host": "hooks.example.org", "Content-Type": platform.kind} | request.headers,
            "body": base64.b64encode(request.body).decode(),
        }


def tried(call, *errors):
    try:
        return call() is not False
    except errors:
        return False


def fields(body):
    return {name: values if len(values) > 1 else values[0] for name, values in urllib.parse.parse_qs(body.decode(), keep_blank_values=True).items()}


# --- Each platform: how its SDK signs (or how its manual says, where the SDK can only verify), and how it verifies.


def slack(key, at):
    body = PAYLOADS["slack"]
    signature = SignatureVerifier(key.private).generate_signature(timestamp=str(at), body=body)
    return Request({"X-Slack-Request-Timestamp": str(at), "X-Slack-Signature": signature}, body.encode())


def twilio(key, at):
    body = PAYLOADS["twilio"].encode()
    return Request({"X-Twilio-Signature": RequestValidator(key.private).compute_signature(HOST + PATH, fields(body))}, body)


def twilio_with_port(key, at):
    body = PAYLOADS["twilio"].encode()
    url = HOST + ":443" + PATH
    return Request({"X-Twilio-Signature": RequestValidator(key.private).compute_signature(url, fields(body))}, body)


def line(key, at):
    body = PAYLOADS["line"].encode()
    signature = base64.b64encode(hmac.new(key.private.encode(), body, hashlib.sha256).digest()).decode()
    return Request({"X-Line-Signature": signature}, body)


def signing_pair(encode):
    def pair(number):
        private = SigningKey(bytes([number]) * 32)
        return Key(private, encode(bytes(private.verify_key)))

    return pair


def discord(key, at):
    body = PAYLOADS["discord"].encode()
    signature = key.private.sign(str(at).encode() + body).signature.hex()
    return Request({"X-Signature-Timestamp": str(at), "X-Signature-Ed25519": signature}, body)


def telnyx(key, at):
    body = PAYLOADS["telnyx"].encode()
    signature = base64.b64encode(key.private.sign(f"{at}|".encode() + body).signature).decode()
    return Request({"Telnyx-Timestamp": str(at), "Telnyx-Signature-Ed25519": signature}, body)


def whsec(number):
    return Key(*2 * ("whsec_" + base64.b64encode(bytes([number]) * 24).decode(),))


def resend(key, at):
    body = PAYLOADS["resend"]
    signature = Svix(key.private).sign("msg_1", datetime.fromtimestamp(at, timezone.utc), body)
    return Request({"svix-id": "msg_1", "svix-timestamp": str(at), "svix-signature": f"v1,AAAA {signature}"}, body.encode())


def bird_token(key, at):
    body = PAYLOADS["bird"].encode()
    hashed = {"url_hash": hashlib.sha256((HOST + PATH).encode()).hexdigest(), "payload_hash": hashlib.sha256(body).hexdigest()}
    claims = {"iss": "MessageBird", "nbf": at - 1, "exp": at + 60, "jti": "5fe4f3b2-2ac0-42cb-bb1f-4a1b"}
    return Request({"MessageBird-Signature-JWT": jwt.encode(claims | hashed, key.private, "HS256")}, body)


def bird_older(key, at):
    body = PAYLOADS["bird"]
    payload = SignedRequest("", str(at), body, {"from": "the address+é~*", "x": "1"})._build_payload().encode("latin-1")
    signature = base64.b64encode(hmac.new(key.private.encode(), payload, hashlib.sha256).digest()).decode()
    return Request({"MessageBird-Request-Timestamp": str(at), "MessageBird-Signature": signature}, body.encode(), "/hooks/hook?x=1&from=the%20address%2B%C3%A9%7E*")


def bird_older_verifies(key, request):
    given = SignedRequest(request.headers["MessageBird-Signature"], request.headers["MessageBird-Request-Timestamp"], request.body.decode(), {"from": "the address+é~*", "x": "1"})
    return tried(lambda: given.verify(key.private), ValueError)


def plivo(key, at):
    body = PAYLOADS["plivo"].encode()
    url = construct_post_url(HOST + PATH, fields(body)).decode()
    signature = get_signature_v3(key.private, url, "12345").decode()
    return Request({"X-Plivo-Signature-V3-Nonce": "12345", "X-Plivo-Signature-V3": f"AAAA,{signature}"}, body)


def plivo_older(key, at):
    body = PAYLOADS["plivo"].encode()
    signature = base64.b64encode(hmac.new(key.private.encode(), (HOST + PATH.split("?")[0] + "12345").encode(), hashlib.sha256).digest()).decode()
    return Request({"X-Plivo-Signature-V2-Nonce": "12345", "X-Plivo-Signature-V2": signature}, body)


def vonage(key, at):
    body = PAYLOADS["vonage"].encode()
    claims = {"iss": "Vonage", "iat": at, "jti": "b5a8bb4e", "payload_hash": hashlib.sha256(body).hexdigest()}
    return Request({"Authorization": "Bearer " + jwt.encode(claims, key.private, "HS256")}, body)


def vonage_says(key, request):
    # Its helper looks at the token alone; its manual wants the body's hash compared.
    token = request.headers["Authorization"].removeprefix("Bearer ")
    if not tried(lambda: vonage_verifies(token, key.private), Exception):
        return False
    claims = jwt.decode(token, options={"verify_signature": False})
    return claims["payload_hash"] == hashlib.sha256(request.body).hexdigest()


def curve_pair(number):
    private = ec.derive_private_key(number + 1000, ec.SECP256R1())
    public = private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Key(private, base64.b64encode(public).decode())


def sendgrid(key, at):
    lines = []
    for name, value in json.loads(PAYLOADS["sendgrid"]).items():
        lines += ["--xYzZY", f'Content-Disposition: form-data; name="{name}"', "", value]
    body = "\r\n".join([*lines, "--xYzZY--", ""]).encode()
    signature = base64.b64encode(key.private.sign(str(at).encode() + body, ec.ECDSA(hashes.SHA256()))).decode()
    head = "X-Twilio-Email-Event-Webhook-"
    return Request({head + "Timestamp": str(at), head + "Signature": signature}, body)


def sendgrid_says(key, request):
    head = "X-Twilio-Email-Event-Webhook-"
    given = (request.body.decode(), request.headers[head + "Signature"], request.headers[head + "Timestamp"])
    return tried(lambda: EventWebhook(key.public).verify_signature(*given), ValueError)


def viber_bot(key):
    return Api(BotConfiguration(auth_token=key.private, name="bot", avatar=""))


def viber(key, at):
    body = PAYLOADS["viber"].encode()
    return Request({"X-Viber-Content-Signature": viber_bot(key)._calculate_message_signature(body)}, body)


def wechat(key, at):
    sealed = WeChatCrypto(key.private, AES_KEY, "wx0000000000000001").encrypt_message(PAYLOADS["wechat"], "a-nonce", str(at))
    signature = sealed.split("<MsgSignature><![CDATA[")[1].split("]]>")[0]
    return Request({}, sealed.encode(), f"/hooks/hook?msg_signature={signature}&timestamp={at}&nonce=a-nonce&signature=0&encrypt_type=aes")


def wechat_says(key, request):
    query = dict(urllib.parse.parse_qsl(request.path.split("?")[1]))
    crypto = WeChatCrypto(key.private, AES_KEY, "wx0000000000000001")
    return tried(lambda: crypto.decrypt_message(request.body, query["msg_signature"], query["timestamp"], query["nonce"]), InvalidSignatureException)


def hub(connector):
    def sign(key, at):
        body = PAYLOADS[connector].encode()
        return Request({"X-Hub-Signature-256": "sha256=" + hmac.new(key.private.encode(), body, hashlib.sha256).hexdigest()}, body)

    return sign


def rsa_pair(number):
    private = RSA[number]
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key())) | {"kid": "k1", "use": "sig"}
    return Key(private, json.dumps({"keys": [public]}))


RSA = {number: rsa.generate_private_key(65537, 2048) for number in (1, 2)}


def google_chat(key, at):
    pem = key.private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    signer = google.auth.crypt.RSASigner.from_string(pem, key_id="k1")
    claims = {"iss": "chat@system.gserviceaccount.com", "aud": "1234567890", "iat": at, "exp": at + 3600}
    return Request({"Authorization": "Bearer " + google.auth.jwt.encode(signer, claims).decode()}, PAYLOADS["google-chat"].encode())


def teams(key, at):
    body = PAYLOADS["teams"].encode()
    claims = {"iss": "https://api.botframework.com", "aud": "an-app-id", "nbf": at, "exp": at + 3600, "serviceurl": json.loads(body)["serviceUrl"]}
    return Request({"Authorization": "Bearer " + jwt.encode(claims, key.private, "RS256", {"kid": "k1"})}, body)


GOOGLE_KEYS = "https://www.googleapis.com/service_accounts/v1/jwk/chat@system.gserviceaccount.com"
TEAMS_KEYS = "https://login.botframework.com/v1/.well-known/keys"

PLATFORMS = [
    Platform("slack_sdk", "slack", "signing_secret", "X-Slack-Signature", slack, lambda key, it: SignatureVerifier(key.private).is_valid_request(it.body, it.headers), too_old=600),
    Platform("twilio", "twilio", "auth_token", "X-Twilio-Signature", twilio, lambda key, it: RequestValidator(key.private).validate(it.url, fields(it.body), it.headers["X-Twilio-Signature"]), kind=FORM),
    Platform("twilio, with the port", "twilio", "auth_token", "X-Twilio-Signature", twilio_with_port, lambda key, it: RequestValidator(key.private).validate(it.url, fields(it.body), it.headers["X-Twilio-Signature"]), kind=FORM),
    Platform("line-bot-sdk", "line", "channel_secret", "X-Line-Signature", line, lambda key, it: SignatureValidator(key.private).validate(it.body.decode(), it.headers["X-Line-Signature"])),
    Platform("discord-interactions", "discord", "public_key", "X-Signature-Ed25519", discord, lambda key, it: verify_key(it.body, it.headers["X-Signature-Ed25519"], it.headers["X-Signature-Timestamp"], key.public), key=signing_pair(bytes.hex)),
    Platform("telnyx", "telnyx", "public_key", "Telnyx-Signature-Ed25519", telnyx, lambda key, it: tried(lambda: verify_webhook_signature(it.body, it.headers, key.public), TelnyxError), key=signing_pair(lambda it: base64.b64encode(it).decode()), too_old=600),
    Platform("svix", "resend", "signing_secret", "svix-signature", resend, lambda key, it: tried(lambda: Svix(key.private).verify(it.body, it.headers), WebhookVerificationError), key=whsec, too_old=600),
    Platform("messagebird, by token", "bird", "legacy_signing_key", "MessageBird-Signature-JWT", bird_token, lambda key, it: tried(lambda: MessageBirdValidator(key.private).validate_signature(it.headers["MessageBird-Signature-JWT"], it.url, it.body), ValidationError), too_old=3600),
    Platform("messagebird, older", "bird", "legacy_signing_key", "MessageBird-Signature", bird_older, bird_older_verifies, too_old=3 * 86400, sdk_looks_at_time=False),
    Platform("plivo, version 3", "plivo", "auth_token", "X-Plivo-Signature-V3", plivo, lambda key, it: tried(lambda: validate_v3_signature("POST", it.url, "12345", key.private, it.headers["X-Plivo-Signature-V3"], fields(it.body))), kind=FORM),
    Platform("plivo, version 2", "plivo", "auth_token_v2", "X-Plivo-Signature-V2", plivo_older, lambda key, it: tried(lambda: plivo_v2(it.url, "12345", it.headers["X-Plivo-Signature-V2"], key.private)), kind=FORM, covers_body=False),
    Platform("vonage-jwt", "vonage", "signature_secret", "Authorization", vonage, vonage_says, too_old=3 * 86400, sdk_looks_at_time=False),
    Platform("sendgrid", "sendgrid", "public_key", "X-Twilio-Email-Event-Webhook-Signature", sendgrid, sendgrid_says, key=curve_pair, kind="multipart/form-data; boundary=xYzZY"),
    Platform("viberbot", "viber", "auth_token", "X-Viber-Content-Signature", viber, lambda key, it: viber_bot(key).verify_signature(it.body, it.headers["X-Viber-Content-Signature"])),
    Platform("wechatpy", "wechat", "token", None, wechat, wechat_says, kind="text/xml", changes=b"<Encrypt><![CDATA[", more_secrets={"encoding_aes_key": AES_KEY}, settings={"app_id": "wx0000000000000001"}),
    Platform("gidgethub", "github", "webhook_secret", "X-Hub-Signature-256", hub("github"), lambda key, it: tried(lambda: validate_event(it.body, signature=it.headers["X-Hub-Signature-256"], secret=key.private), ValidationFailure)),
    Platform("pywa", "whatsapp", "app_secret", "X-Hub-Signature-256", hub("whatsapp"), lambda key, it: webhook_updates_validator(key.private, it.body, it.headers["X-Hub-Signature-256"]), more_secrets={"verify_token": "v"}),
    Platform("google-auth", "google-chat", "", "Authorization", google_chat, key=rsa_pair, keys_url=GOOGLE_KEYS, settings={"project_number": "1234567890"}, covers_body=False, too_old=7200),
    Platform("PyJWT", "teams", "", "Authorization", teams, key=rsa_pair, keys_url=TEAMS_KEYS, settings={"app_id": "an-app-id"}, covers_body=False, too_old=7200),
]

shown = [request for platform in PLATFORMS for request in all_requests(platform)]
# SDKs write what they think to standard output.
sys.stdout.write("\n" + json.dumps(shown))
