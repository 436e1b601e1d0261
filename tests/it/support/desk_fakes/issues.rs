//! GitHub issues and Jira Service Management.

use serde_json::{Value, json};

use super::told::{Hand, List, Row, Told, count, iso_offset, iso_s, ms_of};
use super::{Answer, Ask, Entry, Room, System, Ticket, answer, fields, number, only, text};

pub struct GitHub;
pub struct JiraDesk;

fn word(id: &str) -> u64 {
    id.parse().unwrap_or(0)
}

/// What stands in the last hidden mark but `skip`.
fn mark(body: &str, skip: usize) -> Option<String> {
    let marks: Vec<&str> = body.split("<!-- gw:").skip(1).filter_map(|rest| rest.split(" -->").next()).collect();
    marks.iter().rev().nth(skip).map(|mark| (*mark).to_owned())
}

/// A page of a hundred, the newest first.
fn hub_list(ask: &Ask, sort: &str) -> Result<List, String> {
    if ask.header("x-github-api-version") != "2022-11-28" || ask.header("user-agent").is_empty() {
        return Err("no version or user agent".into());
    }
    if (ask.q("sort"), ask.q("direction"), ask.q("per_page")) != (sort, "desc", "100") {
        return Err("order or page".into());
    }
    let skip = (count(ask.q("page"), 1)? - 1) * 100;
    Ok(List { newest_first: true, unit_ms: 1000, skip, take: 100, linked: true, ..List::default() })
}

fn hub_changes(ask: &Ask) -> Result<Option<List>, String> {
    if ask.q("sort") == "created" {
        return Ok(None);
    }
    if (ask.q("labels"), ask.q("state")) != ("gateway", "all") {
        return Err("labels or state".into());
    }
    Ok(Some(List { since_ms: ms_of(ask.q("since"))?, ..hub_list(ask, "updated")? }))
}

/// An issue is open, or closed for a reason.
pub fn hub_issue(ticket: &Ticket) -> Option<Value> {
    let (state, reason) = ticket.pick([("open", None), ("open", None), ("closed", Some("completed")), ("closed", Some("not_planned"))]);
    let closed = ticket.is_done().then(|| iso_s(ticket.state_ms));
    Some(
        json!({"number": ticket.id, "id": ticket.id + 1_000_000, "state": state, "state_reason": reason, "closed_at": closed, "locked": false,
        "body": format!("<!-- gw:{} -->", ticket.external), "updated_at": iso_s(ticket.updated_ms)}),
    )
}

/// A comment: all can be read by everybody, so what is not for the customer is what a machine says. The first entry is the issue's own text.
pub fn hub_comment(ticket: &Ticket, entry: &Entry) -> Option<Value> {
    if ticket.entries.first().is_some_and(|first| first.id == entry.id) {
        return None;
    }
    let (user, association) = match entry.hand {
        Hand::Gateway => (json!({"id": 41, "login": "gateway-of-acme[bot]", "type": "Bot"}), "NONE"),
        Hand::Agent if entry.public => (json!({"id": 42, "login": "marc-agent", "type": "User"}), "MEMBER"),
        Hand::Agent => (json!({"id": 43, "login": "triage-of-acme[bot]", "type": "Bot"}), "NONE"),
        Hand::Customer => (json!({"id": 44, "login": "ana-example", "type": "User"}), "NONE"),
    };
    let at = iso_s(entry.at_ms);
    Some(json!({"id": entry.id, "body": entry.text, "user": user, "author_association": association, "created_at": at, "updated_at": at,
        "issue_url": format!("https://api.github.com/repos/acme/support/issues/{}", ticket.id),
        "html_url": format!("https://github.com/acme/support/issues/{}#issuecomment-{}", ticket.id, entry.id)}))
}

static GITHUB: [Told; 2] = [
    Told {
        method: "GET",
        path: "repos/acme/support/issues",
        list: hub_changes,
        row: Row::Ticket(hub_issue),
        answer: |page| json!(page.rows),
    },
    Told {
        method: "GET",
        path: "repos/acme/support/issues/comments",
        list: |ask| hub_list(ask, "created").map(Some),
        row: Row::Entry(hub_comment),
        answer: |page| json!(page.rows),
    },
];

