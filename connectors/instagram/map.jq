# Instagram: entries of accounts; each with messaging events, standby events (another app answers), or changes (comments). With Instagram
# Login the documentation shows a list around it all, and one change written straight into its entry: both are read.

# What is there, whatever came: an object, a list, a text. The platform's odd payloads become missing fields, not failures.
def object: if type == "object" then . else {} end;
def list: if type == "array" then . else [] end;
def word: if type == "string" and . != "" or type == "number" then tostring else null end;

def person: word | if . then {address: "instagram:\(.)"} else null end;

# Posts that are shared in a chat are links; everything else with an address is a file.
def shared: .type == "share" or .type == "ig_post" or .type == "fallback";

def link: select(shared) | .payload | object | [.title, .url] | map(word | values) | select(. != []) | join(" ");

def heart: if .type == "like_heart" then "❤" else empty end;

# Only the kind of a file is told; what Meta makes of each is known.
def media_type: if . == "image" then "image/jpeg" elif . == "video" or . == "reel" or . == "ig_reel" then "video/mp4" elif . == "audio" then "audio/mp4" else null end;

def files: [.attachments | list[] | object | select(shared or .type == "template" | not) | .type as $type | .payload | object
  | {url: .url | word, type: $type | media_type} | select(.url)];

def words: .attachments as $attachments | [(.text | word | values), ($attachments | list[] | object | heart, link)]
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

def message($out): .message as $message | ($message.reply_to | object) as $reply | ($reply.story | object) as $story
  | chat($out) + {
    kind: "message",
    key: $message.mid,
    text: ($message | words),
    attachments: ($message | files),
    in_reply_to: $reply.mid,
    extra: {
      payload: ($message.quick_reply | object | .payload),
      story: (if $story == {} then null else $story | {id, url} end),
      files: ([$message.attachments | list[] | object | .type | word | values] | if . == [] then null else . end)
    }
  };

# People who write in the Instagram app or in Meta's inbox carry no app id, or that of the inbox.
def of_people: .message.app_id | word | . == null or (. as $app | $settings.inbox_apps | index($app)) != null;

def said: .message as $message
  | if $message.is_deleted == true then {kind: "delete", key: $message.mid, sent_at: (.timestamp | word | time_auto)}
    elif $message.is_self == true or ($message.is_echo == true and (of_people | not)) then ignored("own_echo")
    elif ($message | words) == null and ($message | files) == [] then ignored("unsupported_kind")
    else message($message.is_echo == true) end;

def edited: .message_edit as $edit | (.timestamp | word | time_auto) as $at | chat(false) + {
  kind: "edit", key: $edit.mid, text: ($edit.text | word), revision: (($edit.num_edit | word) // $at), edited_at: $at, sent_at: null
};

# Ice breakers and buttons carry their title as what was said.
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

def seen: (.read.mid | word) as $mid
  | if $mid then {kind: "status", key: $mid, state: "read", sent_at: (.timestamp | word | time_auto)}
    else ignored("receipt") end;

def event:
  if .message | type == "object" then said
  elif .message_edit | type == "object" then edited
  elif .postback | type == "object" then pressed
  elif .reaction | type == "object" then reaction
  elif .read | type == "object" then seen
  elif .referral or .optin then ignored("referral")
  else ignored("unsupported_kind") end;

# A comment opens a thread; answers to it name it as their parent. The time stands in the entry only.
def comment($account; $at): (.from | object) as $from | (.media | object) as $media | (.parent_id | word) as $root | {
  kind: "message",
  key: .id,
  conversation: ($media.id // "media"),
  thread: ($root // .id),
  in_reply_to: $root,
  direction: (if ($from.id | word) == ($account | word) or $from.self_ig_scoped_id != null then "outbound" else "inbound" end),
  from: ($from.id | person | if . then . + {handle: ($from.username | word)} else null end),
  text: (.text | word),
  message_kind: "comment",
  sent_at: $at,
  direct: false,
  extra: {media: ($media.id | word), product: ($media.media_product_type | word), ad: ($media.ad_id | word)}
};

def change($account; $at):
  if .field == "comments" or .field == "live_comments" then .value | object | comment($account; $at)
  elif .field == "mentions" then ignored("mention")
  else ignored("unsupported_field") end;

# Whatever comes of an entry belongs to its account, also what is ignored: a hook may be shared by several.
def entry: (.id | word) as $account | (.time | word | time_auto) as $at
  | ((.messaging | list[] | object | event),
     (.standby | list[] | ignored("standby")),
     (.changes | list[] | object | change($account; $at)),
     (if .field then change($account; $at) else empty end))
  | . + {account: $account};

[(if type == "array" then .[] else . end) | object | .entry | list[] | object | entry]
| if . == [] then ignored("empty") else .[] end
