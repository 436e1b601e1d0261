# Pages of reviews as Google's API lists them, and the notices of its Pub/Sub.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;
def id: if isnumber or (isstring and . != "") then tostring else null end;

def place: .name | str // "" | split("/reviews/") | first | str // "place";

def stars: {ONE: 1, TWO: 2, THREE: 3, FOUR: 4, FIVE: 5}[.starRating | str // ""];

# People have no id at Google's API, and names are not unique: a person is known by the review.
def review: (.reviewId | id) as $id | (.reviewer | obj) as $reviewer | stars as $stars | {
  key: $id,
  conversation: place,
  thread: $id,
  from: (if $id then {address: "google-business:\($id)", name: (if $reviewer.isAnonymous == true then null else $reviewer.displayName | str end),
    avatar_url: ($reviewer.profilePhotoUrl | str)} else null end),
  text: (.comment | str),
  feedback: (if $stars then {metric: "stars", score: $stars, scale: [1, 5], comment: (.comment | str)} else null end),
  sent_at: (.createTime | str | time_iso)
} + if .updateTime != null and .updateTime != .createTime
    then {kind: "edit", revision: .updateTime, edited_at: (.updateTime | str | time_iso)} else {kind: "message"} end;

# What the owner answered; changed, it is another answer.
def answer: (.reviewId | id) as $id | place as $place | .reviewReply | objects | {
  kind: "message", key: [$id, "reply", (.updateTime | id) // "once"], conversation: $place, thread: $id, in_reply_to: $id, direction: "outbound",
  message_kind: "comment", text: (.comment | str), sent_at: (.updateTime | str | time_iso)
};

if isobject | not then ignored("unsupported_kind")
elif .reviews | isarray then [.reviews | rows] | if . == [] then ignored("empty") else .[] | review, answer end
elif .reviewId | str then review, answer
elif .message | isobject and (.data | isstring) then ignored("notice")
else ignored("unsupported_kind") end
