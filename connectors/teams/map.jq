# Activities of the Bot Framework protocol, as outgoing webhooks and bots get them.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;

# A thread of a channel stands in the conversation's id: 19:…@thread.tacv2;messageid=<root>.
def place: (.conversation | obj) as $conversation | ($conversation.id | str // "" | split(";messageid=")) as $parts
  | ($conversation.conversationType == "personal" or ($conversation.isGroup == false and $parts[1] == null)) as $direct
  | {id: ($conversation.id | str), room: ($parts[0] | str), direct: $direct,
     tenant: (($conversation.tenantId | str) // (.channelData | obj | .tenant | obj | .id | str)),
     thread: ($parts[1] // (if $direct then null else $parts[0] | str end))};

# Ids of messages are unique within a conversation only.
def key($place; $id): if $place.id == null or ($id | str) == null then null else "\($place.id)|\($id)" end;

def person: obj | (.aadObjectId | str) as $object
  | if (.id | str) == null then null else {address: "teams:\(.id)", name: (.name | str), also: (if $object then ["teams:\($object)"] else [] end)} end;

# Without the mention of us (in outgoing webhooks the first one), others as @name.
def words: (.recipient | obj | .id | str) as $us
  | (first(.entities | rows | select(.type == "mention" and $us != null and (.mentioned | obj | .id) == $us) | .text | str | values) // null) as $mention
  | (.text | str // "")
  | (if $us == null then sub("^\\s*<at>[^<]*</at>"; "") elif $mention then split($mention) | join("") else . end)
  | gsub("<at[^>]*>(?<name>[^<]*)</at>"; "@\(.name)") | gsub("&nbsp;|\u00a0"; " ") | gsub("^\\s+|\\s+$"; "") | str;

def text: .textFormat as $format | words | if $format == "xml" or $format == "html" then html_text else . end;

# What a person sent: no cards, no HTML form of the text.
def files: [.attachments | rows
  | if .contentType == "application/vnd.microsoft.teams.file.download.info" then
      (.content | obj) as $file | {recipe: (if $file.downloadUrl | str then "file" else null end), id: ($file.uniqueId | str), url: (($file.downloadUrl // .contentUrl) | str), name: (.name | str)}
    elif .contentType == "text/html" or (.contentUrl | str) == null then empty
    else {recipe: (if .contentType | str // "" | startswith("image/") then "picture" else null end), url: .contentUrl, name: (.name | str), type: (.contentType | str | if . == "reference" then null else . end)} end];

def content($place): (.from | obj | .aadObjectId) as $object | key($place; .id) as $key | {
  account: $place.tenant,
  key: $key,
  conversation: $place.room,
  thread: $place.thread,
  in_reply_to: key($place; .replyToId),
  from: (.from | person),
  direction: (if any($settings.agents[]; . == $object) then "outbound" else "inbound" end),
  text: text,
  attachments: files,
  language: (.locale | str),
  sent_at: (.timestamp | str | time_iso),
  direct: $place.direct,
  extra: {team: (.channelData | obj | .team | obj | .name | str), channel: (.channelData | obj | .channel | obj | .id | str)}
};

def reactions($place): {kind: "reaction", account: $place.tenant, key: key($place; .replyToId), from: (.from | person), sent_at: (.timestamp | str | time_iso)} as $draft
  | [(.reactionsAdded | rows | $draft + {emoji: (.type | str), added: true}), (.reactionsRemoved | rows | $draft + {emoji: (.type | str), added: false})]
  | if . == [] then ignored("unsupported_kind") else .[] end;

def bot: (.from | obj) as $from | $from.role == "bot" or ($from.id != null and $from.id == (.recipient | obj | .id));

def activity: place as $place
  | if .type == "message" then
      if bot then ignored("bot") else content($place) + {kind: "message"} end
    elif .type == "messageUpdate" then
      if bot then ignored("bot") else content($place) + {kind: "edit", revision: .timestamp, edited_at: (.timestamp | str | time_iso)} end
    elif .type == "messageDelete" then {kind: "delete", account: $place.tenant, key: key($place; .id)}
    elif .type == "messageReaction" then reactions($place)
    elif .type == "conversationUpdate" or .type == "installationUpdate" then ignored("system")
    elif .type == "invoke" or .type == "event" then ignored("interaction")
    elif .type == "typing" then ignored("typing")
    else ignored("unsupported_kind") end;

if isobject then activity else ignored("unsupported_kind") end
