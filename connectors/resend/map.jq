# Resend: `email.received` says that a mail came, not what is in it; the other events are about mails that were sent.

# "Ana <ana@example.org>": address and name. Who has no address that could be written to is nobody.
def person: (email_addr // null) as $address | if $address then {address: "email:\($address)",
    name: ((capture("^\\s*\"?(?<name>[^\"<]*?)\"?\\s*<") | .name) // null)} else null end;

def named($list; $role): [$list[]? | strings | person | values | . + {role: $role}];

# What it is known by: its Message-ID; Resend's own id where there is none.
def id: .message_id // .email_id;

def received($delivery): .subject as $subject | {
  kind: "message", delivery_key: $delivery, key: id, conversation: "mail", thread: id, from: ((.from | strings | person) // null),
  to: (named(.to; "to") + named(.cc; "cc")),
  # There is nothing else to show.
  subject: (if ($subject // "") == "" then "(no subject)" else $subject end),
  attachments: [.attachments[]? | {id, name: .filename, type: .content_type, inline: (.content_disposition == "inline")}],
  sent_at: (.created_at | time_iso),
  extra: {email_id, received_for}
};

def status($state): {kind: "status", key: .email_id, state: $state, error: (.bounce.message // .failed.reason // null)};

$headers["svix-id"] as $delivery
| if .type == "email.received" then .data | received($delivery)
  elif .type == "email.sent" or .type == "email.scheduled" or .type == "email.delivery_delayed" then .type as $type | .data | status($type | ltrimstr("email."))
  elif .type == "email.delivered" then .data | status("delivered")
  elif .type == "email.bounced" or .type == "email.failed" or .type == "email.suppressed" then .data | status("failed")
  elif .type == "email.complained" then .data | status("complained")
  elif .type == "email.opened" or .type == "email.clicked" then ignored("tracking")
  else ignored("event") end
