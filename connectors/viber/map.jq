# Viber's REST API: one callback, one event. Tokens of messages are larger than 2^53 and stay text.

# What is there, whatever came: an object, a list, a text. The platform's odd payloads become missing fields, not failures.
def object: if type == "object" then . else {} end;
def word: if type == "string" and . != "" or type == "number" then tostring else null end;
def count: if type == "number" and . >= 0 then floor else null end;

def sender: .sender | object | (.id | word) as $id
  | if $id then {address: "viber:\($id)", name: (.name | word), avatar_url: (.avatar | word)} else null end;

def media_type: if . == "picture" then "image/jpeg" elif . == "video" then "video/mp4" else null end;

def files: if .type == "picture" or .type == "video" or .type == "file" then
    [{url: .media | word, name: .file_name | word, type: .type | media_type, bytes: .size | count}]
  else [] end;

def place: .location | object | if .lat != null and .lon != null then "\(.lat), \(.lon)" else null end;

def card: .contact | object | [.name, .phone_number] | map(word | values) | if . == [] then null else join(" ") end;

def words:
  if .type == "location" then place
  elif .type == "contact" then card
  elif .type == "url" then (.media | word) // (.text | word)
  elif .type == "sticker" then "[sticker]"
  else .text | word end;

def said: (.message | object) as $message | {
  kind: "message",
  delivery_key: .message_token,
  key: .message_token,
  from: sender,
  text: ($message | words),
  attachments: ($message | files),
  language: (.sender | object | .language | word),
  sent_at: (.timestamp | word | time_ms),
  direct: true,
  extra: {
    country: (.sender | object | .country | word),
    sticker: $message.sticker_id,
    tracking: ($message.tracking_data | word)
  }
};

# Of what we sent: its token, and how far it came.
def status: {kind: "status", key: .message_token, state: .event, error: (.desc | word), sent_at: (.timestamp | word | time_ms)};

object
| if .event == "message" then
    if (.message | object | words) == null and (.message | object | files) == [] then ignored("unsupported_kind") else said end
  elif .event == "delivered" or .event == "seen" or .event == "failed" then status
  elif .event == "subscribed" or .event == "unsubscribed" or .event == "conversation_started" then ignored("membership")
  elif .event == "webhook" then ignored("webhook_set")
  else ignored("unsupported_kind") end
