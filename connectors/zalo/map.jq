# Zalo official accounts: one request, one event, named by who did what: user_send_text, oa_send_image, user_seen_message.

# What is there, whatever came: an object, a list, a text. The platform's odd payloads become missing fields, not failures.
def object: if type == "object" then . else {} end;
def list: if type == "array" then . else [] end;
def word: if type == "string" and . != "" or type == "number" then tostring else null end;
def count: word | if . != null and test("^[0-9]{1,15}$") then tonumber else null end;

def person: word | if . then {address: "zalo:\(.)"} else null end;

def media_type: if . == "image" then "image/jpeg" elif . == "gif" then "image/gif" elif . == "audio" or . == "voice" then "audio/mpeg"
  elif . == "video" then "video/mp4" else null end;

# Links, places, cards and stickers are words; everything else with an address is a file.
def spoken: (.payload | object) as $payload
  | if .type == "location" then $payload.coordinates | object | if .latitude != null and .longitude != null then "\(.latitude), \(.longitude)" else empty end
    elif .type == "link" then [$payload.title, $payload.url] | map(word | values) | select(. != []) | join(" ")
    elif .type == "business_card" or .type == "businesscard" then [$payload.description, $payload.phone] | map(word | values) | select(. != []) | join(" ")
    elif .type == "sticker" then "[sticker]"
    else empty end;

def is_file: .type == "image" or .type == "gif" or .type == "audio" or .type == "voice" or .type == "video" or .type == "file";

def files: [.attachments | list[] | object | select(is_file) | .type as $type | .payload | object
  | {url: .url | word, name: .name | word, type: $type | media_type, bytes: .size | count} | select(.url)];

def words: .attachments as $attachments | [(.text | word | values), ($attachments | list[] | object | spoken)]
  | if . == [] then null else join("\n") end;

# The input is the event; $out: our side spoke; $group: to a group, whose id stands as the recipient.
def said($out; $group): (.sender | object | .id | word) as $sender | (.recipient | object | .id | word) as $recipient | (.message | object) as $message
  | if ($message | words) == null and ($message | files) == [] then ignored("unsupported_kind") else {
      kind: "message",
      key: $message.msg_id,
      conversation: (if $out or $group then $recipient else $sender end),
      direction: (if $out then "outbound" else "inbound" end),
      from: ($sender | person),
      to: (if $group then null else [$recipient | person | values] end),
      text: ($message | words),
      attachments: ($message | files),
      in_reply_to: ($message.quote_msg_id | word),
      sent_at: (.timestamp | word | time_ms),
      direct: ($group | not),
      extra: {app_user: (.user_id_by_app | word)}
    } end;

# Of what we sent: which messages came, or were seen.
def receipts($state): (.timestamp | word | time_ms) as $at
  | [.message | object | (.msg_ids | list[]), .msg_id | word | values]
  | if . == [] then ignored("receipt") else .[] | {kind: "status", key: ., state: $state, sent_at: $at} end;

def reaction: (.message | object) as $message | (($message.react_icon // $message.react) | word) as $emoji
  | if $message.msg_id == null or $emoji == null then ignored("unsupported_kind") else {
      kind: "reaction",
      key: $message.msg_id,
      from: (.sender | object | .id | person),
      emoji: $emoji,
      added: ($emoji != "/-remove"),
      sent_at: (.timestamp | word | time_ms)
    } end;

# What people of ours write in the account's manager carries their id.
def of_people: .sender | object | .admin_id | word | . != null;

# The account speaks (of a receipt it is what had been spoken), or is spoken to; in groups and of followers it is named.
def account($event): if (.oa_id | word) then .oa_id | word
  else (if ($event | startswith("oa_send_")) or $event == "user_received_message" or $event == "user_seen_message" then .sender else .recipient end)
    | object | .id | word end;

# Everything belongs to the account, also what is ignored: a hook may be shared by several.
object | (.event_name | word // "") as $event | account($event) as $account
| if $event == "user_received_message" then receipts("delivered")
  elif $event == "user_seen_message" then receipts("read")
  elif $event == "user_reacted_message" then reaction
  elif $event | startswith("user_send_group_") then said(false; true)
  elif ($event | startswith("user_send_")) or ($event | startswith("anonymous_send_")) then said(false; false)
  elif $event | startswith("oa_send_") then if of_people then said(true; $event | startswith("oa_send_group_")) else ignored("own_echo") end
  elif $event == "follow" or $event == "unfollow" or $event == "user_submit_info" then ignored("membership")
  else ignored("unsupported_kind") end
| . + {account: $account}
