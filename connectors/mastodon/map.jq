# Notifications of Mastodon's API: a page of them, or one as its streaming sends it (JSON inside of a text).

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;
def id: if isnumber or (isstring and . != "") then tostring else null end;

def files: [.media_attachments | rows
  | {id: (.id | id), url: (.url | str), name: (.url | str | if . then split("?") | first | split("/") | last else null end)}];

def status($account): ($account.id | id) as $who | ($account.acct | str) as $acct | (.visibility == "direct") as $direct | {
  kind: "message",
  key: .id,
  conversation: (if $direct then $who // .id else "posts" end),
  in_reply_to: (.in_reply_to_id | id),
  from: (if $who then {address: "mastodon:\($who)", name: ($account.display_name | str), handle: $acct, avatar_url: ($account.avatar | str)} else null end),
  direction: (if any($settings.agents[]; . == $acct) then "outbound" else "inbound" end),
  subject: (.spoiler_text | str),
  html: (.content | str),
  attachments: files,
  language: (.language | str),
  url: ((.url | str) // (.uri | str)),
  sent_at: (.created_at | str | time_iso),
  direct: $direct,
  edited: (.edited_at != null),
  extra: {visibility: (.visibility | str), pictures: ([.media_attachments | rows | .description | str | values] | if . == [] then null else . end)}
};

def notification: (.account | obj) as $account
  | if .type != "mention" or (.status | isobject | not) then ignored("unsupported_kind")
    elif $account.bot == true and ($settings.bots | not) then ignored("bot")
    else .status | status($account) end;

if isarray then [rows] | if . == [] then ignored("empty") else .[] | notification end
elif isobject and .event == "notification" then .payload // .data | str // "null" | (try fromjson catch null) | obj | notification
elif isobject and (.account | isobject) then notification
else ignored("unsupported_kind") end
