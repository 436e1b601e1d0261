# CloudMailin: a mail in parts, headers in lower case.

# "Ana <ana@example.org>": address and name. Who has no address that could be written to is nobody.
def person: (email_addr // null) as $address | if $address then {address: "email:\($address)",
    name: ((capture("^\\s*\"?(?<name>[^\"<]*?)\"?\\s*<") | .name) // null)} else null end;

# The first mail of a thread, as far as the headers know it.
def root($id; $references; $answered): ($references // "" | split(" ") | map(select(. != "")) | .[0]) // $answered // $id;

def one: if isarray then .[0] else . end;

def automated: (.envelope.from == "") or (.headers.auto_submitted // "no" | one | ascii_downcase | startswith("no") | not)
  or (.headers.precedence // "" | one | ascii_downcase | test("bulk|list|auto_reply"));

if automated then ignored("automated") else {
  kind: "message", key: (.headers.message_id | one), conversation: "mail",
  thread: root(.headers.message_id | one; .headers.references | one; .headers.in_reply_to | one), in_reply_to: (.headers.in_reply_to | one),
  from: (.headers.from // .envelope.from | one | person), to: [.envelope.recipients // [.envelope.to] | .[] | email_addr | values | {address: "email:\(.)"}],
  subject: (.headers.subject | one), text: .plain, html: .html, reply_text: (.reply_plain | if . == "" then null else . end),
  attachments: [.attachments[]? | {name: .file_name, type: .content_type, bytes: .size, content, url, inline: (.disposition == "inline")}],
  sent_at: (.headers.date | one | time_rfc2822), authentication: {spf: .envelope.spf.result}, extra: {spf: .envelope.spf.result, remote_ip: .envelope.remote_ip, tls: .envelope.tls}
} end
