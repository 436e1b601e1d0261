# Feeds as JSON: an element with attributes is an object ("@name", "#text"), one that comes again a list. Atom, RSS 2.0 and RSS 1.0.

def all: if . == null then empty elif isarray then .[] else . end;
def words: if isstring then . elif isobject then ."#text" | if isstring then . else null end else null end
  | if . == null then null else gsub("^\\s+|\\s+$"; "") | if . == "" then null else . end end;
def one_of(f): first(f | all | words | values) // null;
def moment: if . == null then null else . as $text | ($text | time_iso) // ($text | time_rfc2822) end;

# Plain text of a title or body: Atom says of what type it is, RSS mixes.
def plain: if . == null then null else html_text end;

def size: if isstring then (tonumber? // null) else null end | if . == null or . < 0 then null else floor end;

def person: one_of(.author | all | objects | .name), one_of(.creator), one_of(.author | all | strings) | values;

def author: first(person) // null
  | if . == null then null else {address: "rss:\(.[0:200] | gsub("\\s+"; " "))", name: .} end;

# Links of an entry: the page it is about, and its files.
def page: (first(.link | all | objects | select(."@rel" == null or ."@rel" == "alternate") | ."@href" | strings) // null) // one_of(.link);

def files: [(.enclosure | all | objects | {url: ."@url", type: ."@type", bytes: (."@length" | size)}),
    (.link | all | objects | select(."@rel" == "enclosure") | {url: ."@href", type: ."@type", bytes: (."@length" | size)}),
    (.content | all | objects | select(."@url" != null and ."@src" == null) | {url: ."@url", type: ."@type", bytes: (."@fileSize" | size)})]
  | map(select(.url | isstring) | . + {name: (.url | split("?") | first | split("/") | last)});

def body: one_of(.encoded) // one_of(.content | all | select((isobject and ."@url" != null) | not)) // one_of(.description) // one_of(.summary);

def entry($feed): . as $entry | (one_of(.title) | plain) as $title | body as $body | page as $page
  | ((one_of(.id) // one_of(.guid)) // (."@about" // $page)) as $id
  | {
    kind: "message",
    key: (if $id == null then ["hash", $feed, ([$title, $body] | tojson | sha256)] else [$feed, $id] end),
    external_id: $id,
    from: author,
    subject: $title,
    text: ([$title, ($body | plain) | values | select(. != "")] | join("\n\n")),
    html: $body,
    attachments: files,
    url: $page,
    sent_at: (one_of(.published, .pubDate, .date, .updated) | moment),
    extra: {feed: $feed, categories: ([.category | all | if isobject then ."@term" // ."#text" else . end | strings] | if . == [] then null else . end),
      comments: one_of(.comments)}
  };

# The feed's own id scopes the ids of its entries.
def feed($about): (one_of($about.id) // (first($about.link | all | objects | select(."@rel" == "self") | ."@href" | strings) // null)
  // one_of($about.link) // "feed");

def entries($about; f): feed($about) as $feed | [f | all | objects] | if . == [] then ignored("empty") else .[] | entry($feed) end;

if .feed | isobject then .feed | entries(.; .entry)
elif .rss | isobject then .rss.channel | if isobject then entries(.; .item) else ignored("unsupported_kind") end
elif .RDF | isobject then .RDF | entries(if .channel | isobject then .channel else {} end; .item)
else ignored("unsupported_kind") end