impl System for GitHub {
    fn name(&self) -> &'static str {
        "github"
    }
    fn settings(&self, url: &str) -> Value {
        json!({"url": url, "repository": "acme/support"})
    }
    fn secret(&self) -> (&'static str, &'static str) {
        ("token", "gh-secret-79")
    }
    fn proven(&self, ask: &Ask, _: &Room) -> bool {
        ask.header("authorization") == "Bearer gh-secret-79"
    }
    fn denied(&self) -> Answer {
        answer(401, json!({"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"}))
    }
    fn busy(&self) -> Answer {
        answer(403, json!({"message": "API rate limit exceeded"}))
            .with("x-ratelimit-remaining", 0)
            .with("x-ratelimit-reset", 1_795_338_007)
            .with("date", "Sun, 22 Nov 2026 09:00:00 GMT")
    }
    fn refused(&self, words: &str) -> Answer {
        answer(
            422,
            json!({"message": "Validation Failed", "errors": [{"resource": "Issue", "field": "title", "code": "invalid", "message": words}]}),
        )
    }
    fn harmful(&self) -> &'static [&'static str] {
        &["<script>", "@ana", "#1", "\n/close", "*now*", "![x]("]
    }
    fn chars_max(&self) -> usize {
        65_536
    }
    fn takes_files(&self) -> bool {
        false
    }
    fn told(&self) -> &'static [Told] {
        &GITHUB
    }
    fn hides_notes(&self) -> bool {
        false
    }
    /// Issues are open or closed.
    fn pends(&self) -> bool {
        false
    }
    /// GitHub knows no merging of issues.
    fn follows_merged(&self) -> bool {
        false
    }
    fn answer(&self, ask: &Ask, room: &mut Room) -> Result<Answer, String> {
        if ask.header("x-github-api-version") != "2022-11-28" || ask.header("user-agent").is_empty() {
            return Err("no version or user agent".into());
        }
        let (method, path) = ask.line();
        let rest = match path.as_slice() {
            ["repos", "acme", "support", rest @ ..] => rest,
            _ => return Err("unknown call".into()),
        };
        let gone = || answer(410, json!({"message": "This issue was deleted"}));
        match (method.as_str(), rest) {
            ("GET", []) => Ok(answer(200, json!({"full_name": "acme/support", "has_issues": true, "private": true}))),
            ("GET", ["issues"]) => {
                if ask.q("labels") != "gateway" || ask.q("state") != "all" {
                    return Err("labels or state".into());
                }
                let page = ask.q("page").parse().unwrap_or(1usize);
                let there = room.tickets.iter().filter(|ticket| !ticket.gone).rev();
                let list: Vec<Value> = there.skip((page - 1) * 100).take(100).filter_map(hub_issue).collect();
                Ok(answer(200, json!(list)))
            }
            ("POST", ["issues"]) => {
                let body = ask.json()?;
                only(&body, "", &["title", "labels", "body"])?;
                let words = text(&body, "/body")?;
                if words.chars().count() > 65_536 || body["labels"] != json!(["gateway"]) {
                    return Ok(self.refused("body is too long"));
                }
                let ticket = room.open(&mark(&words, 1).ok_or("no mark")?, &text(&body, "/title")?);
                ticket.before = words.split("Goes on from #").nth(1).map(str::to_owned);
                let (id, ours) = (ticket.id, mark(&words, 0).ok_or("no mark")?);
                room.write(id, Entry { ours, text: words, customer: true, ..Entry::default() })?;
                Ok(answer(201, json!({"number": id, "id": id + 1_000_000})))
            }
            ("GET", ["issues", id]) => Ok(match room.there(word(id)) {
                Some(ticket) => answer(200, hub_issue(ticket).unwrap_or_default()),
                None => gone(),
            }),
            ("POST", ["issues", id, "comments"]) => {
                if room.there(word(id)).is_none() {
                    return Ok(gone());
                }
                let body = ask.json()?;
                only(&body, "", &["body"])?;
                let words = text(&body, "/body")?;
                if words.chars().count() > 65_536 {
                    return Ok(self.refused("body is too long"));
                }
                let entry = Entry { ours: mark(&words, 0).ok_or("no mark")?, text: words, customer: true, ..Entry::default() };
                Ok(answer(201, json!({"id": room.write(word(id), entry)?})))
            }
            ("GET", ["issues", id, "comments"]) => {
                let entries = room.there(word(id)).map(|ticket| ticket.entries.clone()).unwrap_or_default();
                let page = ask.q("page").parse().unwrap_or(1usize);
                let one = |entry: &Entry| json!({"id": entry.id, "body": entry.text});
                Ok(answer(200, json!(entries.iter().skip(1).skip((page - 1) * 100).take(100).map(one).collect::<Vec<_>>())))
            }
            ("PATCH", ["issues", id]) if ask.json()? == json!({"state": "open"}) => {
                room.reopen(word(id))?;
                Ok(answer(200, json!({})))
            }
            ("PATCH", ["issues", id]) => {
                let body = ask.json()?;
                only(&body, "", &["state", "state_reason", "body"])?;
                if (text(&body, "/state")?, text(&body, "/state_reason")?) != ("closed".into(), "not_planned".into()) {
                    return Err("neither opened nor closed".into());
                }
                room.second_of(word(id), &text(&body, "/body")?, true)?;
                room.close_second(word(id))?;
                Ok(answer(200, json!({})))
            }
            _ => Err("unknown call".into()),
        }
    }
}

