# Pages of reviews as App Store Connect lists them (JSON:API), with include=response. A changed review keeps its id and tells no time of the
# change: each version of it is a message.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;
def id: if isnumber or (isstring and . != "") then tostring else null end;

def review: (.id | id) as $id | (.attributes | obj) as $said | ($said.title | str) as $title | ($said.body | str) as $body | ($said.reviewerNickname | str) as $who | {
  kind: "message",
  key: [$id, ([$said.rating, $title, $body] | tojson | sha256)],
  external_id: $id,
  conversation: "app",
  thread: $id,
  from: (if $who then {address: "app-store:\($who)", name: $who} else null end),
  subject: $title,
  text: ([$title, $body | values] | join("\n\n") | str),
  feedback: (if $said.rating | isnumber then {metric: "stars", score: $said.rating, scale: [1, 5], comment: $body} else null end),
  sent_at: ($said.createdDate | str | time_iso),
  extra: {country: ($said.territory | str)}
};

# The answer to a review stands beside the reviews; the review names it.
def answer($included): (.id | id) as $id | (.relationships | obj | .response | obj | .data | obj | .id | id) as $named
  | if $named == null then empty else first($included[] | select((.id | id) == $named)) | .attributes | obj | {
      kind: "message", key: [$id, "response", (.lastModifiedDate | id) // "once"], conversation: "app", thread: $id, direction: "outbound",
      message_kind: "comment", text: (.responseBody | str), sent_at: (.lastModifiedDate | str | time_iso), extra: {state: (.state | str)}
    } end;

if isobject and (.data | isarray) then
  [.included | rows | select(.type == "customerReviewResponses")] as $included
  | [.data | rows | select(.type == "customerReviews")] | if . == [] then ignored("empty") else .[] | review, answer($included) end
else ignored("unsupported_kind") end
