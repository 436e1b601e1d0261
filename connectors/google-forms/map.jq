# Responses as the Google Forms API lists them, each with its form beside it (`follow`); the form's script posts the same shape, with the
# questions' titles and scales beside it.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;
def whole: if isnumber then . else null end;

# Question of a form: its words, its scale, its points.
def question($title): {id: (.questionId | str), title: $title, points: (.grading | obj | .pointValue | whole)}
  + if .scaleQuestion | isobject then {metric: "score", scale: [.scaleQuestion | (.low | whole) // 0, (.high | whole) // 0]}
    elif .ratingQuestion | isobject then
      {metric: (if .ratingQuestion.iconType == "STAR" then "stars" else "rating" end), scale: [1, (.ratingQuestion.ratingScaleLevel | whole) // 1]}
    else {metric: null, scale: null} end;

# Rows of a grid are questions of their own.
def of_api: [.items | rows | (.title | str) as $title
  | (.questionItem | obj | .question | objects | question($title)),
    (.questionGroupItem | obj | .questions | rows | question([$title, (.rowQuestion | obj | .title | str)] | map(values) | join(": ") | str))];

def pair: if isarray and length == 2 and (.[0] | isnumber) and (.[1] | isnumber) then . else null end;

def of_script: (.scales | obj) as $scales | [.questions | obj | to_entries[]
  | {id: .key, title: (.value | str), points: null, metric: "score", scale: ($scales[.key] | pair)}];

def files: .fileUploadAnswers | obj | .answers | rows;

def words: [(.textAnswers | obj | .answers | rows | .value | str), (files | .fileName | str) | values] | join(", ");

# Each answer with the words of its question: in the form's order, then those to questions that it no longer has.
def answered($questions): (.answers | obj) as $answers
  | ($questions[] | select(.id != null and ($answers[.id] | isobject)) | . + {said: $answers[.id]}),
    ($answers | to_entries[] | .key as $id | select(any($questions[]; .id == $id) | not)
      | {id: $id, title: null, points: null, metric: "score", scale: null, said: (.value | obj)})
  | {id, asked: (.title // .id), words: (.said | words | str), files: [.said | files], metric, scale};

def named($answers; $field): if $field == null then null else
  first($answers[] | select(.asked == $field or .id == $field) | .words | values) // null end;

def number: (. // "" | tonumber)? // null;

def rated($answers): [$answers[] | select(.scale != null) | (.words | number) as $score | select($score != null) | . + {score: $score}];

# What a quiz gave.
def grade($questions): ([$questions[] | .points | values] | add) as $points
  | if .totalScore | isnumber then {metric: "grade", score: .totalScore, scale: (if $points then [0, $points] else null end)} else null end;

def rating($answers): $settings.rating as $wanted
  | (if $wanted.field then first($answers[] | select(.asked == $wanted.field or .id == $wanted.field) | (.words | number) as $score
        | select($score != null) | . + {score: $score}) // null
     else rated($answers) | .[0] end)
  | if . == null then null else
      ($wanted.low | number) as $low | ($wanted.high | number) as $high
      | {score, metric: ($wanted.metric // .metric), scale: (if $low != null and $high != null then [$low, $high] else .scale end),
         comment: named($answers; $wanted.comment)}
    end;

def sender($answers; $proven): (.respondentEmail | str | email_addr) as $collected
  | ($collected // (named($answers; $settings.fields.email) | email_addr)) as $email
  | (named($answers; $settings.fields.phone) | phone_e164) as $phone
  | if $email then {address: "email:\($email)"} elif $phone then {address: "tel:\($phone)"} else null end
  | if . then {from: (. + {name: named($answers; $settings.fields.name)}), verified: ($proven and $collected != null)} else {} end;

def read($page; $form; $questions): [answered($questions)] as $answers | rating($answers) as $rating | grade($questions) as $grade
  | ($settings.verified_emails or ($form.settings | obj | .emailCollectionType) == "VERIFIED") as $proven | {
  key: .responseId,
  subject: (($form.info | obj | (.title | str) // (.documentTitle | str)) // ($page.title | str)),
  text: ([$answers[] | select(.words != null) | "\(.asked): \(.words)"] | join("\n")),
  attachments: [$answers[] | .files[] | {id: (.fileId | str), name: (.fileName | str), type: (.mimeType | str)}],
  message_kind: (if $rating then "survey" else null end),
  feedback: ($rating // $grade),
  direct: true,
  sent_at: (.createTime | str | time_iso),
  extra: {
    form_id: (($page.formId // .formId // $form.formId) | str),
    ratings: (rated($answers) | if length > 1 then map({asked, score, scale}) else null end),
    grade: (if $rating and $grade then $grade | {score, scale} else null end)
  }
} + sender($answers; $proven);

if isobject and (.responses | isarray) then . as $page | ($page | of_script) as $told
  | [.responses[] | objects] | if . == [] then ignored("empty") else .[]
    | (.follow | obj) as $form | (if $form == {} then $told else $form | of_api end) as $questions
    | . as $one | read($page; $form; $questions)
    | if $one.lastSubmittedTime != null and $one.lastSubmittedTime != $one.createTime then
        . + {kind: "edit", revision: $one.lastSubmittedTime, edited_at: ($one.lastSubmittedTime | str | time_iso)}
      else . + {kind: "message"} end
    end
else ignored("unsupported_kind") end