fn key(id: u64) -> String {
    format!("SUP-{id}")
}

fn of_key(key: &str) -> u64 {
    word(key.strip_prefix("SUP-").unwrap_or_default())
}

fn status(ticket: &Ticket) -> Value {
    if ticket.merged.is_some() {
        return json!({"name": "Closed", "statusCategory": {"key": "done"}});
    }
    let name = ticket.pick(["Waiting for support", "Waiting for customer", "Resolved", "Closed"]);
    json!({"name": name, "statusCategory": {"key": if ticket.is_done() { "done" } else { "indeterminate" }}})
}

/// JQL for what changed: whole minutes, counted back from now.
fn jira_changes(ask: &Ask) -> Result<Option<List>, String> {
    let body = ask.json()?;
    only(&body, "", &["jql", "fields", "maxResults", "nextPageToken"])?;
    let jql = text(&body, "/jql")?;
    let minutes =
        jql.strip_prefix("cf[10050] is not EMPTY AND updated >= \"-").and_then(|rest| rest.strip_suffix("m\" ORDER BY updated DESC"));
    let minutes: i64 = minutes.and_then(|text| text.parse().ok()).ok_or(format!("jql {jql}"))?;
    if body["fields"] != json!(["status", "statuscategorychangedate", "updated"]) {
        return Err("fields".into());
    }
    let take = number(&body, "/maxResults")?.min(100) as usize;
    let skip = body["nextPageToken"].as_str().map_or(Ok(0), |token| count(token.trim_start_matches("token-"), 0))?;
    Ok(Some(List { ago_ms: Some(minutes * 60_000), newest_first: true, indexed: true, skip, take, ..List::default() }))
}

fn jira_request(ticket: &Ticket) -> Option<Value> {
    let fields = json!({"status": status(ticket), "statuscategorychangedate": iso_offset(ticket.state_ms), "updated": iso_offset(ticket.updated_ms)});
    Some(json!({"id": ticket.id.to_string(), "key": key(ticket.id), "fields": fields}))
}

fn jira_comment(_: &Ticket, entry: &Entry) -> Option<Value> {
    let author = match entry.hand {
        Hand::Gateway => json!({"accountId": "acc-gateway", "accountType": "atlassian", "displayName": "Gateway"}),
        Hand::Agent => json!({"accountId": "acc-marc", "accountType": "atlassian", "displayName": "Marc Agent"}),
        Hand::Customer => json!({"accountId": "qm:ana", "accountType": "customer", "displayName": "Ana"}),
    };
    Some(
        json!({"id": entry.id.to_string(), "body": entry.text, "jsdPublic": entry.customer || entry.public, "author": author, "created": iso_offset(entry.at_ms)}),
    )
}

