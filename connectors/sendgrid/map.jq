# SendGrid: a form with the whole mail (email) or its parts. Headers are one text.

# "Ana <ana@example.org>": address and name. Who has no address that could be written to is nobody.
def person: (email_addr // null) as $address | if $address then {address: "email:\($address)",
    name: ((capture("^\\s*\"?(?<name>[^\"<]*?)\"?\\s*<") | .name) // null)} else null end;

# The first mail of a thread, as far as the headers know it.
def root($id; $references; $answered): ($references // "" | split(" ") | map(select(. != "")) | .[0]) // $answered // $id;

def headers: [.headers // "" | gsub("\r?\n[ \t]+"; " ") | split("\n")[] | capture("^(?<key>[^:]+):\\s*(?<value>.*?)\\s*$")
  | {key: (.key | ascii_downcase), value}] | from_entries;

def envelope: .envelope // "{}" | fromjson;

def automated($headers): (envelope.from == "") or ($headers["auto-submitted"] // "no" | ascii_downcase | startswith("no") | not)
  or ($headers.precedence // "" | ascii_downcase | test("bulk|list|auto_reply"));

# What SendGrid found out: `SPF` is a word, `dkim` names each signer: "{@example.org : pass}". Whether one speaks for the author it does not say.
def authentication: {spf: .SPF, dkim: (.dkim // "" | if test(":\\s*pass") then "pass" elif test(":\\s*fail") then "fail" elif test("none") then "none" else null end)};

def number: if type == "string" and test("^-?[0-9]{1,6}([.][0-9]{1,6})?$") then tonumber else null end;

# What the filter and the border of SendGrid say: `spam_score` where the filter is on.
def told: {spf: .SPF, spam_score: (.spam_score | number), sender_ip: (.sender_ip // "" | if . == "" then null else . end)};

def recipients: [envelope.to[]? | email_addr | values | {address: "email:\(.)"}];

.files as $files | .fields
| if .email then {kind: "mail", mime: .email, to: recipients, authentication: authentication, extra: told}
  else headers as $headers | if automated($headers) then ignored("automated") else {
    kind: "message", key: ($headers["message-id"] // ["sha256", (.headers // "" | sha256)]), conversation: "mail",
    thread: root($headers["message-id"]; $headers.references; $headers["in-reply-to"]), in_reply_to: $headers["in-reply-to"],
    from: (.from | person), to: recipients, subject, text, html, attachments: [$files[] | {file: .index, name, type, bytes}],
    sent_at: ($headers.date | time_rfc2822), authentication: authentication, extra: told
  } end end
