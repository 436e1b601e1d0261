# Bird: an event of a channel. MessageBird, its older form: an SMS as plain fields, JSON or a form.

# What is there, whatever came: an object, a list, a text. The platform's odd payloads become missing fields, not failures.
def object: if type == "object" then . else {} end;
def list: if type == "array" then . else [] end;
def word: if type == "string" and . != "" or type == "number" then tostring else null end;

# Numbers come with and without their plus; short codes and names are no phone numbers.
def phone: word | if . == null then null
  else {address: (if test("^[+]?[0-9]{8,15}$") then "tel:\(phone_e164)" else "bird:\(.)" end)} end;

# Who a contact is depends on the channel: the event is named after it, as in `whatsapp.inbound`.
def person($platform): (.identifierValue | word) as $value | ($value | if . then phone_e164 else null end) as $phone
  | if $value == null then null
    elif .identifierKey == "phonenumber" and $phone then
      if $platform == "whatsapp" then {address: "whatsapp:\($phone | ltrimstr("+"))", also: ["tel:\($phone)"]} else {address: "tel:\($phone)"} end
    elif .identifierKey == "emailaddress" and ($value | email_addr) then {address: "email:\($value | email_addr)"}
    else {address: "bird:\($value)"} end;

def files: [(.image | object | .images), (.file | object | .files), (.video | object | .videos), (.audio | object | .audios)]
  | [.[] | list[] | object | {url: .mediaUrl | word, name: .filename | word, type: .contentType | word} | select(.url)];

def place: (.coordinates | object) as $at | (.location | object) as $place
  | [$place.label, $place.address, (if $at.latitude != null and $at.longitude != null then "\($at.latitude), \($at.longitude)" else null end)]
  | map(word | values) | if . == [] then null else join("\n") end;

# The words stand under the name of the body's type.
def words: (.location | if . then object | place else null end)
  // first((.text, .image, .file, .video, .audio, .list, .section, .carousel, .html) | object | .text | word | values) // null;

def sender($platform): .sender | object | .contact | object | (.annotations | object | .name | word) as $name
  | person($platform) | if . then . + {name: $name} else null end;

def message($platform): (.body | object) as $body | (.sender | object | .contact | object) as $contact | {
  kind: "message",
  account: (.channelId | word),
  key: .id,
  conversation: (($contact.identifierValue | word) // ($contact.id | word)),
  from: sender($platform),
  text: ($body | words),
  attachments: ($body | files),
  in_reply_to: (.replyTo | if type == "object" then .id | word else word end),
  sent_at: (.createdAt | word | time_iso),
  direct: true,
  extra: {platform: $platform, contact: ($contact.id | word)}
};

def event: (.event | word // "") as $event | (.payload | object) as $payload | ($event | split(".")) as [$platform, $what]
  | $payload
  | if $what == "inbound" then
      if (.body | object | words) == null and (.body | object | files) == [] then ignored("unsupported_kind") else message($platform) end
    elif $what == "outbound" and (.status | word) then {kind: "status", account: (.channelId | word), key: .id, state: .status}
    elif $what == "outbound" then ignored("own_echo")
    elif $what == "interaction" and (.messageId | word) and (.type | word) then
      {kind: "status", account: (.channelId | word), key: .messageId, state: .type}
    else ignored("unsupported_kind") end;

def sms: (.recipient // .shortcode | word) as $to | (.originator | word) as $from | {
  kind: "message",
  account: $to,
  key: (.id // .mid),
  conversation: ($from // "unknown"),
  from: ($from | phone),
  to: [$to | phone | values],
  text: ((.body | word) // (.message | word)),
  sent_at: ((.createdDatetime // .receive_datetime) | word | time_iso),
  direct: true
};

def receipt: {kind: "status", key: .id, state: .status, error: (.statusErrorCode | word), sent_at: (.statusDatetime | word | time_iso)};

object | (if .fields | type == "object" then .fields else . end)
| if .service and .event then event
  elif (.status | word) and .statusDatetime and (.id | word) then receipt
  elif ((.id // .mid) | word) and (.originator or .message) then sms
  else ignored("unsupported_kind") end
