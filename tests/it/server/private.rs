//! Facts about the private listener.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::fakes::{CONTACT, EVENT, MESSAGE, RAW, totals};
use super::{Gateway, Numbers, TOKEN, ask, send, start};

async fn get(gateway: &Gateway, path: &str) -> super::Reply {
    ask(gateway, "GET", path, "").await
}

#[tokio::test]
async fn health_needs_no_token_and_no_store() {
    let gateway = start(Numbers::default()).await;
    gateway.store.sick.store(true, Ordering::Relaxed);
    let reply = send(gateway.private, "GET /healthz HTTP/1.1", b"").await;
    assert_eq!((reply.status, reply.text()), (200, "ok\n".to_owned()));
    gateway.end().await;
}

#[tokio::test]
async fn readiness_names_its_reasons() {
    let gateway = start(Numbers::default()).await;
    let ask = || send(gateway.private, "GET /readyz HTTP/1.1", b"");
    let reply = ask().await;
    assert_eq!((reply.status, reply.json()), (200, json!({"ready": true, "reasons": [], "failed_channels": ["sick"]})));
    gateway.store.sick.store(true, Ordering::Relaxed);
    gateway.control.not_ready.store(true, Ordering::Relaxed);
    let reply = ask().await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.json()["reasons"][0], "the store cannot be written: the disk is full");
    assert_eq!(reply.json()["reasons"][1], "own ids of channel `acme-slack` are not known yet");
    gateway.store.hangs.store(true, Ordering::Relaxed);
    let reply = tokio::time::timeout(Duration::from_secs(4), ask()).await.expect("bounded");
    assert_eq!((reply.status, reply.json()["ready"].clone()), (503, json!(false)));
    gateway.end().await;
}

#[tokio::test]
async fn the_admin_api_is_closed_without_the_token() {
    let gateway = start(Numbers::default()).await;
    let wrong = [
        "",
        "authorization: Bearer wrong\r\n",
        "authorization: Bearer \r\n",
        "authorization: Bearer a-token-of-this-tes\r\n",
        "authorization: Basic YS10b2tlbi1vZi10aGlzLXRlc3Q=\r\n",
        "authorization: a-token-of-this-test\r\n",
    ];
    for line in wrong {
        for path in ["/v1/status", "/v1/openapi.json", "/v1/nothing"] {
            let reply = send(gateway.private, &format!("GET {path} HTTP/1.1\r\n{line}"), b"").await;
            assert_eq!((reply.status, reply.header("www-authenticate")), (401, "Bearer"), "{line}{path}");
            assert_eq!(reply.header("content-type"), "application/problem+json");
            assert!(!reply.text().contains(TOKEN));
        }
    }
    let reply = send(gateway.private, &format!("GET /v1/status HTTP/1.1\r\nauthorization: bearer   {TOKEN}"), b"").await;
    assert_eq!((reply.status, reply.header("cache-control")), (200, "no-store"));
    gateway.end().await;
}

#[tokio::test]
async fn status_shows_gateway_destinations_and_totals() {
    let gateway = start(Numbers::default()).await;
    let status = get(&gateway, "/v1/status").await.json();
    assert_eq!(status["channels"]["acme-slack"]["state"], "running");
    assert_eq!((status["destinations"][1]["name"].clone(), status["totals"]["due"]["desk"].clone()), (json!("desk"), json!(7)));
    assert_eq!(get(&gateway, "/v1/channels").await.json()["items"][0]["id"], "acme-slack");
    let destinations = get(&gateway, "/v1/destinations").await.json()["items"].clone();
    // `crm` has no row in the store yet: it is shown because it is configured.
    let shown = |at: usize| (destinations[at]["name"].clone(), destinations[at]["state"].clone(), destinations[at]["configured"].clone());
    assert_eq!((shown(0), shown(1)), ((json!("crm"), json!("active"), json!(true)), (json!("desk"), json!("active"), json!(true))));
    gateway.end().await;
}

