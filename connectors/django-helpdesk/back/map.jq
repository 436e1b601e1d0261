# What happened in django-helpdesk: follow-ups. One may hold words, set the state, or both. Pages go from new to old and are turned round before they
# come here, but each goes from old to new: it is turned back.

# Our id of an entry is the end of what the gateway writes.
def mark: (.comment // "") | [scan("\\[((?:msg|evt)_[0-9A-Za-z]+)\\]\\s*$")] | first | first;

def status:
  . as $number
  | if any($settings.resolved_statuses[]; . == $number) then "resolved"
    elif any($settings.closed_statuses[]; . == $number) then "closed"
    else "open" end;

def files: [.followupattachment_set[]? | {id, url: .file, name: .filename, type: .mime_type, bytes: .size}];

def words:
  # The description of a ticket is its first follow-up, and holds nothing that was said.
  if (.comment // "") | startswith("Written through the gateway: what was said follows.") then ignored("own_entry")
  elif .public != true then ignored("internal_note")
  elif .user == null then ignored("customer_entry")
  else {
    kind: "entry", ticket, key: .id, mark: mark, sent_at: .date, text: .comment, author: "agent", attachments: files,
    from: {address: "django-helpdesk:\(.user)"}
  } end;

def followup:
  [ (select((.comment // "") != "" or files != []) | words),
    (select(.new_status != null) | {kind: "ticket", ticket, key: .id, state: (.new_status | tostring | status), sent_at: .date}) ]
  | if . == [] then ignored("not_told") else .[] end;

[.results[]?] | reverse | .[] | followup
