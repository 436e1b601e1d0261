# What happened in Jira: requests that changed, each with the pages of its comments in `follow`, as the poll brings them; or one event of a
# webhook.

def by: {address: "jira:\(.accountId)", name: .displayName};

# Everything that the account of the token wrote is the gateway's.
def entry($ticket):
  .author.accountId as $author
  | if .jsdPublic == false then ignored("internal_note")
    elif any($own.account[]?; . == $author) then ignored("own_entry")
    elif .author.accountType == "customer" then ignored("customer_entry")
    else {
      kind: "entry", ticket: $ticket, key: .id, sent_at: .created, text: .body, from: (.author | by),
      author: (if .author.accountType == "app" then "bot" else "agent" end)
    } end;

def status:
  .name as $name
  | if any($settings.closed_statuses[]; . == $name) then "closed"
    elif .statusCategory.key == "done" then "resolved"
    elif any($settings.pending_statuses[]; . == $name) then "pending"
    else "open" end;

def request:
  .key as $ticket
  | (.fields.status | status) as $state
  # The newest come first.
  | ((.follow // []) | reverse | .[] | .comments | reverse | .[] | entry($ticket)),
    {
      kind: "ticket", ticket: $ticket, key: "\($state) \(.fields.updated)", state: $state,
      sent_at: (if .fields.status.statusCategory.key == "done" then (.fields.statuscategorychangedate // .fields.updated) else .fields.updated end)
    };

if $via == "poll" then .issues[] | request
elif .webhookEvent == "comment_created" then .issue.key as $ticket | .comment | entry($ticket)
elif .webhookEvent == "jira:issue_updated" and any(.changelog.items[]?; .field == "status") then
  {kind: "ticket", ticket: .issue.key, key: .changelog.id, state: (.issue.fields.status | status), sent_at: .timestamp}
else ignored("not_told") end
