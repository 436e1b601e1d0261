# What happened in Zendesk: events of tickets, as webhooks with event subscriptions bring them, one each.

def status:
  ascii_downcase
  | if . == "solved" then "resolved" elif . == "closed" then "closed" elif . == "pending" or . == "hold" then "pending" else "open" end;

def comment:
  .event.comment as $comment
  | if $comment.is_public == false then ignored("internal_note")
    elif $comment.author.is_staff != true then ignored("customer_entry")
    else {
      kind: "entry", ticket: .detail.id, ours: .detail.external_id, key: $comment.id, text: $comment.body, sent_at: .time, author: "agent",
      from: {address: "zendesk:\($comment.author.id)", name: $comment.author.name}
    } end;

if .type == "zen:event-type:ticket.comment_added" then comment
elif .type == "zen:event-type:ticket.status_changed" then
  {kind: "ticket", ticket: .detail.id, ours: .detail.external_id, key: .id, state: (.event.current | status), sent_at: .time}
else ignored("not_told") end
