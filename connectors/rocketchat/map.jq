# Rocket.Chat's outgoing integrations: one message, sent or edited, or an uploaded file.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;
def id: if isnumber or (isstring and . != "") then tostring else null end;
def time: if isstring then time_iso elif isnumber then time_auto elif isobject and (."$date" | isnumber) then ."$date" | time_ms else null end;

# The files of the message inside of an upload; a picture comes with a small copy of itself.
def files: (.message | obj) as $message
  | (if ($message.files | isarray) and $message.files != [] then [$message.files | rows | select(.typeGroup != "thumb")] else [$message.file | objects] end)
  | map({id: (._id | id), name: (.name | str), type: (.type | str), bytes: (if .size | isnumber and . >= 0 then .size | floor else null end)});

def content: (.message | obj) as $message | ((.tmid | str) // ($message.tmid | str)) as $thread
  | (.user_id | id) as $user | (.user_name | str) as $name | (.text | str) as $text | {
  key: .message_id,
  conversation: .channel_id,
  thread: ($thread // .message_id),
  in_reply_to: $thread,
  from: (if $user then {address: "rocketchat:\($user)", name: (.alias | str), handle: $name} else null end),
  direction: (if any($settings.agents[]; . == $user or . == $name) then "outbound" else "inbound" end),
  text: ($text // ($message.attachments | [rows | .description | str | values] | first)),
  attachments: files,
  sent_at: (.timestamp | time),
  extra: {room: (.channel_name | str), site: (.siteUrl | str), trigger_word: (.trigger_word | str)}
};

if isobject and (.message_id | str) then
  if .bot != null and .bot != false then ignored("bot")
  elif .isEdited == true then content + {kind: "edit", revision: (.text | str // "" | sha256)}
  else content + {kind: "message"} end
else ignored("unsupported_kind") end
