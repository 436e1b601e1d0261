# Pages of comments as the YouTube Data API lists them: threads with their first answers, or the answers of one thread.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;
def id: if isnumber or (isstring and . != "") then tostring else null end;

# A comment (the input), in the thread of its root.
def comment($thread; $video): (.id | id) as $id | (.snippet | obj)
  | (.authorChannelId | if isobject then .value else . end | id) as $who | {
  key: $id,
  conversation: "comments",
  thread: ((.parentId | id) // $thread // $id),
  in_reply_to: (.parentId | id),
  from: (if $who then {address: "youtube:\($who)", name: (.authorDisplayName | str), avatar_url: (.authorProfileImageUrl | str)} else null end),
  direction: (if any($settings.agents[]; . == $who) then "outbound" else "inbound" end),
  text: ((.textOriginal | str) // (.textDisplay | str | html_text)),
  url: ((.videoId // $video | id) as $video | if $video and $id then "https://www.youtube.com/watch?v=\($video)&lc=\($id)" else null end),
  sent_at: (.publishedAt | str | time_iso),
  extra: {video: (.videoId // $video | id), moderation: (.moderationStatus | str)}
} + if .updatedAt != null and .updatedAt != .publishedAt
    then {kind: "edit", revision: .updatedAt, edited_at: (.updatedAt | str | time_iso)} else {kind: "message"} end;

def thread: (.id | id) as $id | (.snippet | obj) as $snippet | ($snippet.videoId | id) as $video
  | ($snippet.topLevelComment | objects | comment($id; $video)), (.replies | obj | .comments | rows | comment($id; $video));

def item: if .snippet | obj | .topLevelComment | isobject then thread else comment(null; null) end;

if isobject and (.items | isarray) then [.items | rows | item] | if . == [] then ignored("empty") else .[] end
else ignored("unsupported_kind") end
