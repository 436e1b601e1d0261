# What happened in Salesforce: cases, mails and case comments that changed, each by a poll of its own.

def status:
  if .IsClosed then "closed" else .Status as $status | if any($settings.pending_statuses[]; . == $status) then "pending" else "open" end end;

def case:
  if .MasterRecordId then
    {kind: "ticket", ticket: .Id, key: "into \(.MasterRecordId)", state: "merged", into: .MasterRecordId, sent_at: .SystemModstamp}
  elif .IsDeleted then ignored("not_told")
  else
    status as $state
    | {
        kind: "ticket", ticket: .Id, key: "\($state) \(.SystemModstamp)", state: $state,
        sent_at: (if $state == "closed" then (.ClosedDate // .SystemModstamp) else .SystemModstamp end)
      }
  end;

# The gateway writes mails that came in; 5: a draft.
def mail:
  if .Incoming then ignored("customer_entry")
  elif .Status == "5" then ignored("not_told")
  else {
    kind: "entry", ticket: .ParentId, key: .Id, sent_at: (.MessageDate // .CreatedDate), author: "agent",
    from: {address: "salesforce:\(.CreatedById)", name: .FromName}, html: .HtmlBody, text: .TextBody
  } end;

# The gateway's own are never published.
def comment:
  if .IsPublished != true then ignored("internal_note")
  elif (.CreatedBy.UserType // "Standard") != "Standard" then ignored("customer_entry")
  else {
    kind: "entry", ticket: .ParentId, key: .Id, sent_at: .CreatedDate, author: "agent",
    from: {address: "salesforce:\(.CreatedById)", name: .CreatedBy.Name}, text: .CommentBody
  } end;

.compositeResponse[0].body.records[]
| if has("IsClosed") then case elif has("CommentBody") then comment else mail end