static JIRA: [Told; 2] = [
    Told {
        method: "POST",
        path: "rest/api/3/search/jql",
        list: jira_changes,
        row: Row::Ticket(jira_request),
        answer: |page| {
            let mut answer = json!({"issues": page.rows, "isLast": page.next().is_none()});
            if let Some(next) = page.next() {
                answer["nextPageToken"] = json!(format!("token-{next}"));
            }
            answer
        },
    },
    Told {
        method: "GET",
        path: "rest/api/2/issue/*/comment",
        list: |ask| {
            if ask.q("orderBy") != "-created" {
                return Err("orderBy".into());
            }
            let skip = count(ask.q("startAt"), 0)?;
            Ok(Some(List { ticket: Some(of_key(&ask.path[4])), newest_first: true, skip, take: 100, ..List::default() }))
        },
        row: Row::Entry(jira_comment),
        answer: |page| json!({"startAt": page.list.skip, "maxResults": 100, "total": page.total, "comments": page.rows}),
    },
];

impl System for JiraDesk {
    fn name(&self) -> &'static str {
        "jira-service"
    }
    fn settings(&self, url: &str) -> Value {
        json!({"url": url, "email": "gateway@example.org", "service_desk_id": "5", "request_type_id": "20", "conversation_field": 10050, "reopen_transition": "11", "close_transition": "41"})
    }
    fn secret(&self) -> (&'static str, &'static str) {
        ("api_token", "ji-secret-80")
    }
    fn proven(&self, ask: &Ask, _: &Room) -> bool {
        use base64::Engine;
        let pair = base64::engine::general_purpose::STANDARD.encode("gateway@example.org:ji-secret-80");
        ask.header("authorization") == format!("Basic {pair}")
    }
    fn denied(&self) -> Answer {
        answer(401, json!({"errorMessages": ["Client must be authenticated to access this resource."], "errors": {}}))
    }
    fn busy(&self) -> Answer {
        answer(429, json!({"errorMessages": ["Rate limit exceeded"]})).with("retry-after", 7).with("x-ratelimit-remaining", 0)
    }
    fn refused(&self, words: &str) -> Answer {
        answer(400, json!({"errorMessage": words, "i18nErrorMessage": {"i18nKey": "sd.validation", "parameters": []}}))
    }
    fn holds(&self, entry: &Entry, id: &str) -> bool {
        entry.text.replace('\\', "").contains(&format!("[{id}]"))
    }
    fn harmful(&self) -> &'static [&'static str] {
        &["[~ana]", "{code}", " *now*", "!x!"]
    }
    fn chars_max(&self) -> usize {
        32_767
    }
    fn told(&self) -> &'static [Told] {
        &JIRA
    }
    fn answer(&self, ask: &Ask, room: &mut Room) -> Result<Answer, String> {
        let (method, path) = ask.line();
        let missing =
            || answer(404, json!({"errorMessages": ["Issue does not exist or you do not have permission to see it."], "errors": {}}));
        match (method.as_str(), path.as_slice()) {
            ("GET", ["rest", "api", "2", "myself"]) => Ok(answer(200, json!({"displayName": "Gateway", "accountId": "acc-gateway"}))),
            ("GET", ["rest", "servicedeskapi", "servicedesk", "5", "requesttype", "20"]) => Ok(answer(200, json!({"name": "Question"}))),
            ("GET", ["rest", "servicedeskapi", "servicedesk", "5", "requesttype", "20", "field"]) => {
                Ok(answer(200, json!({"requestTypeFields": [{"fieldId": "customfield_10050", "name": "Gateway"}]})))
            }
            ("GET", ["rest", "api", "3", "search", "jql"]) => {
                let wanted = ask.q("jql").strip_prefix("cf[10050] ~ \"").and_then(|rest| rest.strip_suffix('"')).ok_or("jql")?.to_owned();
                // A text field is searched by its words: the ids of later tickets of the conversation hold the first one's.
                let fits =
                    |ticket: &&super::Ticket| ticket.external.starts_with(&wanted) && !ticket.gone && ticket.indexed_ms <= room.now();
                let one = |ticket: &super::Ticket| json!({"id": ticket.id.to_string(), "key": key(ticket.id), "fields": {"customfield_10050": ticket.external}});
                Ok(answer(200, json!({"issues": room.tickets.iter().filter(fits).map(one).collect::<Vec<_>>()})))
            }
            ("POST", ["rest", "servicedeskapi", "request"]) => {
                let body = ask.json()?;
                only(&body, "", &["serviceDeskId", "requestTypeId", "requestFieldValues"])?;
                only(&body, "/requestFieldValues", &["summary", "description", "customfield_10050"])?;
                if text(&body, "/serviceDeskId")? != "5" || text(&body, "/requestTypeId")? != "20" {
                    return Err("service desk or request type".into());
                }
                let summary = text(&body, "/requestFieldValues/summary")?;
                if summary.is_empty() || summary.chars().count() > 255 || summary.contains('\n') {
                    return Err("summary".into());
                }
                let ticket = room.open(&text(&body, "/requestFieldValues/customfield_10050")?, &summary);
                ticket.before = text(&body, "/requestFieldValues/description")?.split("goes on from ").nth(1).map(str::to_owned);
                Ok(answer(201, json!({"issueId": ticket.id.to_string(), "issueKey": key(ticket.id)})))
            }
            ("GET", ["rest", "api", "2", "issue", issue]) => Ok(match room.there(of_key(issue)) {
                None => missing(),
                Some(ticket) => {
                    let other = |id: u64| json!({"type": {"name": "Duplicate"}, "outwardIssue": {"key": key(id)}});
                    let links: Vec<Value> = ticket.merged.map(other).into_iter().collect();
                    answer(200, json!({"key": key(ticket.id), "fields": {"status": status(ticket), "issuelinks": links}}))
                }
            }),
            ("POST", ["rest", "api", "2", "issue", issue, "transitions"]) => {
                match ask.json()? {
                    change if change == json!({"transition": {"id": "11"}}) => room.reopen(of_key(issue))?,
                    change if change == json!({"transition": {"id": "41"}}) => room.close_second(of_key(issue))?,
                    _ => return Err("no such transition".into()),
                }
                Ok(answer(204, Value::Null))
            }
            ("POST", ["rest", "api", "2", "issueLink"]) => {
                let body = ask.json()?;
                only(&body, "", &["type", "inwardIssue", "outwardIssue"])?;
                let (from, to) = (text(&body, "/inwardIssue/key")?, text(&body, "/outwardIssue/key")?);
                room.second_of(of_key(&from), &of_key(&to).to_string(), text(&body, "/type/name")? == "Duplicate")?;
                Ok(answer(201, Value::Null))
            }
            ("POST", ["rest", "servicedeskapi", "servicedesk", "5", "attachTemporaryFile"]) => {
                if ask.header("x-atlassian-token") != "no-check" {
                    return Ok(answer(403, json!({"errorMessage": "XSRF check failed"})));
                }
                let (_, mut files) = fields(ask.parts()?, &["file"])?;
                let token = format!("temp{}", room.id());
                room.keep(&token, files.pop().ok_or("no file")?);
                Ok(answer(201, json!({"temporaryAttachments": [{"temporaryAttachmentId": token, "fileName": "x"}]})))
            }
            ("POST", ["rest", "servicedeskapi", "request", issue, kind @ ("comment" | "attachment")]) => {
                if room.there(of_key(issue)).is_none() {
                    return Ok(missing());
                }
                let body = ask.json()?;
                let customer = body["public"].as_bool().ok_or("public")?;
                let (words, files) = if *kind == "comment" {
                    only(&body, "", &["body", "public"])?;
                    (text(&body, "/body")?, Vec::new())
                } else {
                    only(&body, "", &["temporaryAttachmentIds", "public", "additionalComment"])?;
                    let tokens = body["temporaryAttachmentIds"].as_array().ok_or("temporaryAttachmentIds")?;
                    let tokens: Vec<String> = tokens.iter().filter_map(|token| token.as_str().map(str::to_owned)).collect();
                    (text(&body, "/additionalComment/body")?, room.take_uploads(&tokens)?)
                };
                if words.chars().count() > 32_767 {
                    return Ok(self.refused("The entered text is too long. It exceeds the allowed limit of 32,767 characters."));
                }
                let id = room.write(of_key(issue), Entry { text: words, customer, files, ..Entry::default() })?;
                Ok(answer(201, json!({"id": id.to_string()})))
            }
            _ => Err("unknown call".into()),
        }
    }
}
