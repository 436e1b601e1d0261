# Plivo: one message, one status, or one callback of a call, as a form (or, by GET, as a query).

# Empty fields are fields that are not there.
def word: if type == "string" and . != "" then . else null end;

# Numbers come without their plus; short codes and names are no phone numbers.
def hidden: ascii_downcase | . == "anonymous" or . == "restricted" or . == "unknown" or . == "unavailable" or . == "private";

def party: word | if . == null or hidden then null
  else {address: (if test("^[+]?[0-9]{8,15}$") then "tel:\(phone_e164)" else "plivo:\(.)" end)} end;

# The log-in goes to Plivo only.
def recipe: if $settings.auth_id != null and (startswith("\($settings.media)/") or startswith("https://api.plivo.com/")) then "protected" else null end;

def files: . as $fields | [range(0; 10) as $number | {url: $fields["Media\($number)"] | word} | select(.url) | . + {recipe: (.url | recipe)}];

def message: {
  kind: "message",
  account: (.To | word),
  key: .MessageUUID,
  conversation: ((.From | word) // ["message", .MessageUUID]),
  from: (.From | party),
  to: [.To | party | values],
  text: ((.Text | word) // (.Body | word)),
  attachments: files,
  direct: true,
  extra: {units: (.Units | word), type: (.Type | word | if . == "sms" then null else . end)}
};

def status: {kind: "status", account: (.From | word), key: .MessageUUID, state: .Status, error: (.ErrorCode | word | if . == "000" then null else . end)};

def seconds: word | if . != null and test("^[0-9]{1,12}$") then tonumber / 1000 | floor else null end;

def voicemail: ((.RecordUrl | word) // (.RecordingUrl | word)) as $url | (.From | word) as $from | {
  kind: "message",
  account: (.To | word),
  key: .RecordingID,
  conversation: (if $from | party then $from else ["call", ((.CallUUID | word) // .RecordingID)] end),
  from: ($from | party),
  to: [.To | party | values],
  attachments: (if $url then [{url: $url, type: (if $url | endswith(".wav") then "audio/wav" else "audio/mpeg" end), recipe: ($url | recipe)}] else [] end),
  message_kind: "voicemail",
  call: {outcome: "voicemail", recording: 0, seconds: (.RecordingDurationMs | seconds)},
  verified: false,
  direct: true,
  extra: {call: (.CallUUID | word)}
};

# The transcript names its recording: the same voicemail with words.
def transcript: (.transcription | word) as $text | voicemail + {
  key: ((.recording_id | word) // .RecordingID),
  kind: "update",
  revision: "transcript",
  conversation: ["recording", ((.recording_id | word) // .RecordingID)],
  text: $text,
  call: {outcome: "voicemail", recording: 0, transcript: $text}
};

(if .fields == {} then $query else .fields end)
| if (.MessageUUID | word) and (.Status | word) and (.Text | word) == null then status
  elif .MessageUUID | word then message
  elif (.transcription | word) and ((.recording_id | word) // (.RecordingID | word)) then transcript
  elif .RecordingID | word then voicemail
  elif .CallUUID | word then ignored("call_progress")
  else ignored("unsupported_kind") end
