# What happened in Redmine: issues that changed, each with its journals in `follow`. A journal may hold a note, changes of the state, or both.
# An issue is read again whenever it changes: what is known of it is recognised by the numbers of its journals.

# Our id of an entry is the end of what the gateway writes.
def mark: (.notes // "") | [scan("\\[((?:msg|evt)_[0-9A-Za-z]+)\\]\\s*$")] | first | first;

def status:
  . as $number
  | if any($settings.closed_statuses[]; . == $number) then "closed"
    elif any($settings.resolved_statuses[]; . == $number) then "resolved"
    elif any($settings.pending_statuses[]; . == $number) then "pending"
    else "open" end;

# Files that came with it: a journal names them, the issue knows what they are.
def files($issue):
  [.details[]? | select(.property == "attachment" and .new_value) | .name | tostring] as $ids
  | [$issue.attachments[]? | select((.id | tostring) as $id | any($ids[]; . == $id))
     | {id, name: .filename, type: .content_type, bytes: .filesize}];

def note($issue):
  if .private_notes then ignored("internal_note")
  elif mark == null and .user.id == $issue.author.id and $settings.as_customer then ignored("customer_entry")
  else {
    kind: "entry", ticket: $issue.id, key: .id, mark: mark, sent_at: .created_on, text: .notes, author: "agent", attachments: files($issue),
    from: {address: "redmine:\(.user.id)", name: .user.name}
  } end;

def state($issue):
  .id as $id | .created_on as $at
  | .details[]? | select(.property == "attr" and .name == "status_id")
  | {kind: "ticket", ticket: $issue.id, key: $id, state: (.new_value | status), sent_at: $at};

def journals:
  .follow.issue as $issue
  | [$issue.journals[]? | (select((.notes // "") != "" or files($issue) != []) | note($issue)), state($issue)]
  | if . == [] then ignored("not_told") else .[] end;

.issues[]? | journals
