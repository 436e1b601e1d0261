# Responses as the Google Forms API lists them; the form's script posts the same shape, with the questions' titles beside it.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;

def files: .fileUploadAnswers | obj | .answers | rows;

def words: [(.textAnswers | obj | .answers | rows | .value | str), (files | .fileName | str) | values] | join(", ");

# Each answer with the words of its question.
def answered($titles): .answers | obj | to_entries[] | .key as $id | (.value | obj)
  | {id: $id, asked: (($titles[$id] | str) // $id), words: (words | str), files: [files]};

def named($answers; $field): if $field == null then null else
  first($answers[] | select(.asked == $field or .id == $field) | .words | values) // null end;

def rating($answers): $settings.rating as $wanted | (named($answers; $wanted.field) // "" | tonumber)? // null
  | if . == null then null else
      (($wanted.low | tonumber)? // null) as $low | (($wanted.high | tonumber)? // null) as $high
      | {score: ., metric: ($wanted.metric // "score"), scale: (if $low != null and $high != null then [$low, $high] else null end)}
    end;

def sender($answers): (.respondentEmail | str | email_addr) as $collected
  | ($collected // (named($answers; $settings.fields.email) | email_addr)) as $email
  | (named($answers; $settings.fields.phone) | phone_e164) as $phone
  | if $email then {address: "email:\($email)"} elif $phone then {address: "tel:\($phone)"} else null end
  | if . then {from: (. + {name: named($answers; $settings.fields.name)}), verified: ($settings.verified_emails and $collected != null)} else {} end;

def response($form): [answered($form.questions | obj)] as $answers | rating($answers) as $rating | {
  key: .responseId,
  subject: ($form.title | str),
  text: ([$answers[] | select(.words != null) | "\(.asked): \(.words)"] | join("\n")),
  attachments: [$answers[] | .files[] | {id: (.fileId | str), name: (.fileName | str), type: (.mimeType | str)}],
  message_kind: (if $rating then "survey" else null end),
  feedback: $rating,
  direct: true,
  sent_at: (.createTime | str | time_iso),
  extra: {form_id: ($form.formId // .formId | str)}
} + sender($answers);

if isobject and (.responses | isarray) then . as $form
  | [.responses[] | objects] | if . == [] then ignored("empty") else .[] | . as $one
    | response($form)
    | if $one.lastSubmittedTime != null and $one.lastSubmittedTime != $one.createTime then
        . + {kind: "edit", revision: $one.lastSubmittedTime, edited_at: ($one.lastSubmittedTime | str | time_iso)}
      else . + {kind: "message"} end
    end
else ignored("unsupported_kind") end