#[tokio::test]
async fn a_store_that_fails_is_a_problem_document() {
    let gateway = start(Numbers::default()).await;
    gateway.store.sick.store(true, Ordering::Relaxed);
    let reply = get(&gateway, "/v1/ledger").await;
    assert_eq!((reply.status, reply.json()["code"].clone(), reply.header("retry-after")), (503, json!("unavailable"), "5"));
    gateway.end().await;
}

#[tokio::test]
async fn the_ledger_is_filtered_and_paged() {
    let gateway = start(Numbers::default()).await;
    let page = get(&gateway, "/v1/ledger?limit=1").await.json();
    assert_eq!((page["items"][0]["item"].clone(), page["next"].clone()), (json!(2), json!(2)));
    let page = get(&gateway, "/v1/ledger?limit=1&before=2").await.json();
    assert_eq!(page["items"][0]["item"], 1);
    let page = get(&gateway, "/v1/ledger?fate=quarantined&since=2026-01-01T00:00:00Z").await.json();
    assert_eq!((page["items"].as_array().unwrap().len(), page["next"].clone()), (1, json!(null)));
    gateway.end().await;
}

#[tokio::test]
async fn wrong_queries_and_paths_say_what_is_wrong() {
    let gateway = start(Numbers::default()).await;
    let cases = [
        ("/v1/ledger?fat=published", 400, "unknown field `fat`"),
        ("/v1/ledger?fate=lost", 400, "unknown variant `lost`"),
        ("/v1/ledger?limit=10001", 400, "at most 10000"),
        ("/v1/ledger?limit=-1", 400, "invalid digit"),
        ("/v1/ledger?since=yesterday", 400, "RFC 3339"),
        ("/v1/deliveries?state=late", 400, "unknown variant `late`"),
        ("/v1/events?after=17", 400, "not a token"),
        ("/v1/events?limit=1001", 400, "at most 1000"),
        ("/v1/messages/evt_x", 400, "expected `msg_`"),
        ("/v1/messages/msg_01M818HCYX20XF4EEH3Y9Q5JFC", 404, "no message msg_01M818HCYX20XF4EEH3Y9Q5JFC"),
        ("/v1/events/evt_01M818HCYX20XF4EEH3Y9Q5JFC", 404, "no event"),
        ("/v1/quarantine/x", 400, "path: "),
        ("/v1/quarantine/99", 404, "no item 99"),
        ("/v1/quarantine/2", 404, "item 2 is not quarantined, it is published"),
        ("/v1/raws/raw_01M818HCYX20XF4EEH3Y9Q5JFC", 404, "no `nobody`"),
        ("/v1/nothing", 404, "openapi.json"),
        ("/nothing", 404, "openapi.json"),
    ];
    for (path, status, detail) in cases {
        let reply = get(&gateway, path).await;
        let problem = reply.json();
        assert_eq!((reply.status, problem["status"].clone()), (status, json!(status)), "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{path}: {problem}");
        assert_eq!(problem["type"], format!("urn:omnigate:problem:{}", problem["code"].as_str().unwrap()));
    }
    assert_eq!(ask(&gateway, "DELETE", "/v1/status", "").await.status, 405);
    gateway.end().await;
}

#[tokio::test]
async fn a_page_of_deliveries_never_ends_inside_an_event() {
    let gateway = start(Numbers::default()).await;
    let page = get(&gateway, "/v1/deliveries?state=dead&limit=2").await.json();
    assert_eq!((page["items"].as_array().unwrap().len(), page["next"].clone()), (1, json!(3)));
    let page = get(&gateway, "/v1/deliveries?state=dead&limit=3&after=3").await.json();
    assert_eq!((page["items"].as_array().unwrap().len(), page["next"].clone()), (2, json!(null)));
    gateway.end().await;
}

#[tokio::test]
async fn events_come_as_published_behind_an_opaque_token() {
    let gateway = start(Numbers::default()).await;
    let reply = get(&gateway, "/v1/events?limit=2").await;
    let first = reply.json();
    assert!(reply.text().starts_with("{\"events\":[{\"n\": 1 },{\"n\":2}],"), "{}", reply.text());
    assert_eq!(first["more"], true);
    let next = first["next"].as_str().unwrap();
    let second = get(&gateway, &format!("/v1/events?after={next}&limit=2")).await.json();
    assert_eq!((second["events"].clone(), second["more"].clone()), (json!([{"n": 3}]), json!(false)));
    let next = second["next"].as_str().unwrap();
    let third = get(&gateway, &format!("/v1/events?after={next}")).await.json();
    assert_eq!((third["events"].clone(), third["next"].as_str().unwrap()), (json!([]), next));
    gateway.end().await;
}

