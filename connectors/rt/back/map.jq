# What happened in Request Tracker: transactions of tickets, as REST2 writes them. A poll brings a list of them, the scrip one.
# `follow` holds the parts of a correspondence, in one answer or several.

def mark: [.CustomFields[]? | select(.name == $settings.message_field) | .values[]? | strings] | first;

def by: {address: "rt:\(.Creator.Name)", name: (.Creator.RealName // .Creator.Name)};

# Autocreated users, which customers are, have their mail address as name. Who may see it is told whether a user is privileged.
def is_customer: .Creator | if .Privileged == "1" or .Privileged == 1 then false else .Privileged == "0" or (.Name | contains("@")) end;

def parts: [.follow | (arrays | .[]), objects | .items[]?];

def is_text: (.Filename // "") == "" and (.ContentType | startswith("text/"));

def said($kind): [parts[] | select(is_text and .ContentType == $kind) | .Content | strings] | first;

def files:
  [parts[] | select((is_text or (.ContentType | startswith("multipart/"))) | not) | select(.id)
   | {id, name: (if (.Filename // "") == "" then null else .Filename end), type: .ContentType, bytes: ((.ContentLength // "") | tostring | tonumber? // null)}];

def status:
  . as $status
  | if any($settings.closed_statuses[]; . == $status) then (if $status == "resolved" then "resolved" else "closed" end)
    elif any($settings.pending_statuses[]; . == $status) then "pending"
    else "open" end;

def entry: {
  kind: "entry", ticket: .ObjectId, key: .id, mark: mark, sent_at: .Created, from: by, author: (if .Creator.Name == "RT_System" then "system" else "agent" end),
  html: said("text/html"), text: said("text/plain"), attachments: files
};

def transaction:
  if .Type == "Correspond" and .Creator.Name == $settings.user then ignored("own_entry")
  elif .Type == "Correspond" and is_customer then ignored("customer_entry")
  elif .Type == "Correspond" then entry
  elif .Type == "Comment" then ignored("internal_note")
  elif .Type == "Status" then {kind: "ticket", ticket: .ObjectId, key: .id, state: (.NewValue | status), sent_at: .Created}
  elif .Type == "AddLink" and .Field == "MergedInto" then
    {kind: "ticket", ticket: .ObjectId, key: .id, state: "merged", into: (.NewValue | split("/") | last), sent_at: .Created}
  else ignored("not_told") end;

(.items[]?, .transaction // empty) | transaction
