//! IRC without a server: what the talk does as time goes by.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::{Peer, of_kind};
use crate::connector::stream::StreamKind;
use crate::engines::stream::irc;
use crate::engines::stream::talk::{Deeds, Say, Talk};
use crate::model::codes::Code;
use crate::ports::feed::{Cursors, FeedSource};
use crate::ports::pull::PullError;

fn talk(cursors: &Cursors) -> impl Talk + use<> {
    let settings = of_kind(
        StreamKind::Irc,
        serde_json::json!({"server": "irc.example.org", "tls": false, "nick": "desk", "user": "", "rooms": ["#help"]}),
    );
    irc::talk_of(&settings, cursors).unwrap().0
}

fn hear(talk: &mut impl Talk, line: &str, now: Instant) -> Vec<String> {
    let mut out = Deeds::default();
    talk.heard(line.to_owned().into(), now, &mut out).unwrap();
    said(&mut out)
}

fn said(out: &mut Deeds) -> Vec<String> {
    let text = |say: Say| if let Say::Text(text) = say { text.trim_end().to_owned() } else { String::new() };
    std::mem::take(&mut out.say).into_iter().map(text).collect()
}

#[tokio::test]
async fn a_history_that_is_never_told_is_waited_for_a_minute_and_told_as_missing() {
    let since = "2026-11-23T07:00:00.000Z";
    let mut talk = talk(&[("last".to_owned(), since.to_owned())].into());
    let now = Instant::now();
    talk.begin(now, &mut Deeds::default()).unwrap();
    hear(&mut talk, ":s CAP * LS :batch draft/chathistory server-time", now);
    hear(&mut talk, ":s CAP * ACK :batch draft/chathistory server-time", now);
    hear(&mut talk, ":s 001 desk :hi", now);
    assert_eq!(hear(&mut talk, ":s 366 desk #help :end", now), [format!("CHATHISTORY AFTER #help timestamp={since} 100")]);
    // What is said meanwhile does not stand for it.
    let mut out = Deeds::default();
    talk.heard("@time=2026-11-23T07:59:00.000Z :zoe!z@h PRIVMSG #help :hello".into(), now, &mut out).unwrap();
    assert!(out.take().0.cursors.is_empty());
    let mut at = now;
    for (minute, missing) in [(1, "those who wrote to us alone"), (2, "#help")] {
        at = now + Duration::from_secs(61 * minute);
        let mut out = Deeds::default();
        talk.alive(at);
        talk.tick(at, &mut out).unwrap();
        let (code, detail) = out.take_note().unwrap();
        assert_eq!(code, Code::ConnectionLost);
        assert!(detail.contains(missing) && detail.contains(since), "{detail}");
    }
    let mut out = Deeds::default();
    talk.heard("@time=2026-11-23T08:00:00.000Z :zoe!z@h PRIVMSG #help :hello".into(), at, &mut out).unwrap();
    assert_eq!(out.take().0.cursors.len(), 1, "it goes on from here");
}

#[tokio::test]
async fn a_kick_is_followed_by_a_join_a_minute_later_and_only_of_rooms_of_ours() {
    let mut talk = talk(&Cursors::new());
    let now = Instant::now();
    hear(&mut talk, ":s 001 desk :hi", now);
    hear(&mut talk, ":s 366 desk #help :end", now);
    for room in ["#help", "#Help", "#other", "#help"] {
        hear(&mut talk, &format!(":op!o@h KICK {room} desk :out"), now);
    }
    let (mut out, later) = (Deeds::default(), now + Duration::from_secs(60));
    talk.alive(later);
    talk.tick(later, &mut out).unwrap();
    assert_eq!(said(&mut out), ["JOIN #help"]);
}

#[tokio::test]
async fn a_server_that_throttles_us_is_left_alone_for_a_minute_and_one_without_sasl_gets_no_password() {
    let peer = Peer::new().await;
    for (words, wanted) in
        [("Trying to reconnect too fast.", Code::Throttled), ("Closing Link: desk (Server shutdown)", Code::ConnectionLost)]
    {
        let settings =
            of_kind(StreamKind::Irc, serde_json::json!({"server": peer.host(), "tls": false, "nick": "desk", "user": "", "rooms": []}));
        let source = crate::engines::stream::StreamSource::new(settings);
        let (feed, ()) = tokio::join!(source.open(Cursors::new()), async {
            peer.plain().await.write_all(format!("ERROR :{words}\r\n").as_bytes()).await.unwrap();
        });
        let error = feed.err().unwrap();
        let wait = Some(Duration::from_secs(60)).filter(|_| wanted == Code::Throttled);
        assert!(matches!(&error, PullError::Lost { code, after, .. } if *code == wanted && *after == wait), "{error:?}");
    }
}
