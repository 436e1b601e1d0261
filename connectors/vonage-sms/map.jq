# Vonage's older SMS API: one SMS, a part of one, or a receipt, as the query of the request.

# Empty fields are fields that are not there.
def word: if type == "string" and . != "" then . else null end;

# Numbers come without their plus; short codes and names are no phone numbers.
def party: word | if . == null then null
  else {address: (if test("^[+]?[0-9]{8,15}$") then "tel:\(phone_e164)" else "vonage-sms:\(.)" end)} end;

def count: word | if . != null and test("^[0-9]{1,3}$") then tonumber else null end;

# Long messages come as parts.
def part: (.["concat-ref"] | word) as $of
  | if $of then {of: $of, number: (.["concat-part"] | word), total: (.["concat-total"] | word)} else null end;

# Times are in UTC: 2023-11-14 22:13:20.
def moment: word | if . then sub(" "; "T") + "Z" else null end | time_iso;

def sms: (.msisdn | word) as $from | {
  kind: "message",
  account: (.to | word),
  key: .messageId,
  conversation: ($from // ["message", .messageId]),
  from: ($from | party),
  to: [.to | party | values],
  text: (.text | word),
  sent_at: (.["message-timestamp"] | moment),
  direct: true,
  part_of: (.["concat-ref"] | word),
  part: (.["concat-part"] | count),
  parts: (.["concat-total"] | count),
  extra: {keyword: (.keyword | word), part: part}
};

def receipt: {
  kind: "status", account: (.to | word), key: .messageId, state: .status, error: (.["err-code"] | word | if . == "0" then null else . end)
};

$query
| if (.messageId | word) == null or .type == "binary" then ignored("unsupported_kind")
  elif .status | word then receipt
  else sms end
