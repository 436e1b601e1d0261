# What happened in Roundup: messages, each with its issue in `follow`, and issues that changed. Its times are UTC, without saying so.

def moment: if . == null then null else sub("[.]"; "T") + "Z" end;

def status:
  . as $status
  | if any($settings.resolved_statuses[]; . == $status) then "resolved"
    elif any($settings.closed_statuses[]; . == $status) then "closed"
    elif any($settings.pending_statuses[]; . == $status) then "pending"
    else "open" end;

def message:
  ([.follow.data.collection[]? | .id] | first) as $issue
  | if (.messageid // "") | endswith("@omnigate>") then ignored("own_entry")
    elif $issue == null then ignored("not_told")
    elif (.author.username // "") | contains("@") then ignored("customer_entry")
    else {
      kind: "entry", ticket: $issue, key: .id, sent_at: ((.date // .creation) | moment), text: .content, author: "agent",
      attachments: [.files[]? | objects | {id, name}],
      from: {address: "roundup:\(.author.id // "0")", name: .author.username}
    } end;

def issue:
  {kind: "ticket", ticket: .id, key: .activity, sent_at: (.activity | moment)}
  + if (.superseder // []) != [] then {state: "merged", into: .superseder[0].id} else {state: (.status.name | status)} end;

.data.collection[]? | if .activity != null and .creation == null then issue else message end
