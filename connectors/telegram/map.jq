# Telegram's Bot API. A webhook brings one update, getUpdates a list of them under .result.

def full_name: [.first_name, .last_name] | map(select(. != null and . != "")) | if . == [] then null else join(" ") end;

def person: {address: "telegram:\(.id)", name: full_name, handle: .username};

# Channel posts and anonymous admins have no .from, only a chat that speaks.
def sender: if .from and (.sender_chat | not) then .from | person
  else .sender_chat // .chat | {address: "telegram:\(.id)", name: (.title // full_name), handle: .username} end;

def key: [.business_connection_id, .chat.id, .message_id] | map(select(. != null));

def file($type): {id: .file_id, name: .file_name, type: (.mime_type // $type), bytes: .file_size};

# Of a photo the largest size; an animation comes as a document once more.
def files: [
  (.photo // [] | last | values | file("image/jpeg")),
  (if .animation then empty else .document | values | file(null) end),
  (.animation | values | file("video/mp4")),
  (.video | values | file("video/mp4")),
  (.video_note | values | file("video/mp4")),
  (.voice | values | file("audio/ogg")),
  (.audio | values | file("audio/mpeg")),
  (.sticker | values | file(if .is_video then "video/webm" else "image/webp" end))
];

def words:
  if .text then .entities as $entities | .text | telegram_text($entities)
  elif .caption then .caption_entities as $entities | .caption | telegram_text($entities)
  elif .venue then "\(.venue.title), \(.venue.address) (\(.venue.location.latitude), \(.venue.location.longitude))"
  elif .location then "\(.location.latitude), \(.location.longitude)"
  elif .contact then [.contact | full_name, .phone_number] | map(select(. != null)) | join(" ")
  elif .poll then [.poll.question, (.poll.options[] | "- \(.text)")] | join("\n")
  elif .dice then "\(.dice.emoji) \(.dice.value)"
  else null end;

# What message and edit share.
def content($update): {
  delivery_key: $update.update_id,
  key: key,
  conversation: .chat.id,
  thread: .message_thread_id,
  in_reply_to: (if .reply_to_message and (.reply_to_message.forum_topic_created | not)
    then [.business_connection_id, .chat.id, .reply_to_message.message_id] | map(select(. != null)) else null end),
  from: sender,
  text: words,
  attachments: files,
  language: .from.language_code,
  sent_at: (.date | time_s),
  direct: (.chat.type == "private"),
  message_kind: (if .chat.type == "channel" then "post" else null end),
  part_of: .media_group_id,
  part: (if .media_group_id then .message_id else null end),
  extra: ({media_group_id, chat: (if .chat.type == "private" then null else .chat | {type, title} end),
    forwarded: (if .forward_origin then true else null end)})
};

def bot: (.from.is_bot // false) or .via_bot != null or .sender_business_bot != null;

def said($update; $draft):
  if .is_automatic_forward then ignored("automatic_forward")
  elif bot and (.sender_chat | not) then ignored("bot")
  elif words == null and files == [] then ignored("service")
  else content($update) + $draft end;

def edited($update): said($update; {kind: "edit", revision: .edit_date, edited_at: (.edit_date | time_s)});

# Telegram tells all reactions of a person before and after; the difference is what happened.
def reactions($update):
  def emojis: map(.emoji // .custom_emoji_id // .type);
  (.old_reaction | emojis) as $old | (.new_reaction | emojis) as $new
  | {kind: "reaction", delivery_key: $update.update_id, key: [.chat.id, .message_id], sent_at: (.date | time_s),
     from: (if .user then .user | person else .actor_chat | {address: "telegram:\(.id)", name: .title} end)} as $draft
  | ($new - $old | .[] | $draft + {emoji: ., added: true}), ($old - $new | .[] | $draft + {emoji: ., added: false});

def deleted($update): .business_connection_id as $business | .chat.id as $chat | .message_ids[]
  | {kind: "delete", delivery_key: $update.update_id, key: [$business, $chat, .]};

def update: . as $update
  | if .message // .channel_post // .business_message then .message // .channel_post // .business_message | said($update; {kind: "message"})
    elif .edited_message // .edited_channel_post // .edited_business_message then
      .edited_message // .edited_channel_post // .edited_business_message | edited($update)
    elif .message_reaction then .message_reaction | reactions($update)
    elif .deleted_business_messages then .deleted_business_messages | deleted($update)
    elif .callback_query then ignored("callback")
    else ignored("unsupported_kind") end;

if .result | isarray then (if .result == [] then ignored("empty") else .result[] | update end) else update end
