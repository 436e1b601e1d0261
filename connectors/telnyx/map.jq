# Telnyx: one event of a message or of a call.

# What is there, whatever came: an object, a list, a text. The platform's odd payloads become missing fields, not failures.
def object: if type == "object" then . else {} end;
def list: if type == "array" then . else [] end;
def word: if type == "string" and . != "" or type == "number" then tostring else null end;
def count: if type == "number" and . >= 0 then floor else null end;

# Callers who hide their number are nobody, not one person.
def hidden: ascii_downcase | . == "anonymous" or . == "restricted" or . == "unknown" or . == "unavailable" or . == "private";

def party: word | if . == null or hidden then null
  else phone_e164 as $phone | {address: (if $phone and startswith("+") then "tel:\($phone)" else "telnyx:\(.)" end)} end;

def numbers: list[] | object | .phone_number | word | values;

def files: [.media | list[] | object | {url: .url | word, type: .content_type | word, bytes: .size | count} | select(.url)];

# A group writes to several numbers; everybody in it is in the same conversation.
def received($event): (.from | object | .phone_number | word) as $from | [.to | numbers] as $to | [.cc | numbers] as $cc | {
  kind: "message",
  delivery_key: ($event.id | word),
  account: $to[0],
  key: .id,
  conversation: (if ($to + $cc | length) > 1 then ["group", ([$from | values] + $to + $cc | sort | join(","))]
    else $from // ["message", (.id | word)] end),
  from: ($from | party),
  to: [($to[] | party | values), ($cc[] | party | values | . + {role: "cc"})],
  subject: (.subject | word),
  text: (.text | word),
  attachments: files,
  sent_at: ((.received_at | word) // ($event.occurred_at | word) | time_iso),
  direct: ($to + $cc | length < 2),
  extra: {carrier: (.from | object | .carrier | word), profile: (.messaging_profile_id | word)}
};

def status($event): (.to | list[0] | object | .status | word) as $state | {
  kind: "status", account: (.from | object | .phone_number | word), key: .id,
  state: ($state // ($event.event_type | ltrimstr("message."))), error: (.errors | list[0] | object | .code | word),
  sent_at: ($event.occurred_at | word | time_iso)
};

# Both ends of a recording, in whole seconds.
def seconds: (.recording_started_at | word | time_iso) as $from | (.recording_ended_at | word | time_iso) as $until
  | if $from and $until and $until >= $from then ($until - $from) / 1000 | floor else null end;

def recording: (.public_recording_urls | object) as $open | (.recording_urls | object) as $kept
  | ($kept.mp3 // $open.mp3 | word) as $mp3 | ($kept.wav // $open.wav | word) as $wav
  | if $mp3 then [{url: $mp3, type: "audio/mpeg"}] elif $wav then [{url: $wav, type: "audio/wav"}] else [] end;

def voicemail($event): (.from | word) as $from | (.call_session_id | word) as $call | {
  kind: "message",
  delivery_key: ($event.id | word),
  account: (.to | word),
  key: ((.recording_id | word) // ["recording", (.call_leg_id | word), (.recording_started_at | word)]),
  conversation: (if $from | party then $from else ["call", $call] end),
  from: ($from | party),
  to: [.to | party | values],
  attachments: recording,
  message_kind: "voicemail",
  call: {outcome: "voicemail", recording: 0, seconds: seconds},
  verified: false,
  sent_at: (.recording_started_at | word | time_iso),
  direct: true,
  extra: {call: $call}
};

# The transcript names its recording and says nothing of the caller: the same voicemail with words.
def transcript($event): (.transcription_text | word) as $text | {
  kind: "update",
  delivery_key: ($event.id | word),
  key: .recording_id,
  revision: ((.recording_transcription_id | word) // "transcript"),
  conversation: ["call", (.call_session_id | word)],
  message_kind: "voicemail",
  text: $text,
  call: {outcome: "voicemail", transcript: $text},
  verified: false,
  direct: true,
  extra: {call: (.call_session_id | word)}
};

object | .data | object | . as $event | (.event_type | word // "") as $kind | .payload | object
| if $kind == "message.received" then if .direction == "outbound" then ignored("own_echo") else received($event) end
  elif $kind == "message.sent" or $kind == "message.finalized" then status($event)
  elif $kind == "call.recording.saved" then voicemail($event)
  elif $kind == "call.recording.transcription.saved" then
    if .status == "completed" and (.transcription_text | word) and (.recording_id | word) then transcript($event) else ignored("no_transcript") end
  elif $kind | startswith("call.") then ignored("call_progress")
  else ignored("unsupported_kind") end
