//! HubSpot and Salesforce.

use serde_json::{Value, json};

use super::told::{Hand, List, Page, Row, Told, count, iso, iso_offset, ms_of};
use super::{Answer, Ask, Entry, Room, System, Ticket, answer, decoded, fields, number, only, text};

pub struct HubSpot;
pub struct Salesforce;

fn word(id: &str) -> u64 {
    id.parse().unwrap_or(0)
}

fn hub_error(status: u16, category: &str, words: &str) -> Answer {
    answer(status, json!({"status": "error", "message": words, "category": category, "correlationId": "c"}))
}

/// A search for what has this property since a moment, the newest first.
fn hub_search(ask: &Ask, property: &str, also: usize) -> Result<Option<List>, String> {
    let body = ask.json()?;
    only(&body, "", &["filterGroups", "sorts", "properties", "limit", "after"])?;
    let filters = body["filterGroups"][0]["filters"].as_array().ok_or("filters")?;
    if filters.len() != 1 + also || filters[0]["propertyName"] != property || filters[0]["operator"] != "GTE" {
        return Err("filters".into());
    }
    if body["sorts"] != json!([{"propertyName": property, "direction": "DESCENDING"}]) || body["properties"].as_array().is_none() {
        return Err("sorts or properties".into());
    }
    let since_ms = text(&filters[0], "/value")?.parse().map_err(|_| "value")?;
    let skip = body["after"].as_str().map_or(Ok(0), |after| count(after, 0))?;
    Ok(Some(List { since_ms, newest_first: true, indexed: true, skip, take: number(&body, "/limit")? as usize, ..List::default() }))
}

fn hub_page(page: &Page) -> Value {
    let paging = page.next().map(|next| json!({"next": {"after": next.to_string()}}));
    json!({"total": page.total, "results": page.rows, "paging": paging})
}

fn hub_ticket(ticket: &Ticket) -> Option<Value> {
    let closed = ticket.is_done().then(|| iso(ticket.state_ms));
    Some(json!({"id": ticket.id.to_string(), "properties": {"hs_pipeline_stage": ticket.pick(["1", "2", "4", "4"]), "closed_date": closed,
        "hs_lastmodifieddate": iso(ticket.updated_ms), "hs_merged_object_ids": null}}))
}

/// Mails are what agents and customers write to each other in HubSpot.
fn hub_mail(_: &Ticket, entry: &Entry) -> Option<Value> {
    let direction = match entry.hand {
        Hand::Agent if entry.public => "EMAIL",
        Hand::Customer => "INCOMING_EMAIL",
        _ => return None,
    };
    Some(
        json!({"id": entry.id.to_string(), "properties": {"hs_email_direction": direction, "hs_email_status": "SENT", "hs_email_text": entry.text,
        "hs_email_html": null, "hs_email_from_firstname": "Marc", "hs_email_from_lastname": "Agent", "hubspot_owner_id": "71",
        "hs_timestamp": iso(entry.at_ms), "hs_createdate": iso(entry.at_ms)}}),
    )
}

fn hub_note(_: &Ticket, entry: &Entry) -> Option<Value> {
    let noted = entry.hand == Hand::Gateway || entry.hand == Hand::Agent && !entry.public;
    noted.then(|| {
        json!({"id": entry.id.to_string(), "properties": {"hs_note_body": entry.text, "gateway_message": entry.ours, "hubspot_owner_id": "71",
            "hs_timestamp": iso(entry.at_ms), "hs_createdate": iso(entry.at_ms)}})
    })
}

/// One mail or note, with its tickets.
fn hub_one(ask: &Ask) -> Result<Option<List>, String> {
    if !ask.q("idProperty").is_empty() {
        return Ok(None);
    }
    if ask.q("associations") != "tickets" {
        return Err("associations".into());
    }
    Ok(Some(List { entry: Some(word(&ask.path[4])), ..List::default() }))
}

fn hub_joined(ticket: &Ticket, entry: &Entry) -> Option<Value> {
    let tickets = json!({"results": [{"id": ticket.id.to_string(), "type": "email_to_ticket"}]});
    Some(json!({"id": entry.id.to_string(), "properties": {}, "associations": {"tickets": tickets}}))
}

const ONE: fn(&Page) -> Value = |page| page.rows.first().cloned().unwrap_or_default();

