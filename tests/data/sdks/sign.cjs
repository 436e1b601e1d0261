// Requests of platforms, signed by their JavaScript SDKs, and what these say about what became of them on the way. As sign.py, for the
// SDKs of npm. stdin: {connector: a payload of it}. stdout: a JSON list of requests, each with whether a gateway must take it.
const crypto = require("node:crypto");
const { createRequire } = require("node:module");
const { join } = require("node:path");
const { pathToFileURL } = require("node:url");
const { readFileSync } = require("node:fs");

const sdk = createRequire(join(process.cwd(), "package.json"));
const PAYLOADS = JSON.parse(readFileSync(0, "utf8"));
const NOW = Math.floor(Date.now() / 1000);
const [HOST, PATH] = ["https://hooks.example.org", "/hooks/hook?from=the+address&x=1"];
const [JSON_TYPE, FORM] = ["application/json", "application/x-www-form-urlencoded"];

const word = (number) => ({ private: `a-secret-of-number-${number}-${"x".repeat(24)}`, public: `a-secret-of-number-${number}-${"x".repeat(24)}` });
const whsec = (number) => {
  const text = "whsec_" + Buffer.alloc(24, number).toString("base64");
  return { private: text, public: text };
};
const pair = (type, options, shown) => {
  const made = {};
  return (number) => {
    if (!made[number]) {
      const { privateKey, publicKey } = crypto.generateKeyPairSync(type, options);
      made[number] = { private: privateKey, public: shown(publicKey) };
    }
    return made[number];
  };
};
const fields = (body) => {
  const all = {};
  for (const [name, value] of new URLSearchParams(body)) all[name] = name in all ? [].concat(all[name], value) : value;
  return all;
};
const hashed = (text) => crypto.createHash("sha256").update(text).digest("hex");
const hmac = (key, text, encoding) => crypto.createHmac("sha256", key).update(text).digest(encoding);
const token = (key, claims) => {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${hmac(key, signed, "base64url")}`;
};

async function main() {
  // Modules of the other kind: Debian's Node.js cannot `require` them.
  const module = (path) => import(pathToFileURL(join(process.cwd(), "node_modules", path)));
  const { Webhooks } = await module("@octokit/webhooks/dist-bundle/index.js");
  const twilio = sdk("twilio");
  const plivo = sdk("plivo");
  const { Webhook: Svix } = await module("svix/dist/index.mjs");
  const { Webhook: Standard } = sdk("standardwebhooks");
  const { EventWebhook } = sdk("@sendgrid/eventwebhook");
  const messagebird = sdk("messagebird/lib/webhook-signature-jwt");
  // One for each question: it remembers tokens, and we ask about the same request several times.
  const mailgun = (key) => sdk("mailgun-js")({ apiKey: key, domain: "in.example.org", mute: true });
  const autohook = sdk("twitter-autohook");

  const body = (name) => PAYLOADS[name];
  const svixHeaders = (library, prefix) => (key, at) => {
    const signature = new library(key.private).sign("msg_1", new Date(at * 1000), body("resend"));
    return { headers: { [`${prefix}-id`]: "msg_1", [`${prefix}-timestamp`]: String(at), [`${prefix}-signature`]: `${signature} v1,AAAA` }, body: body("resend") };
  };
  const mailgunForm = (key, at) => {
    const id = "0123456789abcdef0123456789abcdef0123456789abcdef01";
    const all = new URLSearchParams(body("mailgun"));
    for (const [name, value] of [["timestamp", at], ["token", id], ["signature", hmac(key.private, `${at}${id}`, "hex")]]) all.set(name, value);
    return { headers: {}, body: all.toString() };
  };

  const platforms = [
    {
      sdk: "@octokit/webhooks", connector: "github", secret: "webhook_secret", header: "X-Hub-Signature-256",
      sign: async (key) => ({ headers: { "X-Hub-Signature-256": await new Webhooks({ secret: key.private }).sign(body("github")) }, body: body("github") }),
      verify: (key, it) => new Webhooks({ secret: key.private }).verify(it.body, it.headers["X-Hub-Signature-256"]),
    },
    {
      sdk: "svix", connector: "resend", secret: "signing_secret", header: "svix-signature", key: whsec, too_old: 600,
      sign: svixHeaders(Svix, "svix"), verify: (key, it) => new Svix(key.private).verify(it.body, it.headers),
    },
    {
      sdk: "standardwebhooks", connector: "resend", secret: "signing_secret", header: "svix-signature", key: whsec, too_old: 600,
      sign: svixHeaders(Standard, "svix"),
      verify: (key, it) => {
        const named = Object.entries(it.headers).map(([name, value]) => [name.replace("svix-", "webhook-"), value]);
        return new Standard(key.private).verify(it.body, Object.fromEntries(named));
      },
    },
    {
      sdk: "twilio", connector: "twilio", secret: "auth_token", header: "X-Twilio-Signature", kind: FORM,
      sign: (key) => ({ headers: { "X-Twilio-Signature": twilio.getExpectedTwilioSignature(key.private, HOST + PATH, fields(body("twilio"))) }, body: body("twilio") }),
      verify: (key, it) => twilio.validateRequest(key.private, it.headers["X-Twilio-Signature"], HOST + it.path, fields(it.body)),
    },
    {
      // A body that is no form is proven by its hash in the address. No map reads such a body: the guard alone is asked.
      sdk: "twilio, JSON", connector: "twilio", secret: "auth_token", header: "X-Twilio-Signature", unread: true,
      sign: (key) => {
        const path = `${PATH}&bodySHA256=${hashed(body("line"))}`;
        return { path, headers: { "X-Twilio-Signature": twilio.getExpectedTwilioSignature(key.private, HOST + path, {}) }, body: body("line") };
      },
      verify: (key, it) => twilio.validateRequestWithBody(key.private, it.headers["X-Twilio-Signature"], HOST + it.path, it.body),
    },
    {
      sdk: "@line/bot-sdk", connector: "line", secret: "channel_secret", header: "X-Line-Signature",
      sign: (key) => ({ headers: { "X-Line-Signature": hmac(key.private, body("line"), "base64") }, body: body("line") }),
      verify: (key, it) => sdk("@line/bot-sdk").validateSignature(it.body, key.private, it.headers["X-Line-Signature"]),
    },
    {
      sdk: "discord-interactions", connector: "discord", secret: "public_key", header: "X-Signature-Ed25519",
      key: pair("ed25519", {}, (key) => key.export({ type: "spki", format: "der" }).subarray(-32).toString("hex")),
      sign: (key, at) => {
        const signature = crypto.sign(null, Buffer.from(at + body("discord")), key.private).toString("hex");
        return { headers: { "X-Signature-Timestamp": String(at), "X-Signature-Ed25519": signature }, body: body("discord") };
      },
      verify: (key, it) => sdk("discord-interactions").verifyKey(it.body, it.headers["X-Signature-Ed25519"], it.headers["X-Signature-Timestamp"], key.public),
    },
    {
      sdk: "messagebird", connector: "bird", secret: "legacy_signing_key", header: "MessageBird-Signature-JWT", too_old: 3600,
      sign: (key, at) => {
        const claims = { iss: "MessageBird", nbf: at - 1, exp: at + 60, jti: "5fe4f3b2", url_hash: hashed(HOST + PATH), payload_hash: hashed(body("bird")) };
        return { headers: { "MessageBird-Signature-JWT": token(key.private, claims) }, body: body("bird") };
      },
      verify: async (key, it) => {
        const secret = crypto.createSecretKey(Buffer.from(key.private));
        await messagebird.verify(HOST + it.path, Buffer.from(it.body), it.headers["MessageBird-Signature-JWT"], secret);
        return true;
      },
    },
    {
      sdk: "plivo", connector: "plivo", secret: "auth_token", header: "X-Plivo-Signature-V3", kind: FORM, path: "/hooks/hook",
      sign: (key) => {
        // Its library verifies only; signed is as its manual says.
        const all = Object.entries(fields(body("plivo"))).sort().map(([name, value]) => name + value).join("");
        const signature = hmac(key.private, `${HOST}/hooks/hook?${all}.12345`, "base64");
        return { headers: { "X-Plivo-Signature-V3-Nonce": "12345", "X-Plivo-Signature-V3": signature }, body: body("plivo"), path: "/hooks/hook" };
      },
      verify: (key, it) => plivo.validateV3Signature("POST", HOST + it.path, "12345", key.private, it.headers["X-Plivo-Signature-V3"], fields(it.body)),
    },
    {
      sdk: "@vonage/jwt", connector: "vonage", secret: "signature_secret", header: "Authorization", too_old: 3 * 86400, sdk_ignores: ["another body", "old"],
      sign: (key, at) => {
        const claims = { iss: "Vonage", iat: at, jti: "b5a8bb4e", payload_hash: hashed(body("vonage")) };
        return { headers: { Authorization: `Bearer ${token(key.private, claims)}` }, body: body("vonage") };
      },
      verify: (key, it) => sdk("@vonage/jwt").verifySignature(it.headers.Authorization.slice(7), key.private),
    },
    {
      sdk: "@sendgrid/eventwebhook", connector: "sendgrid", secret: "public_key", header: "X-Twilio-Email-Event-Webhook-Signature", kind: FORM,
      key: pair("ec", { namedCurve: "P-256" }, (key) => key.export({ type: "spki", format: "der" }).toString("base64")),
      sign: (key, at) => {
        const all = new URLSearchParams(JSON.parse(body("sendgrid"))).toString();
        const signature = crypto.sign("sha256", Buffer.from(at + all), key.private).toString("base64");
        return { headers: { "X-Twilio-Email-Event-Webhook-Timestamp": String(at), "X-Twilio-Email-Event-Webhook-Signature": signature }, body: all };
      },
      verify: (key, it) => {
        const head = "X-Twilio-Email-Event-Webhook-";
        const own = new EventWebhook();
        const pem = `-----BEGIN PUBLIC KEY-----\n${key.public}\n-----END PUBLIC KEY-----`;
        return own.verifySignature(own.convertPublicKeyToECDSA(pem), it.body, it.headers[`${head}Signature`], it.headers[`${head}Timestamp`]);
      },
    },
    {
      sdk: "@slack/events-api", connector: "slack", secret: "signing_secret", header: "X-Slack-Signature", too_old: 600,
      sign: (key, at) => {
        const signature = "v0=" + hmac(key.private, `v0:${at}:${body("slack")}`, "hex");
        return { headers: { "X-Slack-Request-Timestamp": String(at), "X-Slack-Signature": signature }, body: body("slack") };
      },
      verify: (key, it) => {
        const [requestSignature, requestTimestamp] = [it.headers["X-Slack-Signature"], Number(it.headers["X-Slack-Request-Timestamp"])];
        return sdk("@slack/events-api").verifyRequestSignature({ signingSecret: key.private, requestSignature, requestTimestamp, body: it.body });
      },
    },
    {
      sdk: "twitter-autohook", connector: "x", secret: "consumer_secret", header: "x-twitter-webhooks-signature",
      sign: (key) => ({ headers: { "x-twitter-webhooks-signature": autohook.validateWebhook(body("x"), { consumer_secret: key.private }).response_token }, body: body("x") }),
      verify: (key, it) => autohook.validateSignature(it.headers, { consumer_secret: key.private }, it.body),
    },
    {
      // Nothing of the body is signed, but the time and the token in it.
      sdk: "mailgun-js", connector: "mailgun", secret: "signing_key", header: null, kind: FORM, covers_body: false, too_old: 2 * 86400,
      sign: mailgunForm,
      verify: (key, it) => {
        const { timestamp, token, signature } = fields(it.body);
        return mailgun(key.private).validateWebhook(timestamp, token, signature);
      },
    },
  ];

  const shown = [];
  for (const platform of platforms) {
    const make = platform.key ?? word;
    const [right, other] = [make(1), make(2)];
    const signed = async (key, at) => ({ path: PATH, ...(await platform.sign(key, at)) });
    const intact = await signed(right, NOW);
    const changed = { ...intact, body: intact.body.replace("e", "e0") };
    if (changed.body === intact.body) throw new Error(`${platform.sdk}: nothing to change in the body`);
    const all = [["intact", intact, true], ["another body", changed, platform.covers_body === false]];
    if (platform.header) {
      const given = intact.headers[platform.header];
      const at = Math.floor((given.length * 2) / 5);
      const spoiled = given.slice(0, at) + (given[at] === "0" ? "1" : "0") + given.slice(at + 1);
      const { [platform.header]: left_out, ...rest } = intact.headers;
      all.push(["another signature", { ...intact, headers: { ...rest, [platform.header]: spoiled } }, false]);
      all.push(["no signature", { ...intact, headers: rest }, false]);
    }
    all.push(["another key", await signed(other, NOW), false]);
    if (platform.too_old) all.push(["old", await signed(right, NOW - platform.too_old), false]);
    for (const [what, it, passes] of all) {
      const asked = what !== "no signature" && !(platform.sdk_ignores ?? []).includes(what);
      let said = passes;
      if (asked) {
        try {
          said = (await platform.verify(right, it)) !== false;
        } catch {
          said = false;
        }
      }
      if (said !== passes) throw new Error(`${platform.sdk}, ${what}: the SDK says ${said}`);
      shown.push({
        sdk: platform.sdk, connector: platform.connector, what, passes, unread: platform.unread ?? false, now: NOW,
        secrets: { [platform.secret]: right.public }, settings: {}, keys_url: null, keys: null, method: "POST", target: it.path,
        headers: { Host: "hooks.example.org", "Content-Type": platform.kind ?? JSON_TYPE, ...it.headers },
        body: Buffer.from(it.body).toString("base64"),
      });
    }
  }
  process.stdout.write("\n" + JSON.stringify(shown));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
