# Twilio Messaging: one form, one message, or one status of a message that was sent.

# Empty fields are fields that are not there.
def word: if type == "string" and . != "" then . else null end;

# Who is behind a number: `+49…`, `whatsapp:+49…`, `rcs:+49…`, `messenger:…`, a short code.
def address: (word // "") as $given | ($given | sub("^[a-z]+:"; "")) as $bare | ($bare | phone_e164) as $phone
  | if $bare == "" then null
    elif ($given | startswith("whatsapp:")) and $phone then {address: "whatsapp:\($phone | ltrimstr("+"))", also: ["tel:\($phone)"]}
    elif $given | startswith("messenger:") then {address: "messenger:\($bare)"}
    elif $phone and ($bare | startswith("+")) then {address: "tel:\($phone)"}
    else {address: "twilio:\($bare)"} end;

def files: . as $fields | [range(0; 10) as $number | {url: $fields["MediaUrl\($number)"] | word, type: $fields["MediaContentType\($number)"] | word}
  | select(.url)];

def place: [.Label, .Address, (if (.Latitude | word) and (.Longitude | word) then "\(.Latitude), \(.Longitude)" else null end)]
  | map(word | values) | if . == [] then null else join("\n") end;

def message: {
  kind: "message",
  delivery_key: $headers["i-twilio-idempotency-token"],
  account: (.To | word),
  key: .MessageSid,
  conversation: (.From | word),
  from: ((.From | address) as $from | .ProfileName as $name | if $from then $from + {name: ($name | word)} else null end),
  to: [.To | address | values | {address}],
  text: ((.Body | word) // place),
  attachments: files,
  in_reply_to: (.OriginalRepliedMessageSid | word),
  direct: true,
  extra: {
    payload: (.ButtonPayload | word),
    opt_out: (.OptOutType | word),
    country: (.FromCountry | word),
    city: (.FromCity | word),
    service: (.MessagingServiceSid | word),
    segments: (.NumSegments | word)
  }
};

def status: {kind: "status", account: (.From | word), key: .MessageSid, state: .MessageStatus, error: (.ErrorCode | word)};

.fields
| if (.MessageSid | word) == null then ignored("unsupported_kind")
  elif (.MessageStatus | word) != null and .MessageStatus != "received" and .MessageStatus != "receiving" then status
  else message end