static HUBSPOT: [Told; 5] = [
    Told {
        method: "POST",
        path: "crm/v3/objects/tickets/search",
        list: |ask| hub_search(ask, "hs_lastmodifieddate", 1),
        row: Row::Ticket(hub_ticket),
        answer: hub_page,
    },
    Told {
        method: "POST",
        path: "crm/v3/objects/emails/search",
        list: |ask| hub_search(ask, "hs_createdate", 0),
        row: Row::Entry(hub_mail),
        answer: hub_page,
    },
    Told {
        method: "POST",
        path: "crm/v3/objects/notes/search",
        list: |ask| hub_search(ask, "hs_createdate", 0),
        row: Row::Entry(hub_note),
        answer: hub_page,
    },
    Told { method: "GET", path: "crm/v3/objects/emails/*", list: hub_one, row: Row::Entry(hub_joined), answer: ONE },
    Told { method: "GET", path: "crm/v3/objects/notes/*", list: hub_one, row: Row::Entry(hub_joined), answer: ONE },
];

impl System for HubSpot {
    fn name(&self) -> &'static str {
        "hubspot"
    }
    fn settings(&self, url: &str) -> Value {
        json!({"url": url, "portal": "77"})
    }
    fn secret(&self) -> (&'static str, &'static str) {
        ("access_token", "hs-secret-75")
    }
    fn proven(&self, ask: &Ask, _: &Room) -> bool {
        ask.header("authorization") == "Bearer hs-secret-75"
    }
    fn denied(&self) -> Answer {
        hub_error(401, "INVALID_AUTHENTICATION", "Authentication credentials not found.")
    }
    fn busy(&self) -> Answer {
        hub_error(429, "RATE_LIMITS", "You have reached your ten_secondly_rolling limit.").with("x-hubspot-ratelimit-remaining", 0)
    }
    fn hides_notes(&self) -> bool {
        false
    }
    fn patience_s(&self) -> u64 {
        10
    }
    fn refused(&self, words: &str) -> Answer {
        hub_error(400, "VALIDATION_ERROR", words)
    }
    fn fields(&self) -> &'static [&'static str] {
        &["property of tickets", "property of notes"]
    }
    fn told(&self) -> &'static [Told] {
        &HUBSPOT
    }
    fn answer(&self, ask: &Ask, room: &mut Room) -> Result<Answer, String> {
        let (method, path) = ask.line();
        let missing = || hub_error(404, "OBJECT_NOT_FOUND", "Object not found.");
        match (method.as_str(), path.as_slice()) {
            ("GET", ["account-info", "v3", "details"]) => Ok(answer(200, json!({"portalId": 77}))),
            ("GET", ["crm", "v3", "properties", _, name]) => Ok(match room.has_field(name) {
                true => answer(200, json!({"name": name, "hasUniqueValue": true})),
                false => missing(),
            }),
            ("POST", ["crm", "v3", "properties", "tickets" | "notes"]) => {
                let body = ask.json()?;
                only(&body, "", &["name", "label", "groupName", "type", "fieldType", "hasUniqueValue"])?;
                room.made.insert(text(&body, "/name")?);
                Ok(answer(201, json!({"name": body["name"]})))
            }
            ("PATCH", ["crm", "v3", "objects", "tickets", id]) => {
                if ask.json()? != json!({"properties": {"hs_pipeline_stage": "1"}}) {
                    return Err("not opened".into());
                }
                room.reopen(word(id))?;
                Ok(answer(200, json!({"id": id})))
            }
            ("POST", ["crm", "v3", "objects", "tickets", "batch", "upsert"]) => {
                let body = ask.json()?;
                only(&body, "/inputs/0", &["idProperty", "id", "properties"])?;
                let input = &body["inputs"][0];
                only(input, "/properties", &["subject", "content", "hs_pipeline", "hs_pipeline_stage", "gateway_conversation"])?;
                let external = text(input, "/id")?;
                if text(input, "/idProperty")? != "gateway_conversation" || text(input, "/properties/gateway_conversation")? != external {
                    return Err("idProperty".into());
                }
                let before = text(input, "/properties/content")?.split("goes on from ticket ").nth(1).map(str::to_owned);
                let id = match room.with(&external, false).first() {
                    Some(ticket) => ticket.id,
                    None => {
                        let ticket = room.open(&external, &text(input, "/properties/subject")?);
                        ticket.before = before;
                        ticket.id
                    }
                };
                Ok(answer(200, json!({"status": "COMPLETE", "results": [{"id": id.to_string()}]})))
            }
            ("GET", ["crm", "v3", "objects", "tickets", id]) => Ok(match room.there(word(id)) {
                None => missing(),
                Some(ticket) => {
                    let stage = ticket.pick(["1", "2", "4", "4"]);
                    let id = ticket.merged.unwrap_or(ticket.id).to_string();
                    answer(200, json!({"id": id, "archived": false, "properties": {"hs_pipeline_stage": stage}}))
                }
            }),
            ("POST", ["files", "v3", "files"]) => {
                let (values, mut files) = fields(ask.parts()?, &["file", "folderPath", "options"])?;
                if serde_json::from_str::<Value>(&values["options"]).ok().is_none_or(|options| options["access"] != "PRIVATE") {
                    return Err("files must be private".into());
                }
                let token = room.id().to_string();
                room.keep(&token, files.pop().ok_or("no file")?);
                Ok(answer(201, json!({"id": token})))
            }
            ("POST", ["crm", "v3", "objects", "notes"]) => {
                let body = ask.json()?;
                only(&body, "/properties", &["hs_timestamp", "hs_note_body", "gateway_message", "hs_attachment_ids"])?;
                if text(&body, "/properties/hs_note_body")?.chars().count() > 65_536 {
                    return Ok(self.refused("hs_note_body is too long"));
                }
                text(&body, "/properties/hs_timestamp")?;
                let ours = text(&body, "/properties/gateway_message")?;
                if room.tickets.iter().flat_map(|ticket| &ticket.entries).any(|entry| entry.ours == ours) {
                    return Ok(hub_error(400, "VALIDATION_ERROR", "gateway_message: another note already has that value"));
                }
                if number(&body, "/associations/0/types/0/associationTypeId")? != 228 {
                    return Err("associationTypeId".into());
                }
                let ticket = word(&text(&body, "/associations/0/to/id")?);
                if room.there(ticket).is_none() {
                    return Ok(missing());
                }
                let tokens = body.pointer("/properties/hs_attachment_ids").and_then(Value::as_str).unwrap_or_default();
                let tokens: Vec<String> = tokens.split(';').filter(|token| !token.is_empty()).map(str::to_owned).collect();
                let files = room.take_uploads(&tokens)?;
                let entry = Entry { ours, text: text(&body, "/properties/hs_note_body")?, customer: true, files, ..Entry::default() };
                Ok(answer(201, json!({"id": room.write(ticket, entry)?.to_string()})))
            }
            ("GET", ["crm", "v3", "objects", "notes", ours]) => {
                if ask.q("idProperty") != "gateway_message" {
                    return Err("idProperty".into());
                }
                let found = room.tickets.iter().flat_map(|ticket| &ticket.entries).find(|entry| entry.ours == *ours);
                Ok(found.map_or_else(missing, |entry| answer(200, json!({"id": entry.id.to_string()}))))
            }
            _ => Err("unknown call".into()),
        }
    }
}

