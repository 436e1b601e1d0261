# What the gateway adds to jq, as plain jq where it can be, so that a map can be tried at a desk with jq 1.7 or jaq:
#
#   cat connectors/lib/omnigate.jq connectors/slack/map.jq > /tmp/map.jq
#   jq -f /tmp/map.jq --arg channel x --argjson settings '{"agents":[]}' --argjson headers '{}' --argjson query '{}' --arg via webhook --argjson own '{}' payload.json
#
# In the gateway these are native functions, and a map includes nothing. All of them give null for null.

# Times: Unix milliseconds. time_s reads seconds (numbers or text, decimals are cut), time_auto seconds or milliseconds by size.
def time_ms: if . == null then null else tonumber | floor end;
def time_s: if . == null then null else tonumber * 1000 | floor end;
def time_us: if . == null then null else tonumber / 1000 | floor end;
def time_auto: if . == null then null else tonumber | if . >= 1e12 then floor else . * 1000 | floor end end;
def time_iso: if . == null then null else sub("\\.[0-9]+"; "") | fromdateiso8601 * 1000 end;
# time_rfc2822: the date of a mail. Native only.

# Texts.
def slack_text: if . == null then null else
  gsub("<(?<to>[^<>|]*)\\|(?<label>[^<>]*)>"; if .to | test("^[@#!]") then (.to[0:1] | if . == "!" then "" else . end) + .label else "\(.label) (\(.to))" end)
  | gsub("<!(?<to>[^<>]*)>"; "@\(.to)") | gsub("<(?<to>[^<>]*)>"; .to)
  | gsub("&lt;"; "<") | gsub("&gt;"; ">") | gsub("&amp;"; "&") end;
# telegram_text(entities): writes hidden links out; their offsets count UTF-16 units. Here: the text as it is.
def telegram_text(entities): .;
# html_text, md_text: HTML and Markdown made plain. Here: roughly.
def html_text: if . == null then null else gsub("<[^>]*>"; "") end;
def md_text: if . == null then null else gsub("\\*\\*|__|`"; "") end;
# Takes mentions of these ids out.
def strip_mention(ids): if . == null then null else reduce (ids | if type == "array" then .[] else . end) as $id (.; gsub("<?@\($id)>?"; "")) end;
# utf16_slice(start; end), utf8_slice(start; end): parts by units of the platform, at whole letters. Here: by letters.
def utf16_slice(start; end): .[start:end];
def utf8_slice(start; end): .[start:end];

# Addresses: "+4915112345678", "ana@example.org", or null if it is none. phone_e164("DE") reads national numbers.
def phone_e164: if . == null then null else tostring | gsub("[^0-9]"; "") | if . == "" then null else "+\(.)" end end;
def phone_e164(region): phone_e164;
# Only its ASCII digits.
def digits: if . == null then null else tostring | gsub("[^0-9]"; "") end;
def email_addr: if . == null then null else (capture("(?<a>[^\\s<>,;]+@[^\\s<>,;]+\\.[^\\s<>,;]+)") // null) | if . then .a | ascii_downcase else null end end;

# sha256, hmac_sha256(key), hex, uuid5(namespace): native only.
def base64: if . == null then null else @base64 end;
def base64d: if . == null then null else @base64d end;

# Authentic, and nothing for a person. The code is a literal and declared in connector.toml.
def ignored(code): {kind: "ignore", code: code};
