# Mailgun: a route's form, with the whole mail (body-mime) or its parts; events of mails that were sent come as JSON.

# "Ana <ana@example.org>": address and name. Who has no address that could be written to is nobody.
def person: (email_addr // null) as $address | if $address then {address: "email:\($address)",
    name: ((capture("^\\s*\"?(?<name>[^\"<]*?)\"?\\s*<") | .name) // null)} else null end;

# The first mail of a thread, as far as the headers know it.
def root($id; $references; $answered): ($references // "" | split(" ") | map(select(. != "")) | .[0]) // $answered // $id;

def headers: (.["message-headers"] // "[]" | fromjson | map({key: (.[0] | ascii_downcase), value: .[1]}) | from_entries);

def automated($headers): (.sender == "") or ($headers["auto-submitted"] // "no" | ascii_downcase | startswith("no") | not)
  or ($headers.precedence // "" | ascii_downcase | test("bulk|list|auto_reply"));

# Files that the text shows, by the name of their part: {"<cid>": "attachment-1"}.
def shown: [.["content-id-map"] // "{}" | fromjson | objects | .[]];

if has("fields") | not then ignored("event")
else .files as $files | .fields | if .["body-mime"] then {kind: "mail", delivery_key: .token, mime: .["body-mime"], to: [{address: "email:\(.recipient | email_addr)"}]}
else headers as $headers | if automated($headers) then ignored("automated") else {
  kind: "message", delivery_key: .token, key: (.["Message-Id"] // $headers["message-id"] // .token), conversation: "mail",
  thread: root(.["Message-Id"] // $headers["message-id"] // .token; $headers.references; $headers["in-reply-to"]),
  in_reply_to: $headers["in-reply-to"], from: (.from // .sender | person), to: [{address: "email:\(.recipient | email_addr)"}],
  subject, text: .["body-plain"], html: .["body-html"], reply_text: .["stripped-text"],
  attachments: (shown as $shown | [$files[] | .field as $field | {file: .index, name, type, bytes, inline: any($shown[]; . == $field)}]),
  extra: {message_url: .["message-url"]}, sent_at: ($headers.date | time_rfc2822)
} end end end
