# Mattermost: outgoing webhooks (JSON or form), and events of its websocket, which hold the post as JSON inside of a text.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def id: if isnumber or (isstring and . != "") then tostring else null end;
def millis: if isnumber or isstring then time_ms else null end;
def inner: str // "null" | (try fromjson catch null) | obj;

def agent($user; $name): any($settings.agents[]; . == $user or . == $name);

# Seconds in a form, milliseconds in JSON: the size tells.
def hook:
  (.post_id | id) as $post | (.user_id | id) as $user | (.user_name | str) as $name | {
    kind: "message",
    key: $post,
    conversation: .channel_id,
    from: (if $user then {address: "mattermost:\($user)", handle: $name} else null end),
    direction: (if agent($user; $name) then "outbound" else "inbound" end),
    text: (.text | str),
    attachments: [.file_ids | strings | split(",")[] | select(. != "") | {id: .}],
    sent_at: (.timestamp | if isnumber or isstring then time_auto else null end),
    extra: {channel: (.channel_name | str), team: (.team_domain | str), trigger_word: (.trigger_word | str)}
  };

# What a new and an edited post share; $event is the event around it.
def content($event):
  (.user_id | id) as $user | ($event.data.sender_name | str // "" | ltrimstr("@") | str) as $name | ($event.data.channel_type == "D") as $direct | {
    key: .id,
    conversation: .channel_id,
    thread: ((.root_id | str) // (if $direct then null else .id end)),
    in_reply_to: (.root_id | str),
    from: (if $user then {address: "mattermost:\($user)", handle: $name} else null end),
    direction: (if agent($user; $name) then "outbound" else "inbound" end),
    text: (.message | str),
    attachments: (if .metadata | obj | .files | isarray then [.metadata.files[] | objects
        | {id: (.id | id), name: (.name | str), type: (.mime_type | str), bytes: (if .size | isnumber and . >= 0 then .size | floor else null end)}]
      else [.file_ids | arrays | .[] | strings | {id: .}] end),
    sent_at: (.create_at | millis),
    direct: $direct,
    extra: {channel: ($event.data.channel_name | str)}
  };

def true_text: . == true or . == "true";

# Our own bot, as the server tells it.
def own: .user_id as $user | any($own.user[]?; . == $user);

def post($event; $draft): (.props | obj) as $props
  | if own then ignored("own_echo")
    elif $props.from_bot | true_text then ignored("bot")
    elif $props.from_webhook | true_text then ignored("bot")
    elif .type | str then ignored("system")
    else content($event) + $draft end;

def reaction($added): {
  kind: "reaction", key: .post_id, from: (if .user_id | id then {address: "mattermost:\(.user_id)"} else null end),
  emoji: (.emoji_name | str), added: $added, sent_at: (if .create_at | isnumber and . > 0 then .create_at | millis else null end)
};

def frame: . as $frame | .data | obj | {data: .} as $event
  | if $frame.event == "posted" then .post | inner | post($event; {kind: "message"})
    elif $frame.event == "post_edited" then .post | inner
      | if .edit_at == 0 then ignored("unchanged") else post($event; {kind: "edit", revision: .edit_at, edited_at: (.edit_at | millis)}) end
    elif $frame.event == "post_deleted" then .post | inner | {kind: "delete", key: .id}
    elif $frame.event == "reaction_added" then .reaction | inner | reaction(true)
    elif $frame.event == "reaction_removed" then .reaction | inner | reaction(false)
    else ignored("unsupported_kind") end;

if isobject | not then ignored("unsupported_kind")
elif .event | str then frame
else (if (.fields | isobject) and (.list | isarray) then .fields else . end)
  | if .post_id | str then hook else ignored("unsupported_kind") end
end
