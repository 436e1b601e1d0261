# Instagram: entries with messages (messaging) or comments (changes; with Instagram Login the change stands in the entry itself).

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

# A comment has no time of its own; the entry's is that of the event.
def comment($account; $time): .field as $field | .value
  | if $field != "comments" and $field != "live_comments" and $field != "mentions" then ignored("unsupported_kind")
    else {
      kind: "message", account: $account, key: .id, conversation: .media.id, thread: (.parent_id // .id), in_reply_to: .parent_id,
      from: {address: "instagram:\(.from.id)", handle: .from.username}, text, sent_at: ($time | time_auto), direct: false, message_kind: "comment",
      direction: (if .from.id == $account or .from.self_ig_scoped_id != null then "outbound" else "inbound" end),
      extra: {media_product_type: .media.media_product_type, ad_id: .media.ad_id}
    } end;

def entry: .id as $account | .time as $time | (.messaging[]? | direct($account; "instagram")), (.changes[]? | comment($account; $time)),
  (if .field then comment($account; $time) else empty end);

[(if isarray then .[] else . end) | .entry[]? | entry] | if . == [] then ignored("empty") else .[] end
