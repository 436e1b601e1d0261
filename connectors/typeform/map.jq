# Typeform's webhook: one response. The answers name their questions; the form's definition beside them has the questions' words.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;

# The words of an answer: what it holds under the name of its type.
def words:
  (.type | str) as $type
  | if $type == "choice" then .choice | obj | [.label, .other | strings] | join(", ")
    elif $type == "choices" then .choices | obj | [(.labels | arrays | .[]), .other | strings] | join(", ")
    elif $type == null then null
    else .[$type] | if . == true then "yes" elif . == false then "no" elif isobject or isarray then tojson elif . == null then null
      else tostring end
    end;

# Questions by id, also those inside of groups.
def questions: [.fields | rows | ., (.properties | obj | .fields | rows)]
  | reduce .[] as $one ({}; . + {($one.id | tostring): $one});

# Each answer with its question: id and reference, the words asked, and the kind of question.
def answered($questions): .answers | rows
  | (.field | obj) as $field | ($questions[$field.id | tostring] | obj) as $question
  | {id: $field.id, ref: ($field.ref // $question.ref), asked: (($question.title | str) // ($field.ref | str) // ($field.id | tostring)),
     kind: ($field.type // $question.type), how: ($question.properties | obj), type, number, file_url, email, phone_number, words: words};

def is($name): (.id == $name) or (.ref == $name);

def rating: $settings.rating as $wanted
  | first(.[] | select(if $wanted.field then is($wanted.field) else .kind == "nps" or .kind == "opinion_scale" or .kind == "rating" end)
      | select(.number | isnumber)) // null
  | if . == null then null else
      (.how.steps | if isnumber then . else null end) as $steps
      | (if .kind == "nps" then [0, 10]
        elif $steps == null then null
        elif .kind == "rating" or .how.start_at_one == true then [1, $steps]
        elif .kind == "opinion_scale" then [0, $steps - 1]
        else null end) as $told
      | (($wanted.low | tonumber)? // null) as $low | (($wanted.high | tonumber)? // null) as $high
      | {score: .number,
         metric: ($wanted.metric // (if .kind == "nps" then "nps" elif .kind == "rating" then "stars" else "score" end)),
         scale: (if $low != null and $high != null then [$low, $high] else $told end)}
    end;

def sender($answers; $hidden):
  (first($answers[] | .email | str | values | email_addr | values) // ($hidden.email | str | email_addr)) as $email
  | (first($answers[] | .phone_number | str | values | phone_e164 | values) // ($hidden.phone | str | phone_e164)) as $phone
  | ([$settings.name[] as $name | $answers[] | select(is($name)) | .words | strings] | join(" ") | str) as $name
  | if $email then {address: "email:\($email)"} elif $phone then {address: "tel:\($phone)"} else null end
  | if . then . + {name: ($name // ($hidden.name | str))} else null end;

def response($event): (.definition | obj) as $definition | (.hidden | obj) as $hidden
  | ($definition | questions) as $questions | [answered($questions)] as $answers | ($answers | rating) as $rating
  | {
    kind: "message",
    delivery_key: $event.event_id,
    key: .token,
    from: sender($answers; $hidden),
    subject: ($definition.title | str),
    text: ([$answers[] | select(.words != null and .words != "") | "\(.asked): \(.words)"] | join("\n")),
    attachments: [$answers[] | .file_url | str | values | {url: ., name: (split("/") | last)}],
    message_kind: (if $rating then "survey" else null end),
    feedback: $rating,
    direct: true,
    sent_at: (.submitted_at | str | time_iso),
    extra: {form_id, hidden: (if $hidden == {} then null else $hidden end), score: (.calculated | obj | .score),
      answers: ($answers | map(select(.ref != null and .words != null)) | reduce .[] as $one ({}; . + {($one.ref | tostring): $one.words})
        | if . == {} then null else . end)}
  };

if isobject | not then ignored("unsupported_kind")
elif .event_type == "form_response_partial" then ignored("partial")
elif .form_response | isobject then . as $event | .form_response | response($event)
else ignored("unsupported_kind") end
