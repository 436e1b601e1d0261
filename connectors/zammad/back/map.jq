# What happened in Zammad: tickets that changed, each with its articles in `follow`, as the poll brings them; or one ticket and the article
# that set a trigger off, as a webhook does. The webhook writes out as objects what the poll only names.

def name: if type == "object" then .name else . end;

# Our id of an entry is the message id of its article.
def mark: [(.message_id // "") | scan("^<((?:msg|evt)_[0-9A-Za-z]+)@gateway>$")] | first | if type == "array" then first else . end;

def who: .created_by | if type == "object" then [.firstname, .lastname] | map(strings | select(. != "")) | join(" ") else null end;

def by: {address: "zammad:\(.created_by_id)", name: ((who | select(. != "")) // ((.from // "") | sub(" (via|<).*$"; "") | select(. != "")))};

# Files are named.
def files: [.attachments[]? | objects | {name: (.filename | if type == "string" then . else null end), type: (.preferences["Content-Type"]? | if type == "string" then . else null end)}];

def entry:
  if .internal == true then ignored("internal_note")
  elif (.sender | name) == "Customer" then ignored("customer_entry")
  else
    {
      kind: "entry", ticket: .ticket_id, key: .id, mark: mark, sent_at: .created_at, from: by, attachments: files,
      author: (if (.sender | name) == "System" then "system" else "agent" end)
    } + (if .content_type == "text/html" then {html: .body} else {text: .body} end)
  end;

def status:
  . as $state
  | if any($settings.closed_states[]; . == $state) then "closed"
    elif any($settings.pending_states[]; . == $state) then "pending"
    else "open" end;

# When it was closed is told; of other changes only when the ticket changed at all.
def state:
  if .state | name | test("^merged$") then ignored("not_told")
  else
    (.state | name | status) as $state
    | {
        kind: "ticket", ticket: .id, key: "\($state) \(.updated_at)", state: $state,
        sent_at: (if $state == "closed" then (.last_close_at // .updated_at) else .updated_at end)
      }
  end;

if $via == "poll" then .[] | (.follow[]? | entry), state
else (.article | select(type == "object" and .id != null) | entry), (.ticket | select(type == "object" and .id != null) | state)
end