fn sf_error(status: u16, code: &str, words: &str) -> Answer {
    answer(status, json!([{"message": words, "errorCode": code, "fields": []}]))
}

/// What stands in quotes behind `field = `.
fn quoted<'a>(soql: &'a str, field: &str) -> Option<&'a str> {
    soql.split(&format!("{field} = '")).nth(1)?.split('\'').next()
}

/// Our id of a file stands behind its name.
const FILE_ID: char = '\u{1f}';

/// SOQL for what changed in `object`, from old to new, behind the last row of the page before.
fn force_changes(ask: &Ask, verb: &str, object: &str, ours: &str) -> Result<Option<List>, String> {
    let body = ask.json()?;
    let url = text(&body, "/compositeRequest/0/url")?;
    let url = url::Url::parse(&format!("http://fake{url}")).map_err(|error| error.to_string())?;
    let soql = url.query_pairs().find(|(name, _)| name == "q").ok_or("no query")?.1.into_owned();
    let Some((_, rest)) = soql.split_once(&format!(" FROM {object} WHERE {ours} != null AND ")) else { return Ok(None) };
    if !url.path().ends_with(&format!("/{verb}")) {
        return Err("query or queryAll".into());
    }
    let rest = rest.strip_suffix(" ORDER BY SystemModstamp, Id LIMIT 200").ok_or("order or limit")?;
    let list = List { unit_ms: 1000, take: 200, ..List::default() };
    if let Some(since) = rest.strip_prefix("SystemModstamp >= ") {
        return Ok(Some(List { since_ms: ms_of(since)?, ..list }));
    }
    let at = rest.strip_prefix("(SystemModstamp > ").and_then(|rest| rest.split(' ').next()).ok_or("since")?;
    let id = quoted(&rest.replace("Id > '", "Id = '"), "Id").map(word).ok_or("no id")?;
    if rest != format!("(SystemModstamp > {at} OR (SystemModstamp = {at} AND Id > '{}'))", force_id(id)) {
        return Err(format!("since {rest}"));
    }
    Ok(Some(List { behind: Some((ms_of(at)?, id)), ..list }))
}

