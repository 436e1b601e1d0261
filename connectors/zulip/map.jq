# Zulip: outgoing webhooks of bots (one message), events of a queue (/events), and pages of messages. Texts are Zulip's Markdown.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;
def id: if isnumber or (isstring and . != "") then tostring else null end;
def seconds: if isnumber or isstring then time_s else null end;

def agent($id; $email): any($settings.agents[]; . == $id or . == $email);

# Everybody in a direct conversation, in one order.
def people: [.display_recipient | rows | .id | id | values] | sort | join(",");

def files: [(.content | str) // "" | scan("\\]\\((/user_uploads/[^)\\s]+)\\)") | if isarray then .[0] else . end
  | {id: ., name: (split("/") | last)}];

# What was said, without the mention of the bot it was said to.
def words($bot): (.content | str // "") | (if $bot then split("@**\($bot)**") | join("") else . end) | gsub("^\\s+|\\s+$"; "") | str;

def content($bot): (.sender_id | id) as $sender | (.sender_email | str) as $email | (.type == "private" or .type == "direct") as $direct | {
  key: .id,
  conversation: (if $direct then people else .stream_id end),
  thread: (if $direct then null else .subject // .topic end),
  from: (if $sender then {address: "zulip:\($sender)", name: (.sender_full_name | str), avatar_url: (.avatar_url | str)} else null end),
  direction: (if agent($sender; $email) then "outbound" else "inbound" end),
  subject: (if $direct then null else .subject // .topic | str end),
  text: words($bot),
  attachments: files,
  sent_at: (.timestamp | seconds),
  direct: $direct,
  extra: {email: $email, channel: (.display_recipient | str), edited: (if .last_edit_timestamp != null then true else null end)}
};

def message($bot): if .sender_realm_str == "zulipinternal" then ignored("system") else content($bot) + {kind: "message"} end;

# An edit names only what changed: who, and the new text. Moving a topic changes no text.
def update: if (.content | str) == null or .rendering_only == true then ignored("unchanged") else
    {kind: "edit", key: .message_id, revision: .edit_timestamp, edited_at: (.edit_timestamp | seconds), text: .content, attachments: files,
     conversation: (.stream_id // .message_id), thread: ((.subject // .orig_subject // .topic) | str),
     from: (if .user_id | id then {address: "zulip:\(.user_id)"} else null end),
     direction: (if agent(.user_id | id; null) then "outbound" else "inbound" end)}
  end;

def deleted: if .message_ids | isarray then .message_ids[] else .message_id end | {kind: "delete", key: .};

def reaction: {kind: "reaction", key: .message_id, from: (if .user_id | id then {address: "zulip:\(.user_id)"} else null end),
  emoji: (.emoji_name | str), added: (.op == "add")};

def event: if .type == "message" then .message | obj | message(null)
  elif .type == "update_message" then update
  elif .type == "delete_message" then deleted
  elif .type == "reaction" then reaction
  else ignored("unsupported_kind") end;

if isobject | not then ignored("unsupported_kind")
elif .events | isarray then [.events | rows] | if . == [] then ignored("empty") else .[] | event end
elif .messages | isarray then [.messages | rows] | if . == [] then ignored("empty") else .[] | message(null) end
elif .message | isobject then (.bot_full_name | str) as $bot | .message | message($bot)
else ignored("unsupported_kind") end
