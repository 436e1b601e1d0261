# What happened in HubSpot: tickets that changed; mails and notes that are new, each with the tickets that it belongs to in `follow`, as
# polls bring them; or events of a webhook, several at once.

def status:
  . as $stage
  | if any($settings.closed_stages[]; . == $stage) then "closed"
    elif any($settings.pending_stages[]; . == $stage) then "pending"
    else "open" end;

def ticket:
  .id as $id | .properties as $is
  | ($is.hs_pipeline_stage | status) as $state
  | {
      kind: "ticket", ticket: $id, key: "\($state) \($is.hs_lastmodifieddate)", state: $state,
      sent_at: (if $state == "closed" then ($is.closed_date // $is.hs_lastmodifieddate) else $is.hs_lastmodifieddate end)
    },
    (($is.hs_merged_object_ids // "") | split(";")[] | select(. != "")
      | {kind: "ticket", ticket: ., key: "into \($id)", state: "merged", into: $id, sent_at: $is.hs_lastmodifieddate});

# A ticket is there once for each kind of association.
def tickets: reduce .follow.associations.tickets.results[]?.id as $id ([]; . - [$id] + [$id]);

def by: {
  address: "hubspot:\(.hubspot_owner_id // "unknown")",
  name: ([.hs_email_from_firstname, .hs_email_from_lastname] | map(strings | select(. != "")) | join(" ") | if . == "" then null else . end)
};

def entry($id; $tickets): . as $is | $tickets[] | {
  kind: "entry", ticket: ., key: $id, sent_at: ($is.hs_timestamp // $is.hs_createdate), author: "agent", from: ($is | by),
  html: ($is.hs_email_html // $is.hs_note_body), text: $is.hs_email_text
};

def mail:
  .id as $id | tickets as $tickets
  | .properties
  | if .hs_email_direction == "INCOMING_EMAIL" then ignored("customer_entry")
    elif .hs_email_direction != "EMAIL" or ((.hs_email_status // "SENT") != "SENT") or $tickets == [] then ignored("not_told")
    else entry("email-\($id)"; $tickets) end;

# What the gateway wrote holds our id.
def note:
  .id as $id | tickets as $tickets
  | .properties
  | if (.[$settings.message_property] // "") != "" then ignored("own_entry")
    elif $tickets == [] then ignored("not_told")
    else entry("note-\($id)"; $tickets) end;

def changed:
  if (.subscriptionType | endswith(".propertyChange")) and .propertyName == "hs_pipeline_stage" then
    {kind: "ticket", ticket: .objectId, key: .eventId, state: (.propertyValue | status), sent_at: .occurredAt}
  else ignored("not_told") end;

if $via != "poll" then .[] | changed
else .results[] | if .properties | has("hs_pipeline_stage") then ticket elif .properties | has("hs_email_direction") then mail else note end
end
