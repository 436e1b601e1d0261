//! XMPP without a server: what the talk does as time goes by, and what archives may not make it believe.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::of_kind;
use crate::connector::stream::StreamKind;
use crate::engines::stream::talk::{Deeds, Say, Talk};
use crate::engines::stream::xmpp;
use crate::model::codes::Code;
use crate::ports::feed::Cursors;

fn talk() -> impl Talk {
    let settings = of_kind(StreamKind::Xmpp, json!({"jid": "desk@example.org", "nick": "", "rooms": []}));
    let cursors: Cursors = [("last".to_owned(), "2026-11-23T07:00:00.000Z".to_owned())].into();
    xmpp::talk_of(&settings, &cursors).unwrap()
}

fn said(out: &mut Deeds) -> Vec<String> {
    let text = |say: Say| if let Say::Text(text) = say { text } else { String::new() };
    std::mem::take(&mut out.say).into_iter().map(text).collect()
}

fn hear(talk: &mut impl Talk, stanza: &str, now: Instant, out: &mut Deeds) -> Vec<String> {
    talk.heard(stanza.to_owned().into(), now, out).unwrap();
    said(out)
}

fn fin(id: &str, last: &str) -> String {
    let set =
        if last.is_empty() { String::new() } else { format!("<set xmlns='http://jabber.org/protocol/rsm'><last>{last}</last></set>") };
    format!("<iq type='result' id='{id}' from='desk@example.org'><fin xmlns='urn:xmpp:mam:2'>{set}</fin></iq>")
}

const LIVE: &str = "<message from='zoe@example.org/phone' type='chat' id='m1'><body>hello</body></message>";

/// Whether what comes live moves the place to go on from: only when no archive owes anything.
fn moves(talk: &mut impl Talk, now: Instant) -> bool {
    let mut out = Deeds::default();
    hear(talk, LIVE, now, &mut out);
    !out.take().0.cursors.is_empty()
}

#[tokio::test]
async fn an_archive_that_does_not_answer_is_asked_again_and_nothing_moves_on_meanwhile() {
    let (mut talk, now, mut out) = (talk(), Instant::now(), Deeds::default());
    talk.begin(now, &mut out).unwrap();
    assert!(said(&mut out).iter().any(|text| text.contains("queryid='mam1'")));
    assert!(!moves(&mut talk, now));
    let mut at = now + Duration::from_secs(61);
    talk.alive(at);
    talk.tick(at, &mut out).unwrap();
    let (code, detail) = out.take_note().unwrap();
    assert!(code == Code::Unreachable && detail.contains("no answer"), "{detail}");
    // A late answer to a question that was given up is none.
    assert_eq!(hear(&mut talk, &fin("mam1", ""), at, &mut out), [""; 0]);
    assert!(!moves(&mut talk, at));
    at += Duration::from_secs(61);
    talk.alive(at);
    talk.tick(at, &mut out).unwrap();
    assert!(said(&mut out).iter().any(|text| text.contains("queryid='mam2'")));
    assert!(out.take_note().is_none(), "it is told once");
    assert_eq!(hear(&mut talk, &fin("mam2", ""), at, &mut out), [""; 0]);
    assert!(moves(&mut talk, at));
}

#[tokio::test]
async fn an_archive_is_read_page_by_page_never_in_circles_and_begins_anew_where_its_mark_is_gone() {
    let (mut talk, now, mut out) = (talk(), Instant::now(), Deeds::default());
    talk.begin(now, &mut out).unwrap();
    said(&mut out);
    let next = hear(&mut talk, &fin("mam1", "a100"), now, &mut out);
    assert!(next[0].contains("queryid='mam2'") && next[0].contains("<after>a100</after>"), "{next:?}");
    let gone = "<iq type='error' id='mam2' from='desk@example.org'><error type='cancel'><item-not-found/></error></iq>";
    let next = hear(&mut talk, gone, now, &mut out);
    assert!(next[0].contains("queryid='mam3'") && !next[0].contains("<after>"), "{next:?}");
    hear(&mut talk, &fin("mam3", "a100"), now, &mut out);
    assert!(!moves(&mut talk, now));
    // The page that ends where it began is the last.
    assert_eq!(hear(&mut talk, &fin("mam4", "a100"), now, &mut out), [""; 0]);
    assert!(moves(&mut talk, now));
}

#[tokio::test]
async fn only_who_was_asked_can_answer() {
    let (mut talk, now, mut out) = (talk(), Instant::now(), Deeds::default());
    talk.begin(now, &mut out).unwrap();
    for from in ["eve@example.com/x", "desk@example.org.example.com", "example.com"] {
        hear(&mut talk, &fin("mam1", "").replace("desk@example.org", from), now, &mut out);
        assert!(!moves(&mut talk, now), "{from}");
    }
    // A server without an archive says so: there is nothing to wait for.
    let none =
        "<iq type='error' id='mam1'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>";
    hear(&mut talk, none, now, &mut out);
    assert!(moves(&mut talk, now) && out.take_note().is_none());
}

#[tokio::test]
async fn where_to_go_on_from_counts_by_the_servers_clock_and_not_by_ours() {
    let (mut talk, now, mut out) = (talk(), Instant::now(), Deeds::default());
    talk.begin(now, &mut out).unwrap();
    assert!(said(&mut out).iter().any(|text| text.contains("to='example.org'><time xmlns='urn:xmpp:time'/>")));
    // Ours says eight o'clock.
    for (from, utc) in [("eve@example.com", "2026-11-23T03:00:00Z"), ("example.org", "2026-11-23T07:40:00Z")] {
        let told =
            format!("<iq type='result' id='time' from='{from}'><time xmlns='urn:xmpp:time'><tzo>+01:00</tzo><utc>{utc}</utc></time></iq>");
        hear(&mut talk, &told, now, &mut out);
    }
    hear(&mut talk, &fin("mam1", ""), now, &mut out);
    hear(&mut talk, LIVE, now + Duration::from_secs(90), &mut out);
    assert_eq!(out.take().0.cursors, [("last".to_owned(), Some("2026-11-23T07:41:30.000Z".to_owned()))]);
}