/// Ids are compared as texts: all of one length.
fn force_id(id: u64) -> String {
    id.to_string()
}

/// Whole seconds.
fn stamp(ms: i64) -> String {
    iso_offset(ms - ms.rem_euclid(1000))
}

fn force_case(ticket: &Ticket) -> Option<Value> {
    let master = ticket.merged.map(|id| id.to_string());
    Some(json!({"Id": force_id(ticket.id), "Status": ticket.pick(["New", "On Hold", "Closed", "Closed"]), "IsClosed": ticket.is_done(),
        "ClosedDate": ticket.is_done().then(|| stamp(ticket.state_ms)), "IsDeleted": master.is_some(), "MasterRecordId": master,
        "SystemModstamp": stamp(ticket.updated_ms)}))
}

fn force_mail(ticket: &Ticket, entry: &Entry) -> Option<Value> {
    let incoming = entry.customer;
    (incoming || entry.hand == Hand::Agent && entry.public).then(|| {
        json!({"Id": force_id(entry.id), "ParentId": force_id(ticket.id), "Incoming": incoming, "Status": if incoming { "0" } else { "3" },
            "FromName": "Marc Agent", "HtmlBody": null, "TextBody": entry.text, "MessageDate": stamp(entry.at_ms), "CreatedDate": stamp(entry.at_ms),
            "MessageIdentifier": format!("<{}@gateway>", entry.ours), "CreatedById": "005A", "SystemModstamp": stamp(entry.at_ms)})
    })
}

fn force_comment(ticket: &Ticket, entry: &Entry) -> Option<Value> {
    let by = json!({"Name": "Marc Agent", "UserType": "Standard"});
    (!entry.customer && !entry.public).then(|| {
        json!({"Id": force_id(entry.id), "ParentId": force_id(ticket.id), "IsPublished": false, "CommentBody": entry.text,
            "CreatedDate": stamp(entry.at_ms), "CreatedById": "005A", "CreatedBy": by, "SystemModstamp": stamp(entry.at_ms)})
    })
}

const COMPOSITE: fn(&Page) -> Value = |page| {
    let body = json!({"totalSize": page.rows.len(), "done": true, "records": page.rows});
    json!({"compositeResponse": [{"httpStatusCode": 200, "referenceId": "news", "body": body}]})
};

static SALESFORCE: [Told; 3] = [
    Told {
        method: "POST",
        path: "services/data/v61.0/composite",
        list: |ask| force_changes(ask, "queryAll", "Case", "Gateway_Conversation__c"),
        row: Row::Ticket(force_case),
        answer: COMPOSITE,
    },
    Told {
        method: "POST",
        path: "services/data/v61.0/composite",
        list: |ask| force_changes(ask, "query", "EmailMessage", "Parent.Gateway_Conversation__c"),
        row: Row::Entry(force_mail),
        answer: COMPOSITE,
    },
    Told {
        method: "POST",
        path: "services/data/v61.0/composite",
        list: |ask| force_changes(ask, "query", "CaseComment", "Parent.Gateway_Conversation__c"),
        row: Row::Entry(force_comment),
        answer: COMPOSITE,
    },
];

impl Salesforce {
    fn query(soql: &str, room: &Room) -> Result<Value, String> {
        if let Some(id) = soql.strip_prefix("SELECT Id FROM EmailMessage").and_then(|rest| quoted(rest, "MessageIdentifier")) {
            let ours = id.strip_prefix('<').and_then(|id| id.strip_suffix("@gateway>")).ok_or("MessageIdentifier")?;
            let parent = word(quoted(soql, "ParentId").ok_or("ParentId")?);
            let found =
                room.there(parent).into_iter().flat_map(|ticket| &ticket.entries).filter(|entry| entry.customer && entry.ours == ours);
            return Ok(json!({"records": found.map(|entry| json!({"Id": entry.id.to_string()})).collect::<Vec<_>>()}));
        }
        if soql.starts_with("SELECT Id, CommentBody FROM CaseComment") {
            let parent = word(quoted(soql, "ParentId").ok_or("ParentId")?);
            let found = room.there(parent).into_iter().flat_map(|ticket| &ticket.entries).filter(|entry| !entry.customer);
            let one = |entry: &Entry| json!({"Id": entry.id.to_string(), "CommentBody": entry.text});
            return Ok(json!({"records": found.map(one).collect::<Vec<_>>()}));
        }
        if let Some(id) = soql.strip_prefix("SELECT Id FROM ContentVersion").and_then(|rest| quoted(rest, "Gateway_File__c")) {
            let files = room.tickets.iter().flat_map(|ticket| &ticket.entries).flat_map(|entry| &entry.files);
            let found = files.filter(|(name, _)| name.ends_with(&format!("{FILE_ID}{id}")));
            return Ok(json!({"records": found.map(|_| json!({"Id": "068"})).collect::<Vec<_>>()}));
        }
        Err(format!("unknown query {soql}"))
    }

