# Messenger: entries of pages; each with messaging events, with standby events (another app answers), or with changes of the page.

# What is there, whatever came: an object, a list, a text. The platform's odd payloads become missing fields, not failures.
def object: if type == "object" then . else {} end;
def list: if type == "array" then . else [] end;
def word: if type == "string" and . != "" or type == "number" then tostring else null end;

def person: word | if . then {address: "messenger:\(.)"} else null end;

# The thumb of the composer comes as one of three stickers.
def thumb: .sticker_id | word | . == "369239263222822" or . == "369239343222814" or . == "369239383222810";

def place: .coordinates | object | if .lat != null and .long != null then "\(.lat), \(.long)" else empty end;

# What an attachment says as text: places, shared links, the thumb. All others are files.
def spoken: (.payload | object) as $payload
  | if .type == "location" then $payload | place
    elif .type == "fallback" then [.title // $payload.title, .url // $payload.url] | map(word | values) | select(. != []) | join(" ")
    elif $payload | thumb then "👍"
    else empty end;

# Only the kind of a file is told; what Meta makes of each is known.
def media_type: if . == "image" then "image/jpeg" elif . == "video" or . == "reel" or . == "ig_reel" then "video/mp4" elif . == "audio" then "audio/mp4" else null end;

def file: select(.type != "fallback" and .type != "template" and .type != "location") | .type as $type | .payload | object
  | select(thumb | not) | {url: .url | word, type: $type | media_type} | select(.url);

def files: [.attachments | list[] | object | file];

def words: .attachments as $attachments | [(.text | word | values), ($attachments | list[] | object | spoken)]
  | if . == [] then null else join("\n") end;

# What everything said in a chat shares. The input is the event, $out whether our side spoke.
def chat($out): (.sender | object | .id | word) as $sender | (.recipient | object | .id | word) as $recipient | {
  conversation: (if $out then $recipient else $sender end),
  direction: (if $out then "outbound" else "inbound" end),
  from: ($sender | person),
  to: [$recipient | person | values],
  sent_at: (.timestamp | word | time_auto),
  direct: true
};

def message($out): .message as $message | chat($out) + {
  kind: "message",
  key: $message.mid,
  text: ($message | words),
  attachments: ($message | files),
  in_reply_to: ($message.reply_to | object | .mid),
  extra: {
    payload: ($message.quick_reply | object | .payload),
    files: ([$message.attachments | list[] | object | .type | word | values] | if . == [] then null else . end)
  }
};

# People who write in Meta's own inbox carry its app id, or none.
def of_people: .message.app_id | word | . == null or (. as $app | $settings.inbox_apps | index($app)) != null;

def said: .message as $message
  | if $message.is_deleted == true then {kind: "delete", key: $message.mid, sent_at: (.timestamp | word | time_auto)}
    elif $message.is_echo == true and (of_people | not) then ignored("own_echo")
    elif ($message | words) == null and ($message | files) == [] then ignored("unsupported_kind")
    else message($message.is_echo == true) end;

def edited: .message_edit as $edit | (.timestamp | word | time_auto) as $at | chat(false) + {
  kind: "edit", key: $edit.mid, text: ($edit.text | word), revision: (($edit.num_edit | word) // $at), edited_at: $at, sent_at: null
};

# Buttons carry their title as what was said.
def pressed: .postback as $postback | chat(false) + {
  kind: "message",
  key: (($postback.mid | word) // ["postback", (.sender | object | .id), .timestamp]),
  text: (($postback.title | word) // ($postback.payload | word)),
  extra: {payload: $postback.payload}
};

def reaction: .reaction as $reaction | {
  kind: "reaction", key: $reaction.mid, from: (.sender | object | .id | person),
  emoji: (($reaction.emoji | word) // ($reaction.reaction | word)), added: ($reaction.action != "unreact"),
  sent_at: (.timestamp | word | time_auto)
};

def delivered: (.timestamp | word | time_auto) as $at | [.delivery.mids | list[] | word | values]
  | if . == [] then ignored("receipt") else .[] | {kind: "status", key: ., state: "delivered", sent_at: $at} end;

def event:
  if .message | type == "object" then said
  elif .message_edit | type == "object" then edited
  elif .postback | type == "object" then pressed
  elif .reaction | type == "object" then reaction
  elif .delivery | type == "object" then delivered
  elif .read then ignored("receipt")
  elif .referral or .optin then ignored("referral")
  else ignored("unsupported_kind") end;

# A comment opens a thread; answers to it name it as their parent. Of comments on a post the parent is the post.
def root: (.parent_id | word) as $parent | if $parent and $parent != (.post_id | word) then $parent else null end;

def comment($page): root as $root | (.from | object) as $from | {
  key: .comment_id,
  conversation: .post_id,
  thread: ($root // .comment_id),
  in_reply_to: $root,
  direction: (if ($from.id | word) == ($page | word) then "outbound" else "inbound" end),
  from: ($from.id | person | if . then . + {name: ($from.name | word)} else null end),
  text: (.message | word),
  attachments: [{url: (.photo // .video) | word} | select(.url)],
  message_kind: "comment",
  url: (.post | object | .permalink_url | word),
  direct: false
};

def post: (.from | object) as $from | {
  kind: "message", key: .post_id, conversation: .post_id, thread: .post_id,
  from: ($from.id | person | if . then . + {name: ($from.name | word)} else null end),
  text: (.message | word), attachments: [{url: .link | word} | select(.url)],
  message_kind: "post", sent_at: (.created_time | word | time_auto), direct: false
};

def feed($page): (.created_time | word | time_auto) as $at
  | if .item == "comment" and .verb == "add" then comment($page) + {kind: "message", sent_at: $at}
    elif .item == "comment" and .verb == "edited" then comment($page) + {kind: "edit", revision: (.created_time | word), edited_at: $at}
    elif .item == "comment" and .verb == "remove" then {kind: "delete", key: .comment_id, sent_at: $at}
    elif .verb == "add" and (.item == "status" or .item == "post" or .item == "photo" or .item == "video")
      and (.from | object | .id | word) != ($page | word) then post
    else ignored("unsupported_kind") end;

def change($page): if .field == "feed" then .value | object | feed($page) else ignored("unsupported_field") end;

# Whatever comes of an entry belongs to its page, also what is ignored: a hook may be shared by several.
[object | .entry | list[] | object | (.id | word) as $page
  | ((.messaging | list[] | object | event),
     (.standby | list[] | ignored("standby")),
     (.changes | list[] | object | change($page)))
  | . + {account: $page}]
| if . == [] then ignored("empty") else .[] end
