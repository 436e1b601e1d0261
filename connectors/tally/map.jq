# Tally's webhook: one response with all fields of the form. Choices come as ids of options that stand beside them.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;

# Texts by id.
def by_id: reduce rows as $one ({}; . + {($one.id | tostring): $one.text});

def chosen($options): [arrays[] | ($options[tostring] | str) // (if isstring or isnumber then tostring else empty end)] | join(", ");

# A grid: for each row what was chosen.
def grid($rows; $columns): [to_entries[] | .value as $chosen | "\(($rows[.key] | str) // .key): \($chosen | chosen($columns))"] | join("; ");

def files: if .type == "FILE_UPLOAD" or .type == "SIGNATURE" then .value | rows else empty end;

def words: (.options | by_id) as $options
  | if .type == "FILE_UPLOAD" or .type == "SIGNATURE" then [files | .name | str | values] | join(", ")
    elif .type == "MATRIX" and (.value | isobject) then (.rows | by_id) as $rows | (.columns | by_id) as $columns | .value | grid($rows; $columns)
    elif .value | isarray then .value | chosen($options)
    elif .value | isobject then .value | tojson
    elif .value == true then "yes"
    elif .value == false then "no"
    elif .value == null then null
    else ($options[.value | tostring] | str) // (.value | tostring) end;

def hidden: .type == "HIDDEN_FIELDS" or .type == "CALCULATED_FIELDS";

# Tally repeats each box of a list of boxes as a field of its own.
def box: .type == "CHECKBOXES" and (.value | isboolean);

def is($name): (.label == $name) or (.key == $name);

def rating($fields): $settings.rating as $wanted
  | first($fields[] | select(if $wanted.field then is($wanted.field) else .type == "RATING" or .type == "LINEAR_SCALE" end)
      | select(.value | isnumber)) // null
  | if . == null then null else
      (($wanted.low | tonumber)? // null) as $low | (($wanted.high | tonumber)? // null) as $high
      | {score: .value, metric: ($wanted.metric // (if .type == "RATING" then "stars" else "score" end)),
         scale: (if $low != null and $high != null then [$low, $high] else null end)}
    end;

def sender($fields; $hidden):
  def first_of($type): first($fields[] | select(.type == $type) | .value | str | values) // null;
  (first_of("INPUT_EMAIL") // ($hidden.email | str) | email_addr) as $email
  | (first_of("INPUT_PHONE_NUMBER") // ($hidden.phone | str) | phone_e164) as $phone
  | ([$settings.name[] as $name | $fields[] | select(is($name)) | .value | str | values] | join(" ") | str) as $name
  | if $email then {address: "email:\($email)"} elif $phone then {address: "tel:\($phone)"} else null end
  | if . then . + {name: ($name // ($hidden.name | str))} else null end;

def response($event): [.fields | rows] as $fields
  | (reduce ($fields[] | select(hidden)) as $one ({}; . + {($one.label | tostring): $one.value})) as $hidden
  | rating($fields) as $rating | {
    kind: "message",
    delivery_key: $event.eventId,
    key: (.responseId // .submissionId),
    from: sender($fields; $hidden),
    subject: (.formName | str),
    text: ([$fields[] | select((hidden or box) | not) | (words | str) as $words | select($words != null)
      | "\((.label | str) // (.key | tostring)): \($words)"] | join("\n")),
    attachments: [$fields[] | files
      | {url: (.url | str), name: (.name | str), type: (.mimeType | str), bytes: (if .size | isnumber and . >= 0 then .size | floor else null end)}],
    message_kind: (if $rating then "survey" else null end),
    feedback: $rating,
    direct: true,
    sent_at: (.createdAt | str | time_iso),
    extra: {form_id: .formId, respondent: .respondentId, hidden: (if $hidden == {} then null else $hidden end)}
  };

if isobject | not then ignored("unsupported_kind")
elif .eventType == "FORM_RESPONSE" and (.data | isobject) then . as $event | .data | response($event)
else ignored("unsupported_kind") end
