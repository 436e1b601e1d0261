# Vonage: callbacks of the Messages API and of the Voice API.

# What is there, whatever came: an object, a text. The platform's odd payloads become missing fields, not failures.
def object: if type == "object" then . else {} end;
def word: if type == "string" and . != "" or type == "number" then tostring else null end;

# Numbers come without their plus; short codes and names are no phone numbers.
def is_phone: test("^[+]?[0-9]{8,15}$");
def hidden: ascii_downcase | . == "anonymous" or . == "restricted" or . == "unknown" or . == "unavailable" or . == "private";

def party: word | if . == null or hidden then null
  else {address: (if is_phone then "tel:\(phone_e164)" else "vonage:\(.)" end)} end;

# The older form of a party is an object.
def id: if type == "object" then (.number // .id | word) else word end;

def person($channel): id | if . == null then null
  elif $channel == "whatsapp" and is_phone then phone_e164 as $phone | {address: "whatsapp:\($phone | ltrimstr("+"))", also: ["tel:\($phone)"]}
  elif $channel == "messenger" then {address: "messenger:\(.)"}
  elif $channel == "viber_service" and (is_phone | not) then {address: "viber:\(.)"}
  else party end;

# The application's key goes to Vonage only.
def recipe: if startswith("\($settings.api)/") or test("^https://([a-z0-9-]+[.])+nexmo[.]com/") then null else "elsewhere" end;

def file: object | {url: .url | word, name: .name | word} | select(.url) | . + {recipe: (.url | recipe)};

def files: [.image, .audio, .video, .file, .vcard, .sticker | file];

def place: object | [.name, .address, (if .lat != null and .long != null then "\(.lat), \(.long)" else null end)]
  | map(word | values) | if . == [] then null else join("\n") end;

def words: (.text | word) // (.reply | object | .title | word) // (.button | object | .text | word)
  // first(.image, .video, .file, .audio | object | .caption | word | values) // (.location | place)
  // (.order | object | .text | word);

def message: (.channel | word) as $channel | (.from | id) as $from | {
  kind: "message",
  account: (.to | id),
  key: .message_uuid,
  conversation: ($from // ["message", (.message_uuid | word)]),
  from: ((.from | person($channel)) as $who | if $who then $who + {name: (.profile | object | .name | word)} else null end),
  to: [.to | person($channel) | values | {address}],
  text: words,
  attachments: files,
  in_reply_to: (.context | object | .message_uuid | word),
  sent_at: (.timestamp | word | time_iso),
  direct: true,
  extra: {channel: $channel, payload: ((.reply | object | .id | word) // (.button | object | .payload | word)), keyword: (.sms | object | .keyword | word)}
};

def status: {
  kind: "status", account: (.from | id), key: .message_uuid, state: .status, error: (.error | object | (.title // .code) | word),
  sent_at: (.timestamp | word | time_iso)
};

def seconds: (.start_time | word | time_iso) as $from | (.end_time | word | time_iso) as $until
  | if $from and $until and $until >= $from then ($until - $from) / 1000 | floor else null end;

# A recording and its transcript do not say who called: the address of their callback may (?from=…&to=…).
def content: ((.from | word) // ($query.from | word)) as $from | ((.to | word) // ($query.to | word)) as $to | (.conversation_uuid | word) as $call | {
  account: $to,
  key: .recording_uuid,
  conversation: (if $from | party then $from else ["call", ($call // .recording_uuid)] end),
  from: ($from | party),
  to: [$to | party | values],
  message_kind: "voicemail",
  verified: false,
  direct: true,
  extra: {call: $call}
};

def voicemail: (.recording_url | word) as $url | content + {
  kind: "message",
  attachments: [{url: $url, type: "audio/mpeg", bytes: (.size | if type == "number" and . >= 0 then floor else null end)} | select(.url)],
  call: {outcome: "voicemail", recording: 0, seconds: seconds},
  sent_at: (.start_time | word | time_iso)
};

# Only where the transcript is: the same voicemail, with words as soon as they are fetched.
def transcript: content + {
  kind: "update",
  revision: "transcript",
  attachments: [{url: .transcription_url, name: "transcript.json", type: "application/json", recipe: "transcript"}],
  call: {outcome: "voicemail"}
};

# Calls to us that nobody took.
def missed: (.from | word) as $from | {
  kind: "message",
  account: (.to | word),
  key: .uuid,
  conversation: (if $from | party then $from else ["call", (.uuid | word)] end),
  from: ($from | party),
  to: [.to | party | values],
  message_kind: "call",
  call: {outcome: "missed"},
  verified: false,
  sent_at: (.timestamp | word | time_iso),
  direct: true,
  extra: {call: (.conversation_uuid | word)}
};

def lost: .status == "unanswered" or .status == "busy" or .status == "timeout" or .status == "rejected" or .status == "cancelled" or .status == "failed";

object
| if (.message_uuid | word) and (.message_type | word) then
    if words == null and files == [] then ignored("unsupported_kind") else message end
  elif (.message_uuid | word) and (.status | word) then status
  elif (.transcription_url | word) and (.recording_uuid | word) then transcript
  elif .status == "transcription_failed" or (.transcription_url | word) then ignored("no_transcript")
  elif .recording_uuid | word then voicemail
  elif (.uuid | word) and .direction == "inbound" and lost then missed
  elif .conversation_uuid | word then ignored("call_progress")
  else ignored("unsupported_kind") end
