//! The one table of keys. It drives reading, defaults, the annotated reference, the documentation and the JSON Schemas, so that
//! none of them can say something else.

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any text that is not empty.
    Text,
    /// A name: lower-case letters, digits, `-`, `_`, `.`.
    Name,
    /// A jq program.
    Jq,
    /// `true` or `false`.
    Bool,
    /// A whole number in a range.
    Integer(i64, i64),
    /// A number in a range.
    Number(f64, f64),
    /// A duration, in milliseconds from and to.
    Duration(u64, u64),
    /// A duration, or `"never"`.
    Keep,
    /// A size in bytes, from and to.
    Size(u64, u64),
    /// A rate.
    Rate,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One of these words, or a list of them.
    Choices(&'static [&'static str]),
    /// A path; relative ones start at the file's folder.
    Path,
    /// An `http` or `https` URL.
    Url,
    /// An address and port to listen on.
    Listen,
    /// A list of addresses and networks.
    Networks,
    /// A list of texts.
    Texts,
    /// A list of names.
    Names,
    /// A list of durations.
    Durations,
    /// Where a secret is that the gateway makes by itself.
    SecretPlace,
    /// One or several secrets.
    Secrets,
    /// A table of texts.
    TextMap,
    /// A table of texts or secrets: header fields.
    HeaderMap,
    /// A table of secrets, one or several each.
    SecretMap,
    /// A table whose content somebody else checks.
    Free,
    /// A table with these keys.
    Table(&'static [Key]),
    /// A table of tables with these keys, by name.
    Tables(&'static [Key]),
    /// A list of tables with these keys.
    List(&'static [Key]),
}

/// What stands where nothing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// This TOML value.
    Is(&'static str),
    /// Nothing; such a value would be allowed.
    Unset(&'static str),
    /// It must be written; such a value would be allowed.
    Required(&'static str),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What stands where nothing is written.
    pub default: Default,
    /// One sentence, or a few.
    pub help: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: Default, help: &'static str) -> Key {
    Key { name, kind, default, help }
}

const fn table(name: &'static str, keys: &'static [Key], help: &'static str) -> Key {
    Key { name, kind: Kind::Table(keys), default: Default::Unset(""), help }
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

use self::Default::{Is, Required, Unset};
use self::Kind::{
    Bool, Choice, Choices, Duration, Durations, Free, HeaderMap, Integer, Jq, Keep, List, Listen, Name, Names, Networks, Number, Path,
    Rate, SecretMap, SecretPlace, Secrets, Size, Table, Tables, Text, TextMap, Texts, Url,
};

/// The main file.
pub const MAIN: &[Key] = &[
    table("instance", INSTANCE, "Who this gateway is and where it keeps its state."),
    table("server", SERVER, "The two listeners. The public one serves hooks and files and nothing else."),
    table("store", STORE, "The embedded store."),
    table("attachments", ATTACHMENTS, "Limits for files of messages."),
    table("files", FILES, "Signed URLs under which destinations fetch files of messages."),
    table("mapping", MAPPING, "The budget of one run of a connector's map: what exceeds it is quarantined, never lost."),
    table("dns", DNS, "The DNS, asked where a mail channel checks its senders by itself (`verify_senders`)."),
    table("logs", LOGS, "Logs go to standard error. They never hold message content, addresses, names or secrets."),
    table("connectors", CONNECTORS, "Connectors of your own; a folder named like an embedded one replaces it."),
    table("channels", CHANNELS, "Where the channel files are: one file a channel, the file's name is the channel's id."),
    table("delivery", DELIVERY, "How often and how patiently a delivery is tried."),
    key("destination", Tables(DESTINATION), Unset(""), "Where events go, one table a destination."),
    key("route", List(ROUTE), Unset(""), "Which events go where. All routes are evaluated; destinations and tags are united."),
];

const INSTANCE: &[Key] = &[
    key("name", Name, Is("\"omnigate\""), "Name of this gateway in logs and metrics."),
    key("data_dir", Path, Is("\"data\""), "Folder of the store. Relative paths start at the folder of this file."),
    key(
        "key",
        SecretPlace,
        Is("{ file = \"data/instance.key\" }"),
        "The instance key, from which everything that is signed or sealed is derived; unset: `instance.key` in `data_dir`. \
         Made at the first run with mode 0600: back it up, for without it a restored store cannot recognise what it has seen. \
         While rotating, the file holds one key a line, the current one first.",
    ),
];

const SERVER: &[Key] = &[
    key("public", Listen, Is("\"127.0.0.1:8480\""), "Public listener: `/hooks/…` and `/files/…`. Put a TLS proxy before it."),
    key(
        "public_url",
        Url,
        Unset("\"https://gate.example.org\""),
        "Address of the public listener as seen from outside; `channel subscribe` tells platforms to call it. Unset: that of [files].",
    ),
    key("private", Listen, Is("\"127.0.0.1:8481\""), "Private listener: `/healthz`, `/readyz`, `/metrics` and the admin API under `/v1`."),
    key(
        "admin_token",
        SecretPlace,
        Is("{ file = \"data/admin.token\" }"),
        "Bearer token of the admin API; unset: `admin.token` in `data_dir`. Made at the first run with mode 0600.",
    ),
    key("body_bytes_max", Size(KIB, GIB), Is("\"4 MiB\""), "Largest body of a request to a hook; a larger one is answered 413."),
    key("request_timeout", Duration(100, 10 * MINUTE), Is("\"15s\""), "Head and body of a request must have arrived within this time."),
    key("connections_max", Integer(1, 100_000), Is("1024"), "Connections at once, per listener."),
    key("trusted_proxies", Networks, Is("[]"), "Addresses and networks of proxies whose `X-Forwarded-For` is believed."),
    key("stop_timeout", Duration(0, 10 * MINUTE), Is("\"20s\""), "How long a graceful stop waits for requests and deliveries under way."),
];

const STORE: &[Key] = &[
    key(
        "durability",
        Choice(&["power", "process"]),
        Is("\"power\""),
        "`power`: a message is on disk before its platform gets a 2xx. `process`: it survives the death of the process, and a power cut \
         from half a second on.",
    ),
    key("free_min", Size(0, 1 << 50), Is("\"256 MiB\""), "Below this much free disk, no new messages are taken (503); deliveries go on."),
    key(
        "queue_items_max",
        Integer(1, 1_000_000),
        Is("4096"),
        "Messages waiting to be written; beyond it platforms are asked to come again.",
    ),
    key("queue_bytes_max", Size(MIB, 64 * GIB), Is("\"64 MiB\""), "Bytes waiting to be written."),
    key("commit_items_max", Integer(1, 10_000), Is("512"), "Most messages in one commit."),
    table("retention", RETENTION, "How long things are kept; `never` keeps them for ever. What recognises duplicates is always kept."),
];

const RETENTION: &[Key] = &[
    key("raws", Keep, Is("\"30d\""), "The exact bytes the platforms handed over."),
    key("quarantine", Keep, Is("\"90d\""), "The bytes of quarantined items, unless dealt with before."),
    key("events", Keep, Is("\"30d\""), "Events, after all their deliveries are decided."),
    key("ledger", Keep, Is("\"never\""), "Rows of the ledger. Removing them keeps totals and duplicates right."),
];

const ATTACHMENTS: &[Key] = &[
    key("bytes_max", Size(0, 4 * GIB), Is("\"25 MiB\""), "Largest file of a message; a larger one is named in the event as unavailable."),
    key("count_max", Integer(0, 10_000), Is("100"), "Most files of one message."),
    key(
        "media_wait",
        Duration(0, 10 * MINUTE),
        Is("\"20s\""),
        "A message waits at most so long for files that must be fetched from its platform; then it goes out with what is there.",
    ),
];

const FILES: &[Key] = &[
    key(
        "public_url",
        Url,
        Unset("\"https://gate.example.org\""),
        "Address of the public listener as seen from outside; unset: events carry no file URLs.",
    ),
    key("url_valid", Duration(MINUTE, 3_650 * DAY), Is("\"30d\""), "How long a file URL is valid."),
];

const MAPPING: &[Key] = &[
    key("fuel", Integer(1_000, 1_000_000_000), Is("1000000"), "Steps a map may take."),
    key("items_max", Integer(1, 1_000_000), Is("10000"), "Most items one payload may give."),
    key("depth_max", Integer(4, 128), Is("128"), "Deepest nesting of a payload."),
    key("output_bytes_max", Size(KIB, GIB), Is("\"16 MiB\""), "Most a map may put out."),
];

const DNS: &[Key] = &[
    key(
        "resolvers",
        Texts,
        Is("[]"),
        "Resolvers to ask, as address or address and port: [\"192.0.2.53\", \"[2001:db8::53]:5353\"]. Empty: those of the system.",
    ),
    key(
        "timeout",
        Duration(100, MINUTE),
        Is("\"5s\""),
        "Mails wait this long for the DNS at most; what is not answered by then is told as `temperror` and not waited for again.",
    ),
];

const LOGS: &[Key] = &[
    key("level", Text, Is("\"info\""), "`error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,omnigate::pipeline=debug`."),
    key("format", Choice(&["text", "json"]), Is("\"text\""), "`text` for people, `json` for machines."),
];

const CONNECTORS: &[Key] = &[key("dir", Path, Is("\"connectors\""), "Folder of your connectors; it may be missing.")];

const CHANNELS: &[Key] = &[key("dir", Path, Is("\"channels\""), "Folder of the channel files.")];

const DELIVERY: &[Key] = &[
    key(
        "schedule",
        Durations,
        Is("[\"0s\", \"5s\", \"5m\", \"30m\", \"2h\", \"5h\", \"10h\", \"14h\", \"20h\", \"24h\"]"),
        "Wait before each attempt. When the list is used up, the delivery is dead and needs a person.",
    ),
    key("jitter", Number(0.0, 0.9), Is("0.2"), "Share by which each wait is varied: 0.2 is up to 20 % shorter or longer."),
];

/// `[destination.<name>]`.
pub const DESTINATION: &[Key] = &[
    key(
        "kind",
        Choice(&["webhook", "ticket", "smtp", "file", "stdout"]),
        Required("\"webhook\""),
        "`webhook`, `ticket` (a ticket system), `smtp` (a mail per event, for systems that make tickets of mail), `file` (NDJSON) or `stdout` (NDJSON).",
    ),
    key("url", Url, Unset("\"https://crm.example.org/hooks/omnigate\""), "Webhook: where events are posted to. Required there."),
    key(
        "secret",
        Secrets,
        Unset("{ env = \"HELPDESK_SECRET\" }"),
        "Webhook: the signing secret (`whsec_…`), or a list of them while rotating: deliveries are signed with all. Required there.",
    ),
    key("headers", HeaderMap, Unset("{ x-team = \"support\" }"), "Webhook: extra header fields; values may be secrets."),
    key(
        "system",
        Name,
        Unset("\"rt\""),
        "Ticket: which ticket system; `docs/ticket-systems.md` lists them. Required there. Each conversation becomes one ticket, each message one entry of it.",
    ),
    key("settings", Free, Unset("{ url = \"https://rt.example.org\", queue = \"Support\" }"), "Ticket: settings the system declares."),
    key("secrets", SecretMap, Unset("{ token = { env = \"RT_TOKEN\" } }"), "Ticket: secrets the system declares, one or several each."),
    key(
        "back",
        Choices(&["webhook", "poll"]),
        Unset("[\"poll\"]"),
        "Ticket: by which roads the system's news come back (agents' entries, states of tickets); `docs/ticket-systems.md` says which it knows. A \
         webhook is `/hooks/<destination>`.",
    ),
    key(
        "on_closed",
        Choice(&["follow_up", "reopen", "append"]),
        Is("\"follow_up\""),
        "Ticket: when a message comes for a closed ticket: a new one that names it, open it again, or append to it as it is. Systems that tell nothing \
         of closed tickets, and open them by themselves, do that.",
    ),
    key(
        "reopen_within",
        Duration(MINUTE, 10 * 365 * DAY),
        Unset("\"7d\""),
        "Ticket: with `on_closed = \"reopen\"` and `back`: a message later than this after the ticket was closed opens another conversation, and ticket.",
    ),
    key(
        "on_gone",
        Choice(&["recreate", "dead"]),
        Is("\"recreate\""),
        "Ticket: when the ticket of a conversation was deleted: make another, or leave it to a person (dead letter).",
    ),
    key("edits", Choice(&["note", "skip"]), Is("\"note\""), "Ticket and mail: edits by their author become notes for agents, or nothing."),
    key(
        "deletions",
        Choice(&["note", "skip"]),
        Is("\"note\""),
        "Ticket and mail: deletions by their author become notes for agents, or nothing.",
    ),
    key("reactions", Choice(&["note", "skip"]), Is("\"skip\""), "Ticket and mail: reactions become notes for agents, or nothing."),
    key(
        "contact_domain",
        Text,
        Is("\"contacts.invalid\""),
        "Ticket and mail: domain of the addresses under which contacts without a mail address become users of the system, one each.",
    ),
    key("host", Text, Unset("\"mail.example.org\""), "Mail: the SMTP server. Required there."),
    key("port", Integer(1, 65_535), Is("587"), "Mail: its port."),
    key(
        "tls",
        Choice(&["starttls", "implicit", "none"]),
        Is("\"starttls\""),
        "Mail: `starttls` (or nothing is sent), `implicit` (TLS from the first byte, port 465), or `none`.",
    ),
    key("ca_file", Path, Unset("\"ca.pem\""), "Mail: PEM file of an own certificate authority, beside the ones of the system."),
    key("user", Text, Unset("\"gateway\""), "Mail: user of the SMTP server."),
    key("password", Secrets, Unset("{ env = \"SMTP_PASSWORD\" }"), "Mail: their password."),
    key(
        "from",
        Text,
        Unset("\"gateway@example.org\""),
        "Mail: the gateway's address, where mail that cannot be delivered comes back; its domain is that of Message-IDs and DKIM. Required there.",
    ),
    key("to", Text, Unset("\"support@example.org\""), "Mail: where the mails go. Required there."),
    key(
        "as",
        Choice(&["behalf", "customer"]),
        Is("\"behalf\""),
        "Mail: who the author is: the gateway on the customer's behalf (her name, Reply-To her address), or the customer's own address (the gateway is \
         Sender; for servers that do not check SPF and DMARC of what we send).",
    ),
    key("dkim_selector", Text, Unset("\"omnigate\""), "Mail: sign with DKIM under this selector of the domain of `from`."),
    key("dkim_key", Secrets, Unset("{ file = \"dkim.pem\" }"), "Mail: the RSA key for it, PEM."),
    key("path", Path, Unset("\"data/events.ndjson\""), "File: where events are appended to. Required there."),
    key(
        "body",
        Jq,
        Unset("'{id, type, text: .data.message.text}'"),
        "A form of its own: jq over the whole event. Unset: the event as it is.",
    ),
    key(
        "attachments",
        Choice(&["url", "inline", "none"]),
        Is("\"url\""),
        "How files are given: as signed URLs, as base64, or not at all. Ticket: `none` keeps them out, else they go along.",
    ),
    key("inline_bytes_max", Size(0, 256 * MIB), Is("\"5 MiB\""), "Largest file given inline; a larger one is given as URL."),
    key("rate", Rate, Unset("\"50/s\""), "Most deliveries per time. Unset: no limit."),
    key("concurrency", Integer(1, 1_000), Is("8"), "Deliveries at once; within a conversation there is only ever one."),
    key("timeout", Duration(100, 10 * MINUTE), Is("\"20s\""), "How long one attempt may take."),
    key(
        "on_exhausted",
        Choice(&["skip", "block"]),
        Is("\"skip\""),
        "When an event's schedule is used up: `skip` goes on with the next event of the conversation, `block` waits for a person.",
    ),
    key("schedule", Durations, Unset("[\"0s\", \"10s\", \"10m\"]"), "Its own schedule instead of `[delivery] schedule`."),
    key(
        "strict_egress",
        Bool,
        Is("false"),
        "Only https and public addresses behind `url` too; for a ticket system also where its tokens, its news and files of agents come from.",
    ),
];

/// `[[route]]`.
pub const ROUTE: &[Key] = &[
    key(
        "when",
        Jq,
        Unset("'.message.kind == \"email\"'"),
        "jq over the event's data (`message`, `conversation`, `contact`, `channel`) and its `type`. Unset: every event.",
    ),
    key("to", Names, Is("[]"), "Destinations."),
    key("tags", Texts, Is("[]"), "Tags the event gets."),
    key(
        "direction",
        Choice(&["inbound", "outbound", "any"]),
        Is("\"inbound\""),
        "Whose messages: the customer's, our own side's, or both.",
    ),
    key("historic", Bool, Is("false"), "Take messages of a backfill too."),
    key("operator", Bool, Is("false"), "Take the events for operators (a channel degraded, a delivery dead, …), and only those."),
];

/// A channel file.
pub const CHANNEL: &[Key] = &[
    key("connector", Name, Required("\"slack\""), "The connector: `omnigate connector list` shows them."),
    key("enabled", Bool, Is("true"), "`false`: known, but not started."),
    key("account", Text, Unset("\"T0001\""), "Which account of the platform; where the connector can tell it, it need not be written."),
    key(
        "mode",
        Choices(&["webhook", "poll", "stream"]),
        Unset("[\"webhook\", \"poll\"]"),
        "How its messages come, one way or several: what comes by two ways is one message. Unset: the connector's default.",
    ),
    key(
        "first_run",
        Choice(&["from_now", "backfill"]),
        Is("\"from_now\""),
        "Channels that are asked (`mode = \"poll\"`): `backfill` takes in what is already there, marked historic. Mailboxes: in [imap].",
    ),
    key(
        "backfill_items_max",
        Integer(1, 10_000_000),
        Is("1000"),
        "With `first_run = \"backfill\"`: about this many of the newest things of every list that is asked for.",
    ),
    key("hook", Name, Unset("\"meta\""), "Callback `/hooks/<hook>` that several channels of one connector share. Unset: the channel's id."),
    key("labels", TextMap, Unset("{ brand = \"acme\" }"), "Labels; they stand in every event and can be routed by."),
    key("priority", Choice(&["low", "normal", "high", "urgent"]), Is("\"normal\""), "Priority of its messages."),
    key(
        "new_after",
        Duration(MINUTE, 3_650 * DAY),
        Is("\"14d\""),
        "Connectors with one conversation per sender: silence after which a new one begins.",
    ),
    key("verify", Choice(&["none"]), Unset("\"none\""), "Only this word: take requests that nobody signed."),
    key("map", Jq, Unset("'{kind: \"message\", key: .id, text: .body}'"), "A map of its own, in place of the connector's."),
    key("map_file", Path, Unset("\"orders.jq\""), "The same, in a file."),
    key("accept_timeout", Duration(100, 5 * MINUTE), Is("\"10s\""), "How long a request may wait until it is on disk; then 503."),
    key("settings", Free, Unset("{ }"), "Settings the connector declares: `omnigate connector show <name>`."),
    key(
        "secrets",
        SecretMap,
        Unset("{ signing_secret = { env = \"SLACK_SIGNING_SECRET\" } }"),
        "Secrets the connector declares, one or several each.",
    ),
    table("limits", LIMITS, "Rate limits. Nothing is dropped: what is over a limit is asked to come again or waits."),
    table("imap", IMAP, "The mailbox, for connectors of the engine `imap`. The password is `[secrets] password`."),
    table("oauth", OAUTH, "Log in with OAuth 2 tokens instead of a password."),
];

const OAUTH: &[Key] = &[
    key(
        "provider",
        Choice(&["microsoft", "google"]),
        Unset("\"microsoft\""),
        "Fills in addresses and scopes. Another provider is named by its addresses.",
    ),
    key(
        "grant",
        Choice(&["refresh_token", "client_credentials", "service_account"]),
        Is("\"refresh_token\""),
        "`refresh_token`: a person consents once, with `omnigate channel login`. `client_credentials`: the application may by itself \
         (Microsoft 365), `[secrets] client_secret`. `service_account`: a key file speaks for the mailbox (Google), `[secrets] service_account`.",
    ),
    key("client_id", Text, Unset("\"11111111-2222-3333-4444-555555555555\""), "The application, as registered. Not for service accounts."),
    key("tenant", Text, Unset("\"acme.example\""), "Microsoft: id or domain of the tenant."),
    key("scopes", Texts, Unset("[\"https://mail.google.com/\"]"), "What is asked for, instead of the provider's usual."),
    key("subject", Text, Unset("\"support@acme.example\""), "Service accounts: for whom it speaks. Unset: the user of the mailbox."),
    key("token_url", Url, Unset("\"https://login.example.org/token\""), "Where tokens are asked for."),
    key("device_url", Url, Unset("\"https://login.example.org/device\""), "Where a log-in by code begins."),
    key("authorize_url", Url, Unset("\"https://login.example.org/authorize\""), "Where a log-in in the browser begins."),
    key(
        "consent_valid",
        Duration(HOUR, 3_650 * DAY),
        Unset("\"90d\""),
        "How long a consent lasts where the provider does not say: a week before its end you are told.",
    ),
];

const LIMITS: &[Key] = &[
    key("rate", Rate, Unset("\"100/s\""), "Of the whole channel. Unset: no limit."),
    key("burst", Integer(1, 1_000_000), Unset("200"), "How many may come at once. Unset: what the rate allows in a second, at least 1."),
    key("sender", Table(SENDER), Unset("{ rate = \"20/min\", burst = 20, over = \"slow\" }"), "Of every single sender."),
];

const SENDER: &[Key] = &[
    key("rate", Rate, Required("\"20/min\""), "Messages of one sender."),
    key("burst", Integer(1, 1_000_000), Unset("20"), "How many may come at once. Unset: the count of `rate`."),
    key("over", Choice(&["slow", "hold"]), Is("\"slow\""), "`slow`: 503, the platform comes again. `hold`: taken in and published later."),
];

const IMAP: &[Key] = &[
    key("host", Text, Required("\"imap.example.org\""), "The server."),
    key("port", Integer(1, 65_535), Unset("993"), "Its port. Unset: 993, with `tls = \"starttls\"` or `\"none\"` 143."),
    key("tls", Choice(&["implicit", "starttls", "none"]), Is("\"implicit\""), "`none` works on loopback only, unless `insecure = true`."),
    key("insecure", Bool, Is("false"), "Allow `tls = \"none\"` beyond loopback: password and mail travel readable."),
    key("ca_file", Path, Unset("\"ca.pem\""), "PEM file of an own certificate authority, instead of the ones of the system."),
    key("user", Text, Required("\"support@example.org\""), "Who logs in."),
    key(
        "sasl",
        Choice(&["xoauth2", "oauthbearer"]),
        Unset("\"xoauth2\""),
        "With [oauth]: how the token is shown. Unset: what the server offers.",
    ),
    key("folders", Texts, Is("[\"INBOX\"]"), "Folders to take mail from."),
    key(
        "after",
        Choice(&["peek", "flag", "seen", "move", "delete"]),
        Is("\"peek\""),
        "What is done to a mail at its server once it is durable here: nothing, the keyword `$Ingested`, the flag `\\Seen`, a move, or deletion.",
    ),
    key("move_to", Text, Unset("\"Processed\""), "Folder for `after = \"move\"`. Required there."),
    key(
        "delete_after",
        Duration(SECOND, 3_650 * DAY),
        Unset("\"30d\""),
        "Age at which `after = \"delete\"` deletes a mail. Required there.",
    ),
    key("first_run", Choice(&["from_now", "backfill"]), Is("\"from_now\""), "`backfill` takes in what is already there, marked historic."),
    key("poll_interval", Duration(SECOND, DAY), Is("\"60s\""), "Pause between two looks; IDLE shortens it where the server can."),
    key("idle", Bool, Is("true"), "Use IDLE where the server can."),
    key("mail_bytes_max", Size(KIB, GIB), Is("\"50 MiB\""), "Larger mails are quarantined with their header."),
    key("batch_items_max", Integer(1, 10_000), Is("200"), "Mails of one batch."),
    key("batch_bytes_max", Size(KIB, GIB), Is("\"8 MiB\""), "Bytes of one batch; a larger mail is a batch of its own."),
    key(
        "day_bytes_max",
        Size(MIB, 1024 * GIB),
        Unset("\"10 GiB\""),
        "Bytes fetched a day (UTC). Unset: no limit; at Gmail 2 GB, which locks who takes more.",
    ),
    key(
        "hops_max",
        Integer(5, 1_000),
        Is("50"),
        "Servers a mail may have passed (its Received fields). Beyond it it is told as `automated`, flagged `too_many_hops`.",
    ),
    key(
        "loop_rate",
        Rate,
        Is("\"20/h\""),
        "Answers of one sender about one matter. What comes faster is told as `automated`, flagged `loop_suspected` and held until its \
         turn, a day at most: two programs that answer each other are slowed down to this.",
    ),
    key("namespace", Name, Is("\"mail\""), "Mail of one namespace is deduplicated across mailboxes."),
];
