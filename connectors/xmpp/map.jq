# XMPP: one message stanza.

def bare: split("/") | .[0];
def resource: split("/") | if .[1] then .[1:] | join("/") else null end;

# Who in a room gives the id: the room itself.
def stanza_id($by): first([.["stanza-id"]] | flatten | .[] | objects | select(.["@by"] == $by) | .["@id"]) // null;

def delay: first([.delay] | flatten | .[] | objects | .["@stamp"]) // null;

def body: first([.body] | flatten | .[] | if isobject then .["#text"] else . end | values | select(. != "")) // null;

# What an archive (XEP-0313) gives is the message it kept, with the time it came and the id it has there. Anybody can write such a stanza: only our own
# archive and that of the room where it was said may speak for others.
def keeps($by; $said): $by == "" or $by == ($settings.jid | bare) or any($settings.own[]; . == $by) or $by == $said;

def unwrapped: if .result | isobject then
    (.["@from"] // "") as $from | .result["@id"] as $id | .result.forwarded | .delay as $delay | (.message | objects // {})
    | if keeps($from | bare // ""; .["@from"] // "" | bare) then . + {delay: $delay, "stanza-id": [.["stanza-id"], {"@by": $from, "@id": $id}]}
      else {"@from": $from} end
  else . end;

# The id of a stanza: the room's, or the sender's, or that of our own archive.
def id($by): stanza_id($by) // .["@id"] // first([.["stanza-id"]] | flatten | .[] | objects | .["@id"] | values) // null;

def ours($from; $bare; $room): any($settings.own[]; . == $from or . == $bare) or $bare == $settings.jid
  or ($room and ($from | resource) == (if $settings.nick == "" then $settings.jid | split("@") | .[0] else $settings.nick end) and $settings.jid != "");

(.message | if isobject then unwrapped else null end) as $stanza
| if $stanza | isobject | not then ignored("unsupported_kind")
  else $stanza | (.["@type"] == "groupchat") as $room | (.["@from"] // "") as $from | ($from | bare) as $bare
    | if ours($from; $bare; $room) then ignored("own_echo")
      elif .retract then {kind: "delete", key: [$bare, .retract["@id"]]}
      elif body == null then ignored("state")
      else {
        key: [$bare, if .replace then .replace["@id"] else id($bare) end],
        external_id: (if .replace then .replace["@id"] else id($bare) end), conversation: $bare,
        from: {address: "xmpp:\(if $room then $from else $bare end)", handle: (if $room then $from | resource else null end)},
        text: body, in_reply_to: (if .reply["@id"]? then [$bare, .reply["@id"]] else null end), direct: ($room | not)
      } + (if .replace then {kind: "edit", revision: id($bare)} else {kind: "message", sent_at: delay} end) end
  end
