# Pages of reviews as the Android Publisher API lists them. A review has one time, that of its last change: each version of it is a message.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;
def id: if isnumber or (isstring and . != "") then tostring else null end;

def seconds: .lastModified | obj | .seconds | if isnumber or isstring then (tonumber? // null) else null end;
def moment: seconds as $seconds | (.lastModified | obj | .nanos | if isnumber then . / 1000000 | floor else 0 end) as $ms
  | if $seconds == null then null else $seconds * 1000 + $ms end;

# "Title TAB body"; without a title only the body.
def words: .text | str // "" | split("\t") | map(gsub("^\\s+|\\s+$"; "") | select(. != ""));

def shared($id): {conversation: "app", thread: $id, sent_at: moment};

def review($id; $name): words as $words | shared($id) + {
  kind: "message",
  key: [$id, seconds],
  external_id: $id,
  from: (if $id then {address: "google-play:\($id)", name: $name} else null end),
  subject: (if $words[1] then $words[0] else null end),
  text: ($words | join("\n\n") | str),
  feedback: (if .starRating | isnumber then {metric: "stars", score: .starRating, scale: [1, 5], comment: ($words | last)} else null end),
  language: (.reviewerLanguage | str),
  extra: {device: (.device | str), app_version: (.appVersionName | str), android: .androidOsVersion, original: (.originalText | str)}
};

def answer($id; $asked): shared($id) + {
  kind: "message", key: [$id, "developer", seconds], in_reply_to: (if $asked then [$id, $asked] else null end), direction: "outbound",
  message_kind: "comment", text: (.text | str)
};

def one: (.reviewId | id) as $id | (.authorName | str) as $name | [.comments | rows] as $comments
  | (first($comments[] | .userComment | objects | seconds | values) // null) as $asked
  | $comments[] | (.userComment | objects | review($id; $name)), (.developerComment | objects | answer($id; $asked));

if isobject | not then ignored("unsupported_kind")
elif .reviews | isarray then [.reviews | rows | one] | if . == [] then ignored("empty") else .[] end
elif .comments | isarray then one
else ignored("unsupported_kind") end
