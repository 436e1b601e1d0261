# Bluesky: pages of notifications, pages of the chat's log, and commits of the stream of all posts (Jetstream).

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;
def id: if isnumber or (isstring and . != "") then tostring else null end;

def ours($did): $did == $settings.own_did or any($settings.agents[], $own.did[]?; . == $did);

def pictures: [.embed | obj | (.images, (.media | obj | .images)) | rows | .image | obj
  | {id: (.ref | obj | ."$link" | str), type: (.mimeType | str), bytes: (if .size | isnumber and . >= 0 then .size | floor else null end)}];

# A post (the input is its record).
def post($uri; $did; $at): (.reply | obj) as $reply | ($reply.root | obj | .uri | str) as $root | {
  kind: "message",
  key: $uri,
  conversation: "posts",
  thread: ($root // $uri),
  in_reply_to: ($reply.parent | obj | .uri | str),
  text: (.text | str),
  attachments: pictures,
  language: (.langs | if isarray then first else null end | str),
  direction: (if ours($did) then "outbound" else "inbound" end),
  url: (if $uri and $did then ($uri | split("/") | last) as $rkey | "https://bsky.app/profile/\($did)/post/\($rkey)" else null end),
  sent_at: ($at // (.createdAt | str | time_iso))
};

def person: obj | (.did | str) as $did
  | if $did then {address: "bluesky:\($did)", name: (.displayName | str), handle: (.handle | str), avatar_url: (.avatar | str)} else null end;

def notification: (.author | obj) as $author | (.uri | str) as $uri | .reason as $reason | (.indexedAt | str | time_iso) as $at
  | if $reason != "mention" and $reason != "reply" and $reason != "quote" then ignored("unsupported_kind")
    else .record | obj | post($uri; $author.did | str; $at) + {from: ($author | person), message_kind: (if $reason == "reply" then "comment" else "mention" end)} end;

def said: (.message | obj) as $message | ($message.sender | obj | .did | str) as $did | (.convoId | id) as $convo | (."$type" | str // "")
  | if endswith("#logCreateMessage") then {
      kind: "message", key: $message.id, conversation: $convo, direct: true, message_kind: "text",
      from: (if $did then {address: "bluesky:\($did)"} else null end),
      direction: (if ours($did) then "outbound" else "inbound" end),
      text: ($message.text | str), in_reply_to: ($message.replyTo | obj | .id | id), sent_at: ($message.sentAt | str | time_iso)
    }
    elif endswith("#logDeleteMessage") then {kind: "delete", key: $message.id}
    else ignored("unsupported_kind") end;

def to_us: any(.facets | rows | .features | rows; .did == $settings.own_did)
  or ((.reply | obj | .parent | obj | .uri | str // "") | startswith("at://\($settings.own_did)/"));

def commit: (.did | str) as $did | (.time_us | if isnumber then time_us else null end) as $at | (.commit | obj)
  | "at://\($did)/\(.collection)/\(.rkey)" as $uri | (.record | obj) as $record
  | if .collection != "app.bsky.feed.post" or .operation != "create" then ignored("unsupported_kind")
    elif $settings.own_did != "" and ($record | to_us | not) then ignored("not_for_us")
    else $record | post($uri; $did; $at) + {from: (if $did then {address: "bluesky:\($did)"} else null end)} end;

if isobject | not then ignored("unsupported_kind")
elif .notifications | isarray then [.notifications | rows] | if . == [] then ignored("empty") else .[] | notification end
elif .logs | isarray then [.logs | rows] | if . == [] then ignored("empty") else .[] | said end
elif .kind == "commit" then commit
else ignored("unsupported_kind") end
