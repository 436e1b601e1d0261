# Google Chat: events of an app, in the form of chat apps or in that of Workspace add-ons.

# What is there, whatever came: an object, a list, a text. The platform's odd payloads become missing fields, not failures.
def object: if type == "object" then . else {} end;
def list: if type == "array" then . else [] end;
def word: if type == "string" and . != "" or type == "number" then tostring else null end;

def direct: .spaceType == "DIRECT_MESSAGE" or .type == "DM" or .singleUserBotDm == true;

# Google vouches for the mail address of people of its own accounts.
def person: (.name | word) as $id | (.email | word | if . then email_addr else null end) as $email
  | if $id then {address: "google-chat:\($id)", name: (.displayName | word), avatar_url: (.avatarUrl | word), also: [$email | values | "email:\(.)"]}
    else null end;

def agent: (.name | word) as $name | (.email | word) as $email | ($settings.agents | index($name) // index($email)) != null;

def files: [.attachment | list[] | object | {
  recipe: (if .attachmentDataRef | object | .resourceName | word then "upload" else null end),
  id: ((.attachmentDataRef | object | .resourceName | word) // (.driveDataRef | object | .driveFileId | word)),
  name: .contentName | word, type: .contentType | word
}];

# Without the mention of the app, where Google has cut it out.
def words: (.argumentText | word | if . then sub("^\\s+"; "") else null end | word) // (.text | word);

# The input is the message, $space where it was written, $language of the person.
def said($space; $language): (.sender | object) as $sender | ($space | direct) as $direct
  | if $sender.type == "BOT" then ignored("bot")
    elif words == null and files == [] then ignored("unsupported_kind")
    else {
      kind: "message",
      key: .name,
      conversation: (($space.name | word) // (.space | object | .name | word) // "space"),
      thread: (if $direct then null else .thread | object | .name | word end),
      from: ($sender | person),
      direction: (if $sender | agent then "outbound" else "inbound" end),
      text: words,
      attachments: files,
      in_reply_to: (.quotedMessageMetadata | object | .name | word),
      language: $language,
      sent_at: (.createTime | word | time_iso),
      direct: $direct,
      extra: {space: ($space.displayName | word), thread: (.thread | object | .name | word)}
    } end;

# A chat app's event names its type; an add-on's has a payload named after it.
def classic: (.common | object | .userLocale | word) as $language | ((.space // (.message | object | .space)) | object) as $space
  | if (.type == "MESSAGE" or .type == "ADDED_TO_SPACE") and (.message | type == "object") then .message | said($space; $language)
    elif .type == "ADDED_TO_SPACE" or .type == "REMOVED_FROM_SPACE" then ignored("system")
    elif .type == "CARD_CLICKED" or .type == "APP_COMMAND" or .type == "WIDGET_UPDATED" or .type == "SUBMIT_FORM" then ignored("interaction")
    else ignored("unsupported_kind") end;

def add_on: (.commonEventObject | object | .userLocale | word) as $language | .chat | object
  | if .messagePayload | type == "object" then .messagePayload | ((.space // (.message | object | .space)) | object) as $space
      | .message | object | said($space; $language)
    elif .addedToSpacePayload or .removedFromSpacePayload then ignored("system")
    elif .buttonClickedPayload or .appCommandPayload or .widgetUpdatedPayload then ignored("interaction")
    else ignored("unsupported_kind") end;

object | if .chat | type == "object" then add_on else classic end
