# What happened in Help Scout: conversations that changed. A poll brings a list of them, each with the pages of its threads in `follow`; a
# webhook one, with its newest threads inside. What is known of them is recognised by the numbers of the threads.

# Our id of an entry is the end of what the gateway writes.
def mark: (.body // "") | [scan("\\[((?:msg|evt)_[0-9A-Za-z]+)\\]\\s*(?:<[^>]*>\\s*)*$")] | first | first;

# Files are named.
def files: [._embedded.attachments[]? | objects | {name: (.filename | if type == "string" then . else null end), type: (.mimeType | if type == "string" then . else null end)}];

def thread($conversation):
  if .type == "note" then ignored("internal_note")
  elif .type == "customer" or .createdBy.type == "customer" then ignored("customer_entry")
  elif (.type == "message" or .type == "chat") and (.state // "published") == "published" then {
    kind: "entry", ticket: $conversation, key: .id, mark: mark, sent_at: .createdAt, html: .body, attachments: files,
    author: (if .createdBy.type == "user" then "agent" else "system" end),
    from: {address: "helpscout:\(.createdBy.id // 0)", name: "\(.createdBy.first // "") \(.createdBy.last // "")"}
  }
  else ignored("not_told") end;

def status:
  if . == "closed" or . == "spam" then "closed" elif . == "pending" then "pending" else "open" end;

def conversation:
  .id as $id
  | (if .status == "closed" then .closedAt // .userUpdatedAt else .userUpdatedAt end) as $at
  # The newest come first.
  | [ ((.follow // []) | reverse | .[] | (._embedded.threads // []) | reverse | .[] | thread($id)),
      ((._embedded.threads // []) | reverse | .[] | thread($id)),
      (select(.status != null and $at != null) | {kind: "ticket", ticket: $id, key: $at, state: (.status | status), sent_at: $at}) ]
  | if . == [] then ignored("not_told") else .[] end;

(._embedded.conversations[]?, select(.id != null)) | conversation
