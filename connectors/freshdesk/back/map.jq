# What happened in Freshdesk: tickets that changed, each with the pages of its conversations in `follow`. Notes and replies of agents are
# conversations that did not come in.

# Our id of an entry is the end of what the gateway writes.
def mark: [(.body_text // "") | scan("\\[((?:msg|evt)_[0-9A-Za-z]+)\\]\\s*$")] | first | if type == "array" then first else . end;

# Files are named.
def files: [.attachments[]? | objects | {name: (.name | if type == "string" then . else null end), type: (.content_type | if type == "string" then . else null end)}];

# 8: a mail that an agent forwarded to somebody else.
def entry($ticket):
  if .private == true or .source == 8 then ignored("internal_note")
  elif .incoming == true then ignored("customer_entry")
  else {
    kind: "entry", ticket: $ticket, key: .id, mark: mark, sent_at: .created_at, author: "agent",
    from: {address: "freshdesk:\(.user_id)"}, html: .body, text: .body_text, attachments: files
  } end;

def status:
  tostring as $number
  | if any($settings.closed_statuses[]; . == $number) then "closed"
    elif any($settings.resolved_statuses[]; . == $number) then "resolved"
    elif any($settings.pending_statuses[]; . == $number) then "pending"
    else "open" end;

def state:
  (.status | status) as $state
  | {kind: "ticket", ticket: .id, key: "\($state) \(.updated_at)", state: $state, sent_at: (.stats.status_updated_at // .updated_at)};

.[] | .id as $ticket | (.follow[]?[]? | entry($ticket)), state