#[tokio::test]
async fn messages_events_quarantine_and_raws_are_shown() {
    let gateway = start(Numbers::default()).await;
    assert_eq!(get(&gateway, &format!("/v1/messages/{MESSAGE}")).await.json()["id"], MESSAGE.to_string());
    assert_eq!(get(&gateway, &format!("/v1/events/{EVENT}")).await.json()["deliveries"][0]["code"], "exhausted");
    assert_eq!(get(&gateway, "/v1/quarantine?channel=acme-slack").await.json()["items"][0]["code"], "mapping_failed");
    let page = get(&gateway, "/v1/quarantine?limit=1").await.json();
    assert_eq!(page["next"], 1, "a full page says how to go on");
    let rest = get(&gateway, "/v1/quarantine?limit=1&before=1").await.json();
    assert_eq!((rest["items"].clone(), rest["next"].clone()), (json!([]), json!(null)));
    let shown = get(&gateway, "/v1/quarantine/1").await.json();
    assert_eq!((shown["detail"].clone(), shown["head"]["method"].clone()), (json!("cannot index a number"), json!("POST")));
    assert_eq!(shown["body"], json!({"text": "{\"text\":\"hello\"}", "base64": null, "truncated": false}));
    let raw = get(&gateway, &format!("/v1/raws/{RAW}")).await;
    assert_eq!((raw.text(), raw.header("content-type")), ("{\"text\":\"hello\"}".to_owned(), "application/octet-stream"));
    gateway.end().await;
}

