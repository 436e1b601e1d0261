# Discourse's webhooks: a header names the event. Its id is another at each attempt, so posts are known by their own ids alone.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def whole: isnumber or (isstring and . != "");

def base: $headers["x-discourse-instance"] | str // "" | rtrimstr("/");

def absolute: if startswith("//") then "https:\(.)" elif startswith("/") then base + . else . end;

# Uploads in the post: originals, not the small copies beside them; no emoji, no avatars.
def files: [(.cooked | str) // "" | scan("(?:href|src)=\"([^\"]*/(?:original|secure-uploads|short-url)/[^\"]+)\"") | if isarray then .[0] else . end]
  | reduce .[] as $one ([]; if index($one) then . else . + [$one] end) | map({url: absolute, name: (split("?") | first | split("/") | last)});

def ours: ($settings.staff_is_ours and (.staff == true or .admin == true or .moderator == true))
  or (.username as $name | any($settings.agents[]; . == $name));

def content: ours as $ours | {
  key: .id,
  conversation: "topic",
  thread: .topic_id,
  in_reply_to: (if (.reply_to_post_number | isnumber) and (.topic_id | whole) then "\(.topic_id)#\(.reply_to_post_number)" else null end),
  from: (if .user_id | whole then {address: "discourse:\(.user_id)", name: (.name | str), handle: (.username | str)} else null end),
  direction: (if $ours then "outbound" else "inbound" end),
  subject: (.topic_title | str),
  html: (.cooked | str),
  text: (if .cooked | str then null else .raw | str end),
  attachments: files,
  url: (if base != "" and (.topic_id | whole) then "\(base)/t/\(.topic_id)/\(.post_number)" else null end),
  sent_at: (.created_at | str | time_iso),
  direct: (.topic_archetype == "private_message"),
  extra: {post_number: .post_number, category: .category_id, private: (if .topic_archetype == "private_message" then true else null end)}
};

def post($event):
  if $event == "post_destroyed" then {kind: "delete", key: .id}
  elif (.user_id | isnumber and . < 1) or (.post_type != null and .post_type != 1) then ignored("system")
  elif $event == "post_edited" then
    content + {kind: "edit", revision: (.version // .updated_at), edited_at: (.updated_at | str | time_iso)}
  elif $event == "post_recovered" then ignored("recovered")
  else content + {kind: "message"} end;

if isobject | not then ignored("unsupported_kind")
elif .ping != null then ignored("ping")
elif .post | isobject then .post | post($headers["x-discourse-event"] // "post_created")
else ignored("unsupported_kind") end
