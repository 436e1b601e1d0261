# X: events of the Activity API (one in .data), and pages of mentions and of direct messages (a list in .data).

def user($id; $users): first($users[]? | select(.id == $id)) // {};

def person($id; $users): user($id; $users) as $user | {address: "x:\($id)", name: $user.name, handle: ($user.username // $user.screen_name)};

# An edited post has a new id; the first of the history is the post.
def original: .edit_history_tweet_ids[0]? // .id;

# Of a video only the picture that stands for it is told.
def pictures($media): [(.attachments.media_keys? // [])[] as $key | $media[]? | select(.media_key == $key)
  | {id: .media_key, url: (.url // .preview_image_url), type: (if .type == "animated_gif" then null else "image/jpeg" end), recipe: "public"}];

def post($account; $users; $media; $delivery):
  (first(.referenced_tweets[]? | select(.type == "replied_to") | .id) // null) as $answered
  | if any(.referenced_tweets[]?; .type == "retweeted") then ignored("retweet")
    else {
      kind: (if original != .id then "edit" else "message" end), delivery_key: $delivery, account: $account, key: original,
      conversation: .conversation_id, thread: .conversation_id, in_reply_to: $answered, from: person(.author_id; $users),
      direction: (if .author_id == $account then "outbound" else "inbound" end), text: (.note_tweet.text // .text), attachments: pictures($media), language: .lang,
      message_kind: "mention", direct: false, url: "https://x.com/i/status/\(.id)"
    } + (if original != .id then {revision: .id, edited_at: .created_at} else {sent_at: .created_at} end) end;

# The conversation of two people: their ids, the smaller first.
def pair($a; $b): if ($a | tonumber) < ($b | tonumber) then "\($a)-\($b)" else "\($b)-\($a)" end;

def dm($account; $users; $delivery): .message_create as $message | {
  kind: "message", delivery_key: $delivery, account: $account, key: .id, conversation: pair($message.sender_id; $message.target.recipient_id),
  from: {address: "x:\($message.sender_id)", name: $users[$message.sender_id].name, handle: $users[$message.sender_id].screen_name},
  direction: (if $message.sender_id == $account then "outbound" else "inbound" end), text: $message.message_data.text,
  attachments: [$message.message_data.attachment.media | values | {id: .id_str, url: .media_url_https}], sent_at: (.created_timestamp | time_ms), direct: true
};

# Of a page: a post has no type.
def listed($account; $users; $media): if .event_type == null and .author_id then post($account; $users; $media; null) + {account: null}
  elif .event_type != "MessageCreate" then ignored("unsupported_kind")
  else {
    kind: "message", key: .id, conversation: .dm_conversation_id, from: person(.sender_id; $users),
    direction: (if .sender_id == $account then "outbound" else "inbound" end), text, sent_at: .created_at, direct: true
  } end;

# Whose pages they are.
def asked: $settings.user_id | if . == "" then null else . end;

def event: .event_type as $type | .event_uuid as $delivery | .filter.user_id as $account | .includes.users as $users | .includes.media as $media
  | if $type == "post.delete" then {kind: "delete", delivery_key: $delivery, account: $account, key: .payload.id}
    elif $type == "post.mention.create" or $type == "post.reply.create" or $type == "post.quote.create" or $type == "post.create" then
      .payload | post($account; ($users // []); ($media // []); $delivery)
    elif $type == "dm.received" or $type == "dm.sent" then .payload | (.users // {}) as $users | .direct_message_events[]? | dm($account; $users; $delivery)
    elif $type == "chat.received" then ignored("encrypted")
    else ignored("unsupported_kind") end;

if .data | isarray then .includes.users as $users | .includes.media as $media
  | if .data == [] then ignored("empty") else .data[] | listed(asked; $users // []; $media // []) end
elif .data.event_type then .data | event
else ignored("unsupported_kind") end