    fn child(kind: &str, ask: &Ask, room: &mut Room) -> Result<Answer, String> {
        let body = ask.json()?;
        let at = if kind == "ContentVersion" { "/FirstPublishLocationId" } else { "/ParentId" };
        let ticket = word(&text(&body, at)?);
        if room.there(ticket).is_none() {
            return Ok(sf_error(404, "ENTITY_IS_DELETED", "entity is deleted"));
        }
        let id = match kind {
            "EmailMessage" => {
                let known = [
                    "ParentId",
                    "Incoming",
                    "Status",
                    "FromAddress",
                    "FromName",
                    "Subject",
                    "HtmlBody",
                    "TextBody",
                    "MessageDate",
                    "MessageIdentifier",
                ];
                only(&body, "", &known)?;
                let ours = text(&body, "/MessageIdentifier")?;
                let ours = ours.strip_prefix('<').and_then(|id| id.strip_suffix("@gateway>")).ok_or("MessageIdentifier")?.to_owned();
                if body["Incoming"] != true || text(&body, "/Status")? != "0" || !text(&body, "/FromAddress")?.contains('@') {
                    return Err("an email that did not come in".into());
                }
                text(&body, "/MessageDate")?;
                let author = Some(room.person(&text(&body, "/FromAddress")?));
                room.write(ticket, Entry { ours, text: text(&body, "/HtmlBody")?, customer: true, author, ..Entry::default() })?
            }
            "CaseComment" => {
                only(&body, "", &["ParentId", "IsPublished", "CommentBody"])?;
                let words = text(&body, "/CommentBody")?;
                if body["IsPublished"] != false || words.len() > 4_000 {
                    return Err("a comment that is published or too long".into());
                }
                let ours = words.rsplit('[').next().unwrap_or_default().trim_end_matches(']').to_owned();
                room.write(ticket, Entry { ours, text: words, ..Entry::default() })?
            }
            _ => {
                only(&body, "", &["Title", "PathOnClient", "VersionData", "FirstPublishLocationId", "Gateway_File__c"])?;
                let (_, bytes) = decoded(&json!([body]), "/PathOnClient", "/VersionData")?.remove(0);
                let name = format!("{}{FILE_ID}{}", text(&body, "/PathOnClient")?, text(&body, "/Gateway_File__c")?);
                room.attach(ticket, (name, bytes))?;
                room.id()
            }
        };
        Ok(answer(201, json!({"id": id.to_string(), "success": true, "errors": []})))
    }
}

