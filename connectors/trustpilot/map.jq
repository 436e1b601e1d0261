# Trustpilot's webhooks: a list of events, each about one review.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def id: if isnumber or (isstring and . != "") then tostring else null end;

def review: (.consumer | obj) as $consumer | (.title | str) as $title | (.text // .content | str) as $text | {
  key: .id,
  from: (if ($consumer.id | id) == null then null else {address: "trustpilot:\($consumer.id)", name: ($consumer.name // $consumer.displayName | str)} end),
  subject: $title,
  text: ([$title, $text | values] | join("\n\n") | str),
  feedback: (if .stars | isnumber then {metric: "stars", score: .stars, scale: [1, 5], comment: $text} else null end),
  language: (.language | str),
  url: (.link | str),
  sent_at: (.createdAt | str | time_iso),
  extra: {reference: (.referenceId | id), verified: .isVerified, tags: (.tags | if . == [] then null else . end)}
};

def event: (.eventName | str // "") as $name | (.eventData | obj)
  | if $name | endswith("-review-created") then review + {kind: "message"}
    elif $name | endswith("-review-updated") then
      review + {kind: "edit", revision: (.updatedAt // ([.stars, .title, .text] | tojson | sha256)), edited_at: (.updatedAt | str | time_iso)}
    elif $name | endswith("-review-deleted") then {kind: "delete", key: .id}
    else ignored("unsupported_kind") end;

if isobject and (.events | isarray) then
  .events | if . == [] then ignored("empty") else .[] | obj | event end
else ignored("unsupported_kind") end
