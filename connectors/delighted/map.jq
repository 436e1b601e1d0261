# Delighted's webhooks: one response. The score comes first; what is written below it comes as an update of the same response.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def id: if isnumber or (isstring and . != "") then tostring else null end;
def seconds: if isnumber or isstring then time_s else null end;

# The usual scale of each kind of survey.
def usual: {nps: ["nps", 0, 10], enps: ["nps", 0, 10], csat: ["csat", 1, 5], csat3: ["csat", 1, 3], ces: ["ces", 1, 5], ces7: ["ces", 1, 7],
  stars_five: ["stars", 1, 5], smileys: ["smileys", 1, 5], thumbs: ["thumbs", 0, 1]}[.survey_type | str // ""];

def feedback: usual as $usual
  | (($settings.scale.low | tonumber)? // null) as $low | (($settings.scale.high | tonumber)? // null) as $high
  | {metric: ($usual[0] // (.survey_type | str) // "score"), score: (.score | if isnumber then . else null end), comment: (.comment | str),
     scale: (if $low != null and $high != null then [$low, $high] elif $usual then $usual[1:] else null end)};

def sender: obj | (.email | str | email_addr) as $email
  | if (.id | id) == null then null else {
      address: "delighted:\(.id)", name: (.name | str), also: (if $settings.trust_emails and $email then ["email:\($email)"] else [] end)
    } end;

def some: if . == {} or . == [] then null else . end;

def content($event): (.person | if isobject then . else {id: .} end) as $person | {
  delivery_key: ($event.event_id | id),
  key: .id,
  from: ($person | sender),
  text: (.comment | str),
  feedback: feedback,
  url: (.permalink | str),
  sent_at: (.created_at | seconds),
  direct: true,
  extra: {survey: .survey_type, email: ($person.email | str), tags: (.tags | some), properties: (.person_properties | some),
    answers: (.additional_answers | some)}
};

if isobject | not then ignored("unsupported_kind")
else . as $event | (.event_data | obj)
  | if $event.event_type == "survey_response.created" then content($event) + {kind: "message"}
    elif $event.event_type == "survey_response.updated" then
      content($event) + {kind: "edit", revision: (.updated_at // $event.event_id), edited_at: (.updated_at | seconds)}
    elif $event.event_type == "unsubscribe.created" then ignored("unsubscribed")
    else ignored("unsupported_kind") end
end
