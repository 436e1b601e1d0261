# Discord: frames of the Gateway ({op, t, s, d}), interactions ({type, data, …}), and pages of a channel's history.

def person: {address: "discord:\(.id)", name: (.global_name // .username), handle: .username};

def files: [.attachments[]? | {id, name: .filename, type: .content_type, bytes: .size, url}];

def bot: (.author.bot // false) or .webhook_id != null;

def content: {
  key: .id, conversation: .channel_id, from: (.author | person), text: .content, attachments: files,
  in_reply_to: (if .type == 19 then .message_reference.message_id else null end), direct: (.guild_id == null), extra: {guild_id}
};

def created: if bot then ignored("bot") elif .type != 0 and .type != 19 then ignored("system")
  else content + {kind: "message", sent_at: .timestamp} end;

# A preview of a link is an update too; only the author's edit has a time.
def updated: if .author == null or .edited_timestamp == null then ignored("system") elif bot then ignored("bot")
  else content + {kind: "edit", revision: .edited_timestamp, edited_at: .edited_timestamp} end;

def reaction($added): {kind: "reaction", key: .message_id, from: {address: "discord:\(.user_id)"}, emoji: (.emoji.name // .emoji.id), added: $added};

def frame: .t as $type | .s as $number | .d
  | if $type == "MESSAGE_CREATE" then created
    elif $type == "MESSAGE_UPDATE" then updated
    elif $type == "MESSAGE_DELETE" then {kind: "delete", key: .id}
    elif $type == "MESSAGE_DELETE_BULK" then .ids[] | {kind: "delete", key: .}
    elif $type == "MESSAGE_REACTION_ADD" then reaction(true) + {delivery_key: $number}
    elif $type == "MESSAGE_REACTION_REMOVE" then reaction(false) + {delivery_key: $number}
    else ignored("unsupported_kind") end;

# The words of a command: the text options of all levels; of a form: its fields.
def words: [.data.name // empty | "/\(.)"] + [.data | .. | objects | select(.value | isstring) | .value] | join(" ");

def interaction: if .type == 2 or .type == 5 then {
    kind: "message", key: .id, conversation: .channel_id, from: (.member.user // .user | person), text: words, language: .locale,
    direct: (.guild_id == null), message_kind: "text", extra: {guild_id, command: .data.name, form: .data.custom_id}
  }
  elif .type == 3 or .type == 4 then ignored("component")
  else ignored("unsupported_kind") end;

# A page of a channel's history, which does not say the server. A message that was changed meanwhile is an edit: the first we hear of it, or a
# change of what is known.
def history: .[] | objects | . + {guild_id: $settings.guild} | if .edited_timestamp != null then updated else created end;

if isarray then history elif has("op") then frame else interaction end
