# LINE's Messaging API: a list of events for one bot. An empty list is the connectivity check of the console.

# What is there, whatever came: an object, a list, a text. The platform's odd payloads become missing fields, not failures.
def object: if type == "object" then . else {} end;
def list: if type == "array" then . else [] end;
def word: if type == "string" and . != "" or type == "number" then tostring else null end;
def count: if type == "number" and . >= 0 then floor else null end;

# Who wrote; in groups a person may be unknown (who has not agreed to be named).
def sender: (.source | object) as $source | ($source.userId | word) as $user
  | if $user then {address: "line:\($user)"} else null end;

def room: .source | object | (.groupId | word) // (.roomId | word) // (.userId | word);

# The bytes of most files are asked for by the message's id; of some LINE tells an address.
def media_type: if . == "image" then "image/jpeg" elif . == "video" then "video/mp4" elif . == "audio" then "audio/x-m4a" else null end;

def files: if .type == "image" or .type == "video" or .type == "audio" or .type == "file" then
    (.contentProvider | object | .originalContentUrl | word) as $url
    | [{id: .id | word, url: $url, recipe: (if $url then "elsewhere" elif .type == "video" or .type == "audio" then "transcoded" else null end), name: .fileName | word, type: .type | media_type,
      bytes: .fileSize | count}]
  else [] end;

def words:
  if .type == "text" then .text | word
  elif .type == "location" then [.title, .address, (if .latitude != null and .longitude != null then "\(.latitude), \(.longitude)" else null end)]
    | map(word | values) | if . == [] then null else join("\n") end
  elif .type == "sticker" then (.text | word) // ([.keywords | list[] | word | values] | "[\(.[0:3] | if . == [] then "sticker" else join(", ") end)]")
  else null end;

# Another module of the account answers: what is said is still said.
def standby: if .mode == "standby" then true else null end;

# What message and button share. Events have ids of their own, but a request has none: it is known again by its messages.
def content: {
  kind: "message",
  conversation: room,
  from: sender,
  sent_at: (.timestamp | word | time_ms),
  direct: ((.source | object | .type) == "user")
};

def message: (.message | object) as $message | content + {
  key: $message.id,
  text: ($message | words),
  attachments: ($message | files),
  in_reply_to: ($message.quotedMessageId | word),
  extra: {
    standby: standby,
    sticker: ($message | if .type == "sticker" then {package: .packageId, id: .stickerId} else null end),
    image_set: $message.imageSet,
    mentions: ([$message.mention | object | .mentionees | list[] | object | .userId | word | values] | if . == [] then null else . end)
  }
};

# A button carries data, and text only where its maker gave some; the data is what was said.
def pressed: (.postback | object) as $postback | content + {
  key: (["postback", (.webhookEventId | word)] | if .[1] then . else null end),
  text: ($postback.data | word),
  extra: {standby: standby, params: $postback.params}
};

def event:
  if .type == "message" then
    if (.message | object | words) == null and (.message | object | files) == [] then ignored("unsupported_kind") else message end
  elif .type == "unsend" then
    {kind: "delete", key: (.unsend | object | .messageId), sent_at: (.timestamp | word | time_ms)}
  elif .type == "postback" then pressed
  elif .type == "follow" or .type == "unfollow" or .type == "join" or .type == "leave" or .type == "memberJoined" or .type == "memberLeft" then
    ignored("membership")
  else ignored("unsupported_kind") end;

# Everything belongs to the bot, also what is ignored: a hook may be shared by several.
object | (.destination | word) as $account
| [.events | list[] | object | event] | if . == [] then ignored("empty") else .[] end | . + {account: $account}
