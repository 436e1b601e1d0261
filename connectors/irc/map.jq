# IRC: one line, with its tags (IRCv3).

# \: is a semicolon, \s a space, in the value of a tag.
def tag_text: gsub("\\\\:"; ";") | gsub("\\\\s"; " ");

def tags: if . == null then {} else [split(";")[] | capture("^(?<key>[^=]+)(=(?<value>.*))?$") | {key, value: (.value // "" | tag_text)}] | from_entries end;

# Colours and weights of mIRC.
def plain: gsub("\u0003([0-9]{1,2}(,[0-9]{1,2})?)?"; "") | gsub("[\u0002\u000f\u0011\u0016\u001d\u001e\u001f]"; "");

def words: if startswith("\u0001ACTION ") then .[8:] | rtrimstr("\u0001") else . end | plain;

(first(.text // "" | capture("^(@(?<tags>[^ ]*) +)?:(?<nick>[^ !]+)(!(?<host>[^ ]*))? +(?<command>[A-Za-z]+) +(?<target>[^ ]+) +:?(?<words>[^\r\n]*)")) // null) as $line
| if $line == null then ignored("unsupported_kind")
  else $line | (.tags | tags) as $tags | (.target | test("^[#&+!]")) as $room
    | if .command != "PRIVMSG" then if .command == "NOTICE" then ignored("notice") else ignored("unsupported_kind") end
      elif .nick == $settings.nick then ignored("own_echo")
      elif (.words | startswith("\u0001")) and (.words | startswith("\u0001ACTION ") | not) then ignored("unsupported_kind")
      else {
        kind: "message", key: ($tags.msgid // (if $tags.time then [.target, .nick, $tags.time[:19], .words] else null end)), conversation: (if $room then .target | ascii_downcase else .nick | ascii_downcase end),
        from: {address: "irc:\($tags.account // .nick)", handle: .nick}, text: (.words | words), sent_at: $tags.time, direct: ($room | not),
        in_reply_to: $tags["+draft/reply"], extra: {account: $tags.account}
      } end
  end
