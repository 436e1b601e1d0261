# SurveyMonkey. The webhook names a response; the API gives one (/details) or a page of them (/responses/bulk), best with simple=true, which
# adds the words of questions and answers.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;

def words: (.simple_text | str) // (.text | str) // (.choice_id // .row_id | if . == null then null else tostring end);

def asked: .pages | rows | .questions | rows
  | {id: (.id | tostring), asked: ((.heading | str) // "question \(.id)"), words: ([.answers | rows | words | values] | join(", ") | str),
     weights: [.answers | rows | (.choice_metadata | obj | .weight // null), (.text | str), (.simple_text | str) | (tonumber? // null) | values]};

def rating($questions): $settings.rating as $wanted
  | if $wanted.field == null then null else
      (first($questions[] | select(.asked == $wanted.field or .id == $wanted.field) | .weights[]) // null) as $score
      | (($wanted.low | tonumber)? // null) as $low | (($wanted.high | tonumber)? // null) as $high
      | if $score == null then null else
          {score: $score, metric: ($wanted.metric // "score"), scale: (if $low != null and $high != null then [$low, $high] else null end)}
        end
    end;

# The person an invitation went to, as far as it is known.
def sender: (.metadata | obj | .contact | obj) as $contact
  | ((.email_address | str) // ($contact.email | obj | .value | str) | email_addr) as $email
  | ([(.first_name, .last_name | str), ($contact.first_name, $contact.last_name | obj | .value | str) | values] | join(" ") | str) as $name
  | if $email then {address: "email:\($email)", name: $name} else null end;

def response: [asked] as $questions | rating($questions) as $rating | {
  kind: "message",
  key: .id,
  from: sender,
  text: ([$questions[] | select(.words != null) | "\(.asked): \(.words)"] | join("\n")),
  feedback: $rating,
  url: (.analyze_url | str),
  sent_at: (.date_modified // .date_created | str | time_iso),
  direct: true,
  extra: {survey_id, collector_id, variables: (.custom_variables | if . == {} then null else . end)}
};

def one: if .response_status == null or .response_status == "completed" then response else ignored("partial") end;

if isobject | not then ignored("unsupported_kind")
elif .event_type | str then if .object_type == "response" then ignored("answers_elsewhere") else ignored("unsupported_kind") end
elif .data | isarray then [.data | rows] | if . == [] then ignored("empty") else .[] | one end
elif .pages | isarray then one
else ignored("unsupported_kind") end
