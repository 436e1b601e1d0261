# Bandwidth: a list of messaging events, or one event of a call.

# What is there, whatever came: an object, a list, a text. The platform's odd payloads become missing fields, not failures.
def object: if type == "object" then . else {} end;
def list: if type == "array" then . else [] end;
def word: if type == "string" and . != "" or type == "number" then tostring else null end;

# Callers who hide their number are nobody, not one person.
def hidden: ascii_downcase | . == "anonymous" or . == "restricted" or . == "unknown" or . == "unavailable" or . == "private";

def party: word | if . == null or hidden then null
  else phone_e164 as $phone | {address: (if $phone and startswith("+") then "tel:\($phone)" else "bandwidth:\(.)" end)} end;

# Parts that only say how an MMS is laid out are no files.
def files: [.media | list[] | word | values | select(test("\\.smil$"; "i") | not) | {url: ., name: (split("/") | last)}];

# A group writes to several numbers; everybody in it is in the same conversation.
def room: (.from | word) as $from | [.to | list[] | word | values] as $to
  | if ($to | length) > 1 then ["group", ([$from | values] + $to | sort | join(","))] else $from end;

def received: (.message | object) as $message | {
  kind: "message",
  account: ($message.owner | word),
  key: $message.id,
  conversation: ($message | room),
  from: ($message.from | party),
  to: [$message.to | list[] | party | values],
  text: ($message.text | word),
  attachments: ($message | files),
  sent_at: ($message.time | word | time_iso),
  direct: (($message.to | list | length) < 2),
  extra: {application: ($message.applicationId | word)}
};

def status: (.message | object) as $message | {
  kind: "status", account: ($message.owner | word), key: $message.id, state: (.type | ltrimstr("message-")), error: (.errorCode | word),
  sent_at: (.time | word | time_iso)
};

# PT1M13.5S: whole seconds.
def seconds: word | if . == null then null else
  (capture("^PT((?<h>[0-9]+)H)?((?<m>[0-9]+)M)?((?<s>[0-9]+)([.][0-9]+)?S)?$") // null)
  | if . then [.h, .m, .s] | map(if . then tonumber else 0 end) | .[0] * 3600 + .[1] * 60 + .[2] else null end end;

def content: (.from | word) as $from | {
  account: (.to | word),
  key: .recordingId,
  conversation: (if $from | party then $from else ["call", (.callId | word)] end),
  from: ($from | party),
  to: [.to | party | values],
  message_kind: "voicemail",
  verified: false,
  direct: true,
  extra: {call: (.callId | word)}
};

def voicemail: (.mediaUrl | word) as $url | content + {
  kind: "message",
  attachments: (if $url then [{url: $url, type: (if .fileFormat == "mp3" then "audio/mpeg" else "audio/wav" end)}] else [] end),
  call: {outcome: "voicemail", recording: 0, seconds: (.duration | seconds)},
  sent_at: (.startTime | word | time_iso)
};

# Only where the transcript is: the same voicemail, with words as soon as they are fetched.
def transcript: (.transcription | object) as $one | content + {
  kind: "update",
  revision: (($one.id | word) // "transcript"),
  attachments: [{url: $one.url, name: "transcript.json", type: "application/json", recipe: "transcript"}],
  call: {outcome: "voicemail"}
};

def is_there: (.recordingId | word) and (.transcription | object | (.url | word) and (.status == null or .status == "available"));

def event:
  if .type == "message-received" then if .message | object | .direction == "out" then ignored("own_echo") else received end
  elif .type == "message-sending" or .type == "message-sent" or .type == "message-delivered" or .type == "message-failed" then status
  elif .eventType == "recordingAvailable" then voicemail
  elif .eventType == "transcriptionAvailable" then if is_there then transcript else ignored("no_transcript") end
  elif .eventType == "initiate" or .eventType == "answer" or .eventType == "disconnect" or .eventType == "recordComplete" then ignored("call_progress")
  else ignored("unsupported_kind") end;

[(if type == "array" then .[] else . end) | object | event] | if . == [] then ignored("empty") else .[] end
