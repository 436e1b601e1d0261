# Matrix: transactions of a homeserver to an application service ({events}), and answers of /sync ({rooms}).

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;
def millis: if isnumber then time_ms else null end;

def agent($who): any($settings.agents[]; . == $who);

# An answer repeats what it answers above itself, for clients that do not know answers.
def own_words($answers): if . == null or ($answers | not) then . else sub("^(?:> ?[^\\n]*\\n)+\\n?"; "") end | str;
def own_html: if . == null then null else gsub("<mx-reply>[\\s\\S]*?</mx-reply>"; "") | str end;

def media: .msgtype == "m.image" or .msgtype == "m.file" or .msgtype == "m.audio" or .msgtype == "m.video";

# Words, HTML and file of a content. Of a file the body is its name, unless the name stands apart: then it is what was said beside it.
def said($answers): (.info | obj) as $info | (.body | str) as $body | ((.filename | str) // $body) as $name
  | ((.url | str) // (.file | obj | .url | str)) as $url
  | {
    text: (if media and (.filename == null or .filename == .body) then null else $body | own_words($answers) end),
    html: (if .format == "org.matrix.custom.html" and (media | not) then .formatted_body | str | own_html else null end),
    attachments: (if $url then [{id: $url, url: $url, name: $name, type: ($info.mimetype | str),
      bytes: (if $info.size | isnumber and . >= 0 then $info.size | floor else null end)}] else [] end)
  };

def content($room): (.sender | str) as $who | (.content | obj) as $content | ($content."m.relates_to" | obj) as $relates
  | (if $relates.rel_type == "m.thread" then $relates.event_id | str else null end) as $thread
  | (if $thread and $relates.is_falling_back == true then null else $relates."m.in_reply_to" | obj | .event_id | str end) as $answers
  | {
    conversation: $room,
    thread: $thread,
    in_reply_to: $answers,
    from: (if $who then {address: "matrix:\($who)"} else null end),
    direction: (if agent($who) then "outbound" else "inbound" end),
    sent_at: (.origin_server_ts | millis)
  } + (if $relates.rel_type == "m.replace" then $content."m.new_content" | obj | said(null) else $content | said($answers) end);

def message($room): (.content | obj) as $content | ($content."m.relates_to" | obj) as $relates
  | if $content.msgtype == "m.notice" then ignored("bot")
    elif $relates.rel_type == "m.replace" then
      content($room) + {kind: "edit", key: $relates.event_id, revision: .event_id, edited_at: (.origin_server_ts | millis), thread: null}
    else content($room) + {kind: "message", key: .event_id,
      url: (if (.event_id | str) and $room then "https://matrix.to/#/\($room)/\(.event_id)" else null end)} end;

def reaction: (.content | obj | ."m.relates_to" | obj) as $relates | {
  kind: "reaction", key: $relates.event_id, from: (if .sender | str then {address: "matrix:\(.sender)"} else null end),
  emoji: ($relates.key | str), added: true, sent_at: (.origin_server_ts | millis)
};

# Our own account, as the homeserver tells it.
def own: .sender as $sender | any($own.user[]?; . == $sender);

def event($room):
  if own then ignored("own_echo")
  elif .type == "m.room.message" or .type == "m.sticker" then
    # What was removed has no content any more.
    if .content | obj | .body | str then message($room) else ignored("unsupported_kind") end
  elif .type == "m.room.redaction" then {kind: "delete", key: (.redacts // (.content | obj | .redacts)), sent_at: (.origin_server_ts | millis)}
  elif .type == "m.reaction" then reaction
  elif .type == "m.room.encrypted" then ignored("encrypted")
  elif .state_key != null then ignored("state")
  else ignored("unsupported_kind") end;

if isobject and (.events | isarray) then [.events | rows | event(.room_id | str)] | if . == [] then ignored("empty") else .[] end
elif isobject and (.next_batch | str) then
  [.rooms | obj | .join | obj | to_entries[] | .key as $room | .value | obj | .timeline | obj | .events | rows | event($room)]
  | if . == [] then ignored("empty") else .[] end
else ignored("unsupported_kind") end
