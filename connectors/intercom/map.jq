# Intercom's webhooks: a topic, and under data.item the conversation with the parts that are new.

def str: if isstring and . != "" then . else null end;
def obj: if isobject then . else {} end;
def rows: if isarray then .[] | objects else empty end;
def id: if isnumber or (isstring and . != "") then tostring else null end;
def seconds: if isnumber or isstring then time_s else null end;

def person: obj | (.email | str | email_addr) as $email
  | if (.id | id) == null then null else {
      address: "intercom:\(.id)", name: (.name | str),
      also: (if $settings.trust_emails and .type == "user" and $email then ["email:\($email)"] else [] end)
    } end;

def customer($item): first($item.contacts | obj | .contacts | rows | .id | id | values) // null;

# What all messages of a conversation share.
def common($event; $item): {
  kind: "message", delivery_key: ($event.id | id), account: ($event.app_id | id),
  conversation: $item.id, thread: $item.id, direct: true,
  subject: ($item.title // ($item.source | obj | .subject) | str | html_text)
};

# What was said (the input) by its author.
def said($event; $item; $key; $at):
  (.author | obj) as $author | [.attachments | rows | {url: (.url | str), name: (.name | str), type: (.content_type | str),
    bytes: (if .filesize | isnumber and . >= 0 then .filesize | floor else null end)}] as $files
  | if $author.type == "bot" or $author.type == "team" or $author.from_ai_agent == true then ignored("bot")
    elif (.body | str) == null and $files == [] then ignored("state_change")
    else common($event; $item) + {
      key: [$key, .id], external_id: (.id | id),
      from: ($author | person),
      to: (if $author.type == "admin" then customer($item) | if . then [{address: "intercom:\(.)"}] else null end else null end),
      direction: (if $author.type == "admin" then "outbound" else "inbound" end),
      html: (.body | str), attachments: $files, sent_at: ($at | seconds),
      extra: {email: (if $author.type == "admin" then null else $author.email | str end), role: ($author.type | str)}
    } end;

def part($event; $item):
  if .redacted == true then
    {kind: "delete", delivery_key: ($event.id | id), account: ($event.app_id | id), key: ["part", .id], external_id: (.id | id)}
  elif .part_type | str // "" | startswith("note") then ignored("internal_note")
  else said($event; $item; "part"; .created_at) end;

def rating($event; $item): .created_at as $at | (.contact | obj | .id | id) // customer($item) | . as $who | $item.conversation_rating
  | common($event; $item) + {
    key: ["rating", $item.id, ($at | id) // "once"],
    from: (if $who then {address: "intercom:\($who)"} else null end),
    message_kind: "survey",
    feedback: {metric: "csat", score: (.rating | numbers), scale: [1, 5], comment: (.remark | str)},
    text: (.remark | str), sent_at: ($at | seconds)
  };

def parts($event; $item): [if $item.type == "conversation_part" then $item else $item.conversation_parts | obj | .conversation_parts | rows end]
  | if . == [] then ignored("empty") else .[] | part($event; $item) end;

if isobject | not then ignored("unsupported_kind")
else . as $event | (.topic | str // "") as $topic | (.data | obj | .item | obj) as $item
  | if $topic == "ping" then ignored("ping")
    elif $topic == "conversation.user.created" or $topic == "conversation.admin.single.created" then
      $item.source | obj | said($event; $item; "source"; $item.created_at)
    elif $topic == "conversation.rating.added" and ($item.conversation_rating | isobject and (.rating | isnumber)) then
      $item.conversation_rating | rating($event; $item)
    elif $topic | startswith("conversation.user.") or startswith("conversation.admin.") or . == "conversation_part.redacted" then
      parts($event; $item)
    elif $topic | startswith("conversation") then ignored("state_change")
    else ignored("unsupported_kind") end
end
