# GitHub's webhooks. A header says what the payload is about; without it, what the payload holds does.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;

def about: $headers["x-github-event"]
  // (if .comment then if .discussion then "discussion_comment" elif .pull_request then "pull_request_review_comment"
        elif .issue then "issue_comment" else "commit_comment" end
      elif .zen then "ping" elif .discussion then "discussion" elif .pull_request then "pull_request" elif .issue then "issues" else null end);

def bot: .type == "Bot" or ((.login | str) // "" | endswith("[bot]"));

# Images and files that were dropped into the text.
def files: [(.body | str) // "" | scan("https://github\\.com/(?:user-attachments/(?:assets|files)|[\\w.-]+/[\\w.-]+/assets)/[^\\s()<>\"'\\]]+")
  | {url: ., name: (if test("/files/") then split("/") | last else null end)}];

# What was written (the input) in an issue, discussion, pull request or at a commit ($place).
def content($payload; $type; $place; $author):
  ($payload.repository | obj) as $repository | .author_association as $association | ($author.login | str) as $login
  | (any($settings.staff_associations[]; . == $association) or any($settings.agents[]; . == $login)) as $ours | {
    delivery_key: $headers["x-github-delivery"],
    key: [$type, .id],
    external_id: (.node_id | str),
    conversation: ($repository.id // $repository.full_name),
    thread: ($place.number // .commit_id),
    in_reply_to: (if .parent_id != null or .in_reply_to_id != null then [$type, .parent_id // .in_reply_to_id] else null end),
    from: (if $author.id == null then null
      else {address: "github:\($author.id)", name: ($author.name | str), handle: $login, avatar_url: ($author.avatar_url | str)} end),
    to: (if $ours then null else [$repository.full_name | str | values | {address: "github:\(.)"}] end),
    direction: (if $ours then "outbound" else "inbound" end),
    subject: ($place.title | str),
    text: (.body | str),
    attachments: files,
    url: (.html_url | str),
    sent_at: (.created_at | str | time_iso),
    extra: {repository: $repository.full_name, number: $place.number, association: $association,
      labels: ([$place.labels | arrays | .[] | objects | .name | str | values] | if . == [] then null else . end),
      category: ($place.category | obj | .name), path, commit: .commit_id,
      pull_request: (if $type == "pull_request" or $type == "pull_request_review_comment" or $place.pull_request then true else null end)}
  };

def event($payload; $type; $place; $message_kind):
  ((.user | objects) // ($payload.sender | obj)) as $author
  | if $author | bot then ignored("bot")
    elif $payload.action == "created" or $payload.action == "opened" then
      content($payload; $type; $place; $author) + {kind: "message", message_kind: $message_kind}
    elif $payload.action == "edited" then
      content($payload; $type; $place; $author)
        + {kind: "edit", message_kind: $message_kind, revision: .updated_at, edited_at: (.updated_at | str | time_iso)}
    elif $payload.action == "deleted" then
      {kind: "delete", delivery_key: $headers["x-github-delivery"], key: [$type, .id], external_id: (.node_id | str)}
    else ignored("state_change") end;

def comment($payload; $type; $place): .comment | obj | event($payload; $type; $place | obj; "comment");

def root($payload; $type): obj | event($payload; $type; .; "post");

if isobject | not then ignored("unsupported_kind")
else . as $payload | about as $about
  | if $about == "issues" then .issue | root($payload; "issue")
    elif $about == "issue_comment" then comment($payload; "issue_comment"; .issue)
    elif $about == "discussion" then .discussion | root($payload; "discussion")
    elif $about == "discussion_comment" then comment($payload; "discussion_comment"; .discussion)
    elif $about == "pull_request" then .pull_request | root($payload; "pull_request")
    elif $about == "pull_request_review_comment" then comment($payload; "pull_request_review_comment"; .pull_request)
    elif $about == "commit_comment" then comment($payload; "commit_comment"; {})
    elif $about == "ping" then ignored("ping")
    else ignored("unsupported_kind") end
end
