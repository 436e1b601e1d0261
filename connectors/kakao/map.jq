# KakaoTalk: a call of a skill server. It has no id and no time, so there is no key: the same words shortly after are a repetition.

# What is there, whatever came: an object, a text. The platform's odd payloads become missing fields, not failures.
def object: if type == "object" then . else {} end;
def word: if type == "string" and . != "" or type == "number" then tostring else null end;

# A picture comes as an utterance that is its address, and once more as a medium. No two have the same address, so it is their key.
def media_type: if . == "image" then "image/jpeg" elif . == "video" then "video/mp4" else null end;

def said: (.userRequest | object) as $request | ($request.user | object) as $user | ($user.id | word) as $id
  | ($request.params | object | .media | object) as $media | ($media.url | word) as $url | {
    kind: "message",
    key: (if $url then ["media", ($url | sha256)] else null end),
    from: (if $id then {address: "kakao:\($id)"} else null end),
    conversation: $id,
    text: ($request.utterance | word | if . == null or . == $url then null else rtrimstr("\n") end),
    attachments: (if $url then [{url: $url, type: ($media.type | media_type)}] else [] end),
    # The builder writes the country, not the language.
    language: ($request.lang | word | if . == "kr" then "ko" else . end),
    direct: true,
    extra: {
      bot: (.bot | object | .name | word),
      block: ($request.block | object | .name | word),
      channel_user: ($user.properties | object | .plusfriendUserKey | word),
      timezone: ($request.timezone | word)
    }
  };

object
| if .userRequest | type != "object" then ignored("unsupported_kind")
  elif .userRequest | object | .params | object | .surface == "BuilderBotTest" then ignored("test")
  else said end
