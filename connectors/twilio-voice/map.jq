# Twilio Voice: callbacks of calls, recordings and transcriptions, each a form. Recordings do not say who called: the address of their
# callback carries it (?From=…&To=…), and Twilio signs the address.

# Empty fields are fields that are not there.
def word: if type == "string" and . != "" then . else null end;
def count: word | if . and test("^[0-9]{1,9}$") then tonumber else null end;

# Callers who hide their number. +266696687 is ANONYMOUS on a keypad.
def hidden: . == "anonymous" or . == "unknown" or . == "restricted" or . == "unavailable" or . == "private" or . == "+266696687";

def party: word | if . == null or hidden then null
  else phone_e164 as $phone | {address: (if $phone and startswith("+") then "tel:\($phone)" else "twilio-voice:\(.)" end)} end;

# Who called whom, from the form or from the address of the callback.
def caller: (.From | word) // ($query.From | word);
def called: (.To | word) // ($query.To | word);

def recording: (.RecordingUrl | word) as $url
  | if $url then [{url: "\($url).mp3", name: "\((.RecordingSid | word) // "recording").mp3", type: "audio/mpeg"}] else [] end;

def content: caller as $caller | called as $called | {
  account: (.AccountSid | word),
  conversation: (if ($caller | party) then $caller else ["call", (.CallSid | word)] end),
  from: (($caller | party) as $from | ((.CallerName | word) // ($query.CallerName | word)) as $name | if $from then $from + {name: $name} else null end),
  to: [$called | party | values],
  direct: true,
  extra: {call: (.CallSid | word), forwarded_from: ((.ForwardedFrom | word) // ($query.ForwardedFrom | word)),
    stir: ((.StirVerstat | word) // ($query.StirVerstat | word))}
};

def voicemail: content + {
  kind: "message",
  key: .RecordingSid,
  message_kind: "voicemail",
  attachments: recording,
  call: {outcome: "voicemail", recording: 0, seconds: (.RecordingDuration | count)},
  sent_at: (.RecordingStartTime | word | time_rfc2822)
};

# The transcript comes seconds or minutes later, or first: the same voicemail with words.
def transcript: (.TranscriptionText | word) as $text | content + {
  kind: "update",
  key: .RecordingSid,
  revision: ((.TranscriptionSid | word) // "transcript"),
  message_kind: "voicemail",
  text: $text,
  attachments: recording,
  call: {outcome: "voicemail", recording: 0, seconds: (.RecordingDuration | count), transcript: $text}
};

def missed: content + {
  kind: "message",
  key: .CallSid,
  message_kind: "call",
  call: {outcome: "missed", seconds: (.CallDuration | count)},
  sent_at: ((.Timestamp | word) // (.RecordingStartTime | word) | time_rfc2822)
};

.fields
| if (.CallSid | word) == null then ignored("unsupported_kind")
  elif (.Direction | word // "") | startswith("outbound") then ignored("outbound_call")
  elif (.TranscriptionStatus | word) != null then
    if .TranscriptionStatus == "completed" and (.TranscriptionText | word) and (.RecordingSid | word) then transcript else ignored("no_transcript") end
  elif (.RecordingStatus | word) != null then
    if .RecordingStatus == "completed" and (.RecordingSid | word) then voicemail
    elif .RecordingStatus == "absent" or .RecordingStatus == "failed" then missed
    else ignored("call_progress") end
  elif .CallStatus == "no-answer" or .CallStatus == "busy" or .CallStatus == "canceled" or .CallStatus == "failed" then missed
  else ignored("call_progress") end
