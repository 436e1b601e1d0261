# Facebook Messenger: entries, and in each messages (messaging) or changes of the page's posts (feed).

# The type of a file, as far as the platform says it.
def mime: if . == "image" then "image/jpeg" elif . == "video" then "video/mp4" elif . == "audio" then "audio/mpeg" else null end;

def files: [.attachments[]? | select(.payload.url != null and .type != "fallback" and .type != "template") | {url: .payload.url, type: (.type | mime)}];

def words: .text // ([.attachments[]? | select(.type == "location") | .payload.coordinates | "\(.lat), \(.long)"] | if . == [] then null else join("\n") end);

# Two people: ours is the account of the entry.
def parties($account; $scheme): if .sender.id == $account
  then {conversation: .recipient.id, direction: "outbound", to: [{address: "\($scheme):\(.recipient.id)"}]}
  else {conversation: .sender.id} end
  + {account: $account, from: {address: "\($scheme):\(.sender.id)"}, sent_at: (.timestamp | time_auto), direct: true};

def said($account; $scheme): . as $event | .message
  | {kind: "message", key: .mid, text: words, attachments: files, in_reply_to: .reply_to.mid,
     extra: {payload: .quick_reply.payload, story: .reply_to.story.url}} + ($event | parties($account; $scheme));

def direct($account; $scheme):
  if .message.is_deleted then {kind: "delete", account: $account, key: .message.mid, sent_at: (.timestamp | time_auto)}
  elif .message.is_echo and .message.app_id != null then ignored("own_echo")
  elif .message then if (.message | words == null and files == []) then ignored("unsupported_kind") else said($account; $scheme) end
  elif .message_edit then {kind: "edit", key: .message_edit.mid, text: .message_edit.text, revision: .message_edit.num_edit, edited_at: (.timestamp | time_auto)}
    + parties($account; $scheme)
  elif .reaction then {kind: "reaction", account: $account, key: .reaction.mid, from: {address: "\($scheme):\(.sender.id)"}, emoji: .reaction.emoji,
    added: (.reaction.action != "unreact"), sent_at: (.timestamp | time_auto)}
  elif .postback then {kind: "message", key: (.postback.mid // ["postback", .sender.id, .timestamp]), text: .postback.title, extra: {payload: .postback.payload}}
    + parties($account; $scheme)
  elif .read or .delivery then ignored("receipt")
  else ignored("unsupported_kind") end;

def comment($account): .value
  | if .item != "comment" then ignored("unsupported_kind")
    elif .verb == "remove" then {kind: "delete", account: $account, key: .comment_id, sent_at: (.created_time | time_auto)}
    else {
      kind: (if .verb == "add" then "message" else "edit" end), account: $account, key: .comment_id, conversation: .post_id,
      thread: (if .parent_id == null or .parent_id == .post_id then .comment_id else .parent_id end),
      in_reply_to: (if .parent_id == .post_id then null else .parent_id end), from: {address: "messenger:\(.from.id)", name: .from.name},
      direction: (if .from.id == $account then "outbound" else "inbound" end), text: .message, message_kind: "comment", direct: false
    } + (if .verb == "add" then {sent_at: (.created_time | time_auto)} else {revision: .created_time, edited_at: (.created_time | time_auto)} end) end;

[.entry[]? | .id as $account | (.messaging[]? | direct($account; "messenger")), (.changes[]? | comment($account)), (.standby[]? | ignored("standby"))]
| if . == [] then ignored("empty") else .[] end