impl System for Salesforce {
    fn name(&self) -> &'static str {
        "salesforce"
    }
    fn settings(&self, url: &str) -> Value {
        json!({"url": url, "client_id": "client-1"})
    }
    fn secret(&self) -> (&'static str, &'static str) {
        ("client_secret", "sf-secret-76")
    }
    fn proven(&self, ask: &Ask, room: &Room) -> bool {
        ask.path.get(2).is_some_and(|path| path == "token") || ask.header("authorization") == format!("Bearer sf-token-{}", room.token)
    }
    fn denied(&self) -> Answer {
        sf_error(401, "INVALID_SESSION_ID", "Session expired or invalid")
    }
    fn busy(&self) -> Answer {
        sf_error(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.").with("sforce-limit-info", "api-usage=5000/5000")
    }
    fn patience_s(&self) -> u64 {
        900
    }
    fn refused(&self, words: &str) -> Answer {
        sf_error(400, "STRING_TOO_LONG", words)
    }
    fn chars_max(&self) -> usize {
        131_072
    }
    fn fields(&self) -> &'static [&'static str] {
        &["external id of cases", "field of files"]
    }
    fn told(&self) -> &'static [Told] {
        &SALESFORCE
    }
    fn answer(&self, ask: &Ask, room: &mut Room) -> Result<Answer, String> {
        let (method, path) = ask.line();
        let rest = match path.as_slice() {
            ["services", "oauth2", "token"] => {
                let form = ask.form();
                let good = form.get("grant_type").map(String::as_str) == Some("client_credentials")
                    && form.get("client_id").map(String::as_str) == Some("client-1")
                    && form.get("client_secret").map(String::as_str) == Some("sf-secret-76");
                let refused = || answer(400, json!({"error": "invalid_client", "error_description": "invalid client credentials"}));
                return Ok(if good { answer(200, json!({"access_token": format!("sf-token-{}", room.token)})) } else { refused() });
            }
            ["services", "oauth2", "userinfo"] => return Ok(answer(200, json!({"preferred_username": "gateway"}))),
            ["services", "data", "v61.0", rest @ ..] => rest,
            _ => return Err("unknown call".into()),
        };
        match (method.as_str(), rest) {
            ("GET", ["sobjects", kind @ ("Case" | "ContentVersion"), "describe"]) => {
                let name = if *kind == "Case" { "Gateway_Conversation__c" } else { "Gateway_File__c" };
                let field = || json!({"name": name, "externalId": *kind == "Case", "unique": *kind == "Case"});
                Ok(answer(200, json!({"fields": room.has_field(name).then(field).into_iter().collect::<Vec<_>>()})))
            }
            ("POST", ["tooling", "sobjects", "CustomField"]) => {
                let body = ask.json()?;
                only(&body, "", &["FullName", "Metadata"])?;
                only(&body, "/Metadata", &["label", "type", "length", "externalId", "unique"])?;
                let name = text(&body, "/FullName")?;
                let (kind, name) = name.split_once('.').ok_or("FullName")?;
                if kind == "Case" && body["Metadata"]["unique"] != true {
                    return Err("not unique".into());
                }
                room.made.insert(name.to_owned());
                Ok(answer(201, json!({"id": "00N", "success": true})))
            }
            ("PATCH", ["sobjects", "Case", id]) => {
                if ask.json()? != json!({"Status": "New"}) {
                    return Err("not opened".into());
                }
                room.reopen(word(id))?;
                Ok(answer(204, Value::Null))
            }
            ("PATCH", ["sobjects", "Case", "Gateway_Conversation__c", external]) => {
                let body = ask.json()?;
                only(&body, "", &["Subject", "Origin", "SuppliedName", "SuppliedEmail", "SuppliedPhone", "Description"])?;
                if let Some(ticket) = room.with(external, false).first() {
                    return Ok(answer(200, json!({"id": ticket.id.to_string(), "success": true, "created": false})));
                }
                let before = text(&body, "/Description")?.split("goes on from case ").nth(1).map(str::to_owned);
                let ticket = room.open(external, &text(&body, "/Subject")?);
                ticket.before = before;
                Ok(answer(201, json!({"id": ticket.id.to_string(), "success": true, "created": true})))
            }
            ("GET", ["queryAll"]) => {
                let id = word(quoted(ask.q("q"), "WHERE Id").ok_or("unknown query")?);
                let one = |ticket: &super::Ticket| {
                    let master = ticket.merged.map(|id| id.to_string());
                    json!({"Id": ticket.id.to_string(), "IsClosed": ticket.is_done(), "IsDeleted": ticket.gone || master.is_some(), "MasterRecordId": master})
                };
                let found: Vec<Value> = room.tickets.iter().filter(|ticket| ticket.id == id).map(one).collect();
                Ok(answer(200, json!({"records": found})))
            }
            ("GET", ["query"]) => Ok(answer(200, Self::query(ask.q("q"), room)?)),
            ("POST", ["composite"]) => {
                let body = ask.json()?;
                only(&body, "", &["allOrNone", "compositeRequest"])?;
                let url = text(&body, "/compositeRequest/0/url")?;
                let url = url::Url::parse(&format!("http://fake{url}")).map_err(|error| error.to_string())?;
                let soql = url.query_pairs().find(|(name, _)| name == "q").ok_or("no query")?.1.into_owned();
                Ok(answer(200, json!({"compositeResponse": [{"httpStatusCode": 200, "body": Self::query(&soql, room)?}]})))
            }
            ("POST", ["sobjects", kind @ ("EmailMessage" | "CaseComment" | "ContentVersion")]) => Self::child(kind, ask, room),
            _ => Err("unknown call".into()),
        }
    }
}