#[tokio::test]
async fn verbs_reach_the_gateway() {
    let gateway = start(Numbers::default()).await;
    let contact = format!("/v1/contacts/{CONTACT}/erase");
    let subscription = serde_json::to_value(omnigate::ports::control::SubscriptionView::default()).unwrap();
    let cases = [
        ("/v1/destinations/desk/pause", "", 204, json!(null), "pause desk"),
        ("/v1/destinations/desk/resume", "", 204, json!(null), "resume desk"),
        ("/v1/destinations/desk/drop", "", 200, json!({"count": 3}), "drop desk"),
        ("/v1/dead/replay", r#"{"filter":{"destination":"desk"}}"#, 200, json!({"count": 5}), "dead Some(\"desk\") discard=false"),
        ("/v1/dead/discard", r#"{"all":true}"#, 200, json!({"count": 5}), "dead None discard=true"),
        (
            "/v1/replay",
            r#"{"filter":{"destination":"desk"},"dry_run":true,"rate":2.5}"#,
            200,
            json!({"count": 42}),
            "replay desk dry=true rate=Some(2.5)",
        ),
        ("/v1/quarantine/1/reprocess", "", 200, json!({"fate": "published"}), "reprocess 1"),
        (
            "/v1/channels/mail/reconcile",
            r#"{"repair":true}"#,
            200,
            json!({"items": [{
                "folder": "", "state": "", "mailbox": 0, "known": 0, "awaited": 0, "before_first_run": 0,
                "missing": {"count": 0, "numbers": []}, "extra": {"count": 0, "numbers": []}, "changed": {"count": 0, "numbers": []},
            }], "next": null}),
            "reconcile mail repair=true",
        ),
        (
            "/v1/channels/mail/consent",
            r#"{"refresh_token":"hush","ends_in_s":60}"#,
            204,
            json!(null),
            "consent mail SecretBox<str>([REDACTED]) Some(60s)",
        ),
        ("/v1/channels/mail/subscribe", "", 200, subscription.clone(), "subscribe mail"),
        ("/v1/channels/mail/unsubscribe", "", 200, subscription.clone(), "unsubscribe mail"),
        (
            "/v1/channels/mail/backfill",
            r#"{"since":"1970-01-01T00:00:01Z","folder":"INBOX"}"#,
            202,
            json!(null),
            "backfill mail Some(Time(1000)) Some(\"INBOX\")",
        ),
        ("/v1/reload", "", 200, json!({"added": ["new"], "changed": [], "removed": [], "problems": []}), "reload"),
        ("/v1/backup", r#"{"folder":"/var/backups/gate"}"#, 204, json!(null), "backup /var/backups/gate"),
        (contact.as_str(), "", 200, json!({"messages": 2}), ""),
    ];
    for (path, body, status, answer, asked) in cases {
        let reply = ask(&gateway, "POST", path, body).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
        if !answer.is_null() {
            assert_eq!(reply.json(), answer, "{path}");
        }
        let last = gateway.control.asked.lock().unwrap().last().unwrap().clone();
        assert!(asked.is_empty() || last == asked, "{path}: {last}");
    }
    gateway.end().await;
}

#[tokio::test]
async fn verbs_that_cannot_be_done_say_why() {
    let gateway = start(Numbers::default()).await;
    let cases = [
        ("/v1/destinations/nobody/pause", "", 404, "no `nobody`"),
        ("/v1/destinations/stubborn/drop", "", 409, "remove it first"),
        ("/v1/destinations/broken/resume", "", 503, "the store did not answer"),
        ("/v1/dead/replay", "", 400, "\"all\": true"),
        ("/v1/dead/discard", r#"{"filter":{"state":"dead"}}"#, 400, "\"all\": true"),
        ("/v1/dead/discard", r#"{"filter":{"destinaton":"desk"}}"#, 400, "unknown field `destinaton`"),
        ("/v1/replay", "{}", 400, "missing field `filter`"),
        ("/v1/replay", r#"{"filter":{}}"#, 400, "filter.destination"),
        ("/v1/replay", r#"{"filter":{"destination":"desk"},"rate":0}"#, 400, "rate must be above 0"),
        (
            "/v1/replay",
            r#"{"filter":{"destination":"desk","since":"2026-01-02T00:00:00Z","until":"2026-01-01T00:00:00Z"}}"#,
            400,
            "before filter.until",
        ),
        ("/v1/quarantine/2/reprocess", "", 404, "no `nobody`"),
        ("/v1/channels/nobody/backfill", "", 404, "no `nobody`"),
        ("/v1/channels/mail/backfill", r#"{"folder":"a\r\nb"}"#, 400, "a folder's name"),
        ("/v1/channels/mail/backfill", "[]", 400, "body: "),
        ("/v1/channels/mail/consent", "{}", 400, "body: "),
        ("/v1/channels/mail/consent", r#"{"refresh_token":""}"#, 400, "must be a refresh token"),
        ("/v1/backup", r#"{"folder":"relative"}"#, 400, "absolute"),
        ("/v1/backup", r#"{"folder":"/var/../etc"}"#, 400, "absolute"),
        ("/v1/backup", "", 400, "missing field `folder`"),
        ("/v1/contacts/x/erase", "", 400, "expected `cnt_`"),
        ("/v1/contacts/cnt_01M818HCYX20XF4EEH3Y9Q5JFC/erase", "", 404, "no `nobody`"),
    ];
    for (path, body, status, detail) in cases {
        let reply = ask(&gateway, "POST", path, body).await;
        assert_eq!(reply.status, status, "{path} {body}: {}", reply.text());
        assert!(reply.json()["detail"].as_str().unwrap().contains(detail), "{path} {body}: {}", reply.text());
    }
    let large = format!("{{\"filter\":{{\"destination\":\"{}\"}}}}", "a".repeat(100_000));
    assert_eq!(ask(&gateway, "POST", "/v1/replay", &large).await.status, 413);
    gateway.end().await;
}

#[tokio::test]
async fn every_documented_path_is_served_and_described() {
    let gateway = start(Numbers::default()).await;
    for (path, method) in omnigate::server::api::openapi::paths() {
        let real = path
            .replace("{item}", "1")
            .replace("{name}", "desk")
            .replace("/channels/{id}", "/channels/mail")
            .replace("/raws/{id}", &format!("/raws/{RAW}"));
        let real = real.replace("/messages/{id}", &format!("/messages/{MESSAGE}")).replace("/events/{id}", &format!("/events/{EVENT}"));
        let real = real.replace("/contacts/{id}", &format!("/contacts/{CONTACT}"));
        let body = match real.as_str() {
            "/v1/replay" => r#"{"filter":{"destination":"desk"}}"#,
            "/v1/dead/replay" | "/v1/dead/discard" => r#"{"all":true}"#,
            "/v1/backup" => r#"{"folder":"/x"}"#,
            "/v1/channels/mail/consent" => r#"{"refresh_token":"hush"}"#,
            _ => "",
        };
        let reply = ask(&gateway, &method.to_uppercase(), &real, body).await;
        assert!(reply.status < 300, "{method} {real}: {} {}", reply.status, reply.text());
        let documented = &omnigate::server::api::openapi::compose()["paths"][path][method]["responses"][reply.status.to_string()];
        assert!(documented.is_object(), "{method} {path} answers {} and the document does not say so", reply.status);
    }
    gateway.end().await;
}

/// One sample: name, labels, value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Reads exposition format 0.0.4 strictly: every sample behind the HELP and TYPE of its family, no family and no series twice.
fn parse(text: &str) -> Vec<Sample> {
    let (mut samples, mut seen, mut families) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let (mut help, mut kind) = (String::new(), (String::new(), String::new()));
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').expect("help text").0.to_owned();
            assert!(families.insert(help.clone()), "{help} twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, word) = rest.split_once(' ').unwrap();
            assert_eq!(name, help, "TYPE follows HELP");
            assert!(["counter", "gauge", "histogram"].contains(&word));
            kind = (name.to_owned(), word.to_owned());
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(seen.insert(series.to_owned()), "{series} twice");
            let (name, labels) = series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest.strip_suffix('}').unwrap()));
            let family = if kind.1 == "histogram" {
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap()
            } else {
                name
            };
            assert_eq!(family, kind.0, "{line}");
            let labels = labels.split("\",").filter(|pair| !pair.is_empty()).map(|pair| pair.split_once("=\"").unwrap());
            let labels = labels.map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned())).collect();
            samples.push((name.to_owned(), labels, value.parse().unwrap()));
        }
    }
    samples
}

#[tokio::test]
async fn a_scrape_can_be_parsed_and_balances() {
    let gateway = start(Numbers::default()).await;
    for path in ["/hooks/ok", "/hooks/busy", "/hooks/nobody"] {
        send(gateway.public, &format!("POST {path} HTTP/1.1"), b"{}").await;
    }
    let reply = send(gateway.private, "GET /metrics HTTP/1.1", b"").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/plain; version=0.0.4; charset=utf-8"));
    let samples = parse(&reply.text());
    let sum = |name: &str| samples.iter().filter(|(known, ..)| known == name).map(|(.., value)| value).sum::<f64>();
    // I3, in one scrape.
    assert_eq!((sum("omnigate_items_received_total"), sum("omnigate_items")), (10.0, 10.0));
    assert_eq!((sum("omnigate_deliveries_due_total"), sum("omnigate_deliveries")), (7.0, 7.0));
    assert_eq!(sum("omnigate_items"), totals().received.values().sum::<u64>() as f64);
    assert_eq!((sum("omnigate_requests_total"), sum("omnigate_request_seconds_count")), (3.0, 3.0));
    assert_eq!((sum("omnigate_build_info"), sum("omnigate_store_free_bytes")), (1.0, (1u64 << 30) as f64));
    #[cfg(target_os = "linux")]
    assert!(sum("process_resident_memory_bytes") > 1e6 && sum("process_open_fds") > 3.0);
    gateway.store.sick.store(true, Ordering::Relaxed);
    let reply = send(gateway.private, "GET /metrics HTTP/1.1", b"").await;
    assert_eq!(reply.status, 200);
    assert!(!reply.text().contains("omnigate_items"), "old totals are not shown as new");
    gateway.end().await;
}
