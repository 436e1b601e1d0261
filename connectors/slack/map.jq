# Slack's Events API. One envelope holds one event; Socket Mode wraps the same envelope once more.

# Whether the channel is a direct message: then there is no root that opens a thread.
def direct: .channel_type == "im";

def agent($user): ($settings.agents | index($user)) != null;

def files: [.files[]? | {id, name, type: .mimetype, bytes: .size, url: (.url_private_download // .url_private)}];

# What message and edit share. The input is the message, $event the event around it (the same for a new message).
def content($envelope; $event): {
  delivery_key: $envelope.event_id,
  account: $envelope.team_id,
  key: [$event.channel, .ts],
  conversation: $event.channel,
  thread: (if $event | direct then .thread_ts else .thread_ts // .ts end),
  in_reply_to: (if .thread_ts != null and .thread_ts != .ts then [$event.channel, .thread_ts] else null end),
  from: {address: "slack:\(.user)", name: .user_profile.real_name, handle: .user_profile.name, avatar_url: .user_profile.image_72},
  direction: (if agent(.user) then "outbound" else "inbound" end),
  text: (.text | slack_text),
  attachments: files,
  sent_at: (.ts | time_s),
  direct: ($event | direct)
};

def message($envelope): . as $event | content($envelope; $event) + {kind: "message"};

def edit($envelope): . as $event | .message
  | content($envelope; $event) + {kind: "edit", revision: .edited.ts, edited_at: ($event.ts | time_s)};

def delete($envelope): {
  kind: "delete", delivery_key: $envelope.event_id, account: $envelope.team_id,
  key: [.channel, .deleted_ts], sent_at: (.ts | time_s)
};

def reaction($envelope): {
  kind: "reaction", delivery_key: $envelope.event_id, account: $envelope.team_id,
  key: [.item.channel, .item.ts], from: {address: "slack:\(.user)"}, emoji: .reaction,
  added: (.type == "reaction_added"), sent_at: (.event_ts | time_s)
};

# Our own app, as auth.test tells it.
def own: .user as $user | .bot_id as $bot | any($own.user[]?; . == $user) or any($own.bot[]?; . == $bot);

def bot: .bot_id != null or .subtype == "bot_message";

# Subtypes that are messages of people; all others are notices.
def said: .subtype == null or .subtype == "file_share" or .subtype == "thread_broadcast" or .subtype == "me_message";

def event($envelope):
  if own or (.message // {} | own) or (.previous_message // {} | own) then ignored("own_echo")
  elif .type == "reaction_added" or .type == "reaction_removed" then
    if .item.type == "message" then reaction($envelope) else ignored("unsupported_kind") end
  elif .type != "message" and .type != "app_mention" then ignored("unsupported_kind")
  elif .subtype == "message_deleted" then
    if .previous_message // {} | bot then ignored("bot") else delete($envelope) end
  elif .subtype == "message_changed" then
    if .message | bot then ignored("bot")
    elif .message.edited == null then ignored("unfurl")
    else edit($envelope) end
  elif bot then ignored("bot")
  elif said and .user != null then message($envelope)
  else ignored("system") end;

# A page of a channel's history, which says neither channel nor workspace: the question did. A message that was changed meanwhile is an edit:
# the first we hear of it, or a change of what is known.
def history: ($query.part // "") as $channel | {team_id: ($own.team // [] | first)} as $envelope
  | {channel: $channel, channel_type: (if $channel | startswith("D") then "im" else "channel" end)} as $place
  | .messages[] | objects
  | (if .edited != null and .subtype == null then {type: "message", subtype: "message_changed", ts: .edited.ts, message: .} else . end) + $place
  | event($envelope);

(if .type == "events_api" then .payload else . end)
| if (.messages | isarray) and $via == "poll" then history
  elif .type == "event_callback" then . as $envelope | .event | event($envelope)
  elif .type == "app_rate_limited" then ignored("platform_rate_limited")
  else ignored("interaction") end
