# Listings of Reddit's API: comments (t1), posts (t3), private messages (t4).

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;
def id: if isnumber or (isstring and . != "") then tostring else null end;

# The post a comment stands below: named, or part of the way to it.
def post: (.link_id | id) // (.context | str // "" | capture("/comments/(?<post>[a-z0-9]+)/")? | "t3_\(.post)") // null;

def seconds: if isnumber then time_s else null end;

def content($kind): (.name | id) as $name | .author as $author | (post // (.parent_id | id)) as $post | {
  key: $name,
  conversation: (if $kind == "t4" then $author else .subreddit // "posts" end),
  thread: (if $kind == "t4" then null elif $kind == "t3" then $name else $post end),
  in_reply_to: (.parent_id | id),
  from: {address: "reddit:\($author)", handle: $author},
  direction: (if any($settings.agents[], $own.user[]?; . == $author) then "outbound" else "inbound" end),
  subject: (.title // .subject | str),
  text: (if $kind == "t3" then ([.title, .selftext | str | values] | join("\n\n") | str) else .body | str end),
  message_kind: (if $kind == "t4" then "text" elif $kind == "t3" then "post" else null end),
  url: ((.permalink // .context) | str | if . then "https://www.reddit.com\(.)" else null end),
  sent_at: (.created_utc | seconds),
  direct: ($kind == "t4"),
  extra: {subreddit: (.subreddit | str)}
} + if .edited | isnumber then {kind: "edit", revision: .edited, edited_at: (.edited | seconds)} else {kind: "message"} end;

def thing: (.kind | str) as $kind | (.data | obj)
  | if $kind != "t1" and $kind != "t3" and $kind != "t4" then ignored("unsupported_kind")
    elif .author == "AutoModerator" then ignored("bot")
    elif (.author | str) == null or .author == "[deleted]" then ignored("deleted_author")
    else content($kind) end;

if isobject and (.data | obj | .children | isarray) then [.data.children | rows] | if . == [] then ignored("empty") else .[] | thing end
else ignored("unsupported_kind") end
