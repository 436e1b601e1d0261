# What happened in Chatwoot: conversations in which something happened, each with the pages of its messages in `follow`, as the poll brings
# them; or one event of a webhook. Chatwoot posts an event to the inbox's own address and to the account's: it has the same key.

# The list counts kinds of messages, the webhook names them.
def kind: if . == 0 then "incoming" elif . == 1 then "outgoing" elif . == 2 then "activity" elif . == 3 then "template" else . end;

def moment: if type == "number" then . * 1000 | floor else . end;

def mark: .source_id | strings | select(test("^(msg|evt)_"));

# Files are named, by the end of where they lie.
def files: [.attachments[]? | objects | {name: (.data_url | if type == "string" then split("?")[0] | split("/") | last else null end)}];

def entry($ticket):
  (.message_type | kind) as $kind
  | if .private == true then ignored("internal_note")
    elif $kind == "incoming" then ignored("customer_entry")
    elif $kind != "outgoing" and $kind != "template" then ignored("not_told")
    else {
      kind: "entry", ticket: $ticket, key: .id, mark: ([mark] | first), sent_at: (.created_at | moment), text: .content, attachments: files,
      from: {address: "chatwoot:\(.sender.id // "system")", name: .sender.name},
      author: (if $kind == "template" or ((.sender.type // "user") | test("bot")) then "bot" else "agent" end)
    } end;

def status: if . == "resolved" then "resolved" elif . == "pending" or . == "snoozed" then "pending" else "open" end;

def state($at): {kind: "ticket", ticket: .id, key: "\(.status) \($at)", state: (.status | status), sent_at: ($at | moment)};

# What Chatwoot itself notes down is only left out.
def conversation:
  .id as $ticket
  | ((.follow // []) | reverse | .[].payload[] | select((.message_type | kind) != "activity") | entry($ticket)),
    state(.last_activity_at);

if $via == "poll" then .data.payload[] | conversation
elif .event == "message_created" then .conversation.id as $ticket | entry($ticket)
elif .event == "conversation_status_changed" then state(.updated_at // .last_activity_at // .timestamp)
else ignored("not_told") end
