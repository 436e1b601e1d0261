# Pages of the Stack Exchange API, with filter=withbody. Titles and names are HTML-escaped.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;
def id: if isnumber or (isstring and . != "") then tostring else null end;

def content($key; $question): (.owner | obj) as $owner | ($owner.user_id | id) as $who | (.title | str | html_text) as $title | (.body | str) as $body | {
  key: $key,
  external_id: ($key[1] | id),
  conversation: "questions",
  thread: ($question | id),
  from: (if $who then {address: "stackexchange:\($who)", name: ($owner.display_name | str | html_text), avatar_url: ($owner.profile_image | str)} else null end),
  direction: (if any($settings.agents[]; . == $who) then "outbound" else "inbound" end),
  subject: $title,
  text: ([$title, ($body | html_text) | values] | join("\n\n") | str),
  html: $body,
  url: (.link | str),
  sent_at: (if .creation_date | isnumber then .creation_date | time_s else null end),
  extra: {tags: ([.tags | arrays | .[] | strings] | if . == [] then null else . end), score: .score, author: (if $who then null else $owner.display_name | str | html_text end)}
} + if .last_edit_date | isnumber
    then {kind: "edit", revision: .last_edit_date, edited_at: (.last_edit_date | time_s)} else {kind: "message"} end;

# A comment names the post it is below; below a question that is the question.
def item: if .comment_id != null then
    content(["comment", .comment_id]; .post_id)
      + {message_kind: "comment", in_reply_to: [(if .post_type == "answer" then "answer" else "question" end), .post_id]}
  elif .answer_id != null then content(["answer", .answer_id]; .question_id) + {in_reply_to: ["question", .question_id]}
  else content(["question", .question_id]; .question_id) end;

if isobject and (.items | isarray) then [.items | rows] | if . == [] then ignored("empty") else .[] | item end
else ignored("unsupported_kind") end
