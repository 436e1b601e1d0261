# Postmark: a mail in parts, or whole where the server includes it (RawEmail).

# "Ana <ana@example.org>": address and name. Who has no address that could be written to is nobody.
def person: (email_addr // null) as $address | if $address then {address: "email:\($address)",
    name: ((capture("^\\s*\"?(?<name>[^\"<]*?)\"?\\s*<") | .name) // null)} else null end;

# The first mail of a thread, as far as the headers know it.
def root($id; $references; $answered): ($references // "" | split(" ") | map(select(. != "")) | .[0]) // $answered // $id;

def headers: [.Headers[]? | {key: (.Name | ascii_downcase), value: .Value}] | from_entries;

def party: {address: "email:\(.Email | email_addr)", name: (.Name | if . == "" then null else . end)};

def automated($headers): ($headers["auto-submitted"] // "no" | ascii_downcase | startswith("no") | not)
  or ($headers.precedence // "" | ascii_downcase | test("bulk|list|auto_reply"));

if .RawEmail then {kind: "mail", delivery_key: .MessageID, mime: .RawEmail, to: [{address: "email:\(.OriginalRecipient | email_addr)"}]}
else headers as $headers | if automated($headers) then ignored("automated") else {
  kind: "message", delivery_key: .MessageID, key: ($headers["message-id"] // .MessageID), conversation: "mail",
  thread: root($headers["message-id"] // .MessageID; $headers.references; $headers["in-reply-to"]),
  in_reply_to: $headers["in-reply-to"], from: (if .FromFull.Email | email_addr then .FromFull | party else .From | person end),
  to: ([.ToFull[]? | party] + [.CcFull[]? | party + {role: "cc"}]), subject: .Subject,
  text: (if (.StrippedTextReply // "") != "" then .StrippedTextReply else .TextBody end), html: (if (.StrippedTextReply // "") != "" then null else .HtmlBody end),
  attachments: [.Attachments[]? | {name: .Name, type: .ContentType, content: .Content, bytes: .ContentLength, inline: ((.ContentID // "") != "")}],
  sent_at: (.Date | time_rfc2822), extra: {mailbox_hash: (.MailboxHash | if . == "" then null else . end), recipient: .OriginalRecipient}
} end end
