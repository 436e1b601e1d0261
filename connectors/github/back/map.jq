# What happened at GitHub: a list of comments or of issues from a poll, one event from a webhook.

# Our id of an entry stands in a hidden mark at the end of what the gateway writes.
def mark: (.body // "") | [scan("<!-- gw:((?:msg|evt)_[0-9A-Za-z]+) -->\\s*$")] | first | first;

def comment:
  mark as $mark
  | if $mark == null and .user.type == "Bot" then ignored("bot_entry")
    elif $mark == null and (.author_association as $is | any($settings.staff_associations[]; . == $is) | not) then ignored("customer_entry")
    else {
      kind: "entry", ticket: (.issue_url | split("/") | last), key: .id, mark: $mark, sent_at: .created_at, text: .body, author: "agent",
      from: {address: "github:\(.user.id)", name: .user.login, handle: .user.login}, url: .html_url
    } end;

def issue:
  if .state == "closed" then
    {kind: "ticket", ticket: .number, key: .closed_at, state: (if .state_reason == "not_planned" or .state_reason == "duplicate" then "closed" else "resolved" end), sent_at: .closed_at}
  else {kind: "ticket", ticket: .number, key: .updated_at, state: "open", sent_at: .updated_at} end;

if type == "array" then .[] | if .issue_url != null then comment else issue end
elif .action == "created" and .comment.issue_url != null then .comment | comment
elif (.action == "closed" or .action == "reopened") and .issue != null and .comment == null then .issue | issue
else ignored("not_told") end
