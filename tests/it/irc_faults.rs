//! IRC on a bad day: servers that stop answering, flood, keep our nick from us, cut lines, and rooms that never answer. What was missed is told,
//! what came is there once.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::stream_faults::{IrcLine, said_at};
use crate::support::daemon::{Daemon, Setup};
use crate::support::live::{archived, texts, told};
use crate::token_roads::until;
use crate::xmpp_faults::own;

const PATIENCE: Duration = Duration::from_secs(100);

fn setup(listener: &TcpListener, rooms: &str) -> Setup {
    let mut setup = archived();
    let channel = format!(
        "connector = \"irc\"\nmode = \"stream\"\naccount = \"irc.example.org\"\n[settings]\nserver = \"{}\"\ntls = false\nnick = \"desk\"\nrooms = [{rooms}]\n",
        listener.local_addr().unwrap()
    );
    setup.channels.insert("chat".to_owned(), channel);
    setup
}

async fn has(daemon: &Daemon, count: usize) {
    until(&format!("{count} messages"), daemon, async || (texts(daemon, "chat").len() >= count).then_some(())).await;
}

async fn line(listener: &TcpListener) -> IrcLine {
    let (stream, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("a connection").unwrap();
    IrcLine(BufReader::new(stream))
}

/// A server that knows no capabilities.
async fn plain(listener: &TcpListener) -> IrcLine {
    let mut line = line(listener).await;
    line.until("USER ").await;
    line.say(":irc.example.org CAP * LS :").await;
    line.until("CAP END").await;
    line.say(":irc.example.org 001 desk :welcome").await;
    line.until("JOIN #help").await;
    line.say(":irc.example.org 366 desk #help :end").await;
    line
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_answers_no_pings_is_left_and_what_was_missed_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut setup = setup(&listener, "\"#help\"");
    let (manifest, map) = own("irc", "ping = { every = \"1s\", within = \"1s\" }\n");
    setup.connector("irc", &manifest, &map);
    let mut daemon = Daemon::prepare(setup);
    daemon.launch();
    let mut dead = plain(&listener).await;
    dead.say(":zoe!z@h PRIVMSG #help :one").await;
    has(&daemon, 1).await;
    dead.until("PING").await;
    // It is there, and answers nothing.
    let mut next = plain(&listener).await;
    next.say(":zoe!z@h PRIVMSG #help :two").await;
    has(&daemon, 2).await;
    daemon.ready().await;
    let answered = async {
        loop {
            next.until("PING").await;
            next.say("PONG :omnigate").await;
        }
    };
    let looked = until("told", &daemon, async || {
        let status = daemon.get("/v1/status").await["channels"]["chat"].clone();
        status["detail"].as_str().is_some_and(|detail| detail.contains("offers no history")).then_some(status)
    });
    let status = tokio::select! { status = looked => status, () = answered => unreachable!() };
    assert_eq!((&status["state"], &status["code"]), (&"running".into(), &"connection_lost".into()), "{status}");
    assert_eq!(texts(&daemon, "chat"), ["one", "two"]);
    assert!(daemon.log_text().contains("does not answer pings"));
    drop(dead);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_taken_whole_in_its_order_and_pings_in_its_midst_are_answered() {
    const LINES: usize = 1_000;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut daemon = Daemon::prepare(setup(&listener, "\"#help\""));
    daemon.launch();
    let line = plain(&listener).await;
    let (mut reads, mut writes) = line.0.into_inner().into_split();
    let flood = tokio::spawn(async move {
        for number in 0..LINES {
            let ping = if number == LINES / 2 { "PING :still there\r\n" } else { "" };
            // What nobody says to us costs nothing.
            let text = format!(
                "{ping}:zoe!z@h PRIVMSG #help :line {number}\r\n:irc.example.org 372 desk :news\r\n:zoe!z@h KICK #other desk :x\r\n"
            );
            writes.write_all(text.as_bytes()).await.unwrap();
        }
        writes
    });
    let heard = tokio::time::timeout(PATIENCE, async {
        let (mut heard, mut buffer) = (String::new(), [0; 4096]);
        while !heard.contains("PONG :still there") {
            let read = reads.read(&mut buffer).await.unwrap();
            assert!(read > 0, "closed");
            heard.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    });
    heard.await.expect("no PONG");
    has(&daemon, LINES).await;
    let wanted: Vec<String> = (0..LINES).map(|number| format!("line {number}")).collect();
    assert_eq!(texts(&daemon, "chat"), wanted);
    daemon.ready().await;
    daemon.settled(Duration::from_secs(60)).await.identities_hold();
    drop(flood.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nick_that_is_in_use_for_ever_is_told_and_asked_for_less_and_less_often() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut daemon = Daemon::prepare(setup(&listener, "\"#help\""));
    daemon.launch();
    for _ in 0..3 {
        let mut line = line(&listener).await;
        line.until("USER ").await;
        line.say(":irc.example.org CAP * LS :").await;
        // Six nicks, then it is given up.
        for _ in 0..6 {
            line.say(":irc.example.org 433 * desk :Nickname is already in use").await;
        }
        let mut rest = String::new();
        tokio::time::timeout(PATIENCE, line.0.read_to_string(&mut rest)).await.expect("still there").ok();
        assert_eq!(rest.matches("NICK desk_").count(), 5, "{rest}");
    }
    let mut line = plain(&listener).await;
    line.say(":zoe!z@h PRIVMSG #help :at last").await;
    has(&daemon, 1).await;
    daemon.ready().await;
    until("recovered", &daemon, async || (told(&daemon, "chat").len() == 2).then_some(())).await;
    assert_eq!(told(&daemon, "chat")[0], ("channel.degraded".to_owned(), "protocol".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_are_cut_too_long_or_no_utf8_end_or_spoil_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut daemon = Daemon::prepare(setup(&listener, "\"#help\""));
    daemon.launch();
    let mut line = plain(&listener).await;
    // Latin-1, as old clients write it; half a letter; nothing; control characters.
    line.0
        .get_mut()
        .write_all(b":zoe!z@h PRIVMSG #help :gr\xfc\xdfe\r\n:zoe!z@h PRIVMSG #help :half \xc3\r\n\r\n\x00\r\n: \r\n@ \r\n")
        .await
        .unwrap();
    line.say(":zoe!z@h PRIVMSG #help :whole").await;
    has(&daemon, 3).await;
    // Cut inside of a line, at the end of the connection.
    line.0.get_mut().write_all(b":zoe!z@h PRIVMSG #help :where is my or").await.unwrap();
    drop(line);
    let mut line = plain(&listener).await;
    line.say(":zoe!z@h PRIVMSG #help :again").await;
    has(&daemon, 4).await;
    // A line without an end.
    line.0.get_mut().write_all(format!(":zoe!z@h PRIVMSG #help :{}", "x".repeat(20_000)).as_bytes()).await.unwrap();
    let mut line = plain(&listener).await;
    line.say(":zoe!z@h PRIVMSG #help :and again").await;
    has(&daemon, 5).await;
    daemon.ready().await;
    daemon.settled(Duration::from_secs(60)).await.identities_hold();
    assert_eq!(texts(&daemon, "chat"), ["gr\u{fffd}\u{fffd}e", "half \u{fffd}", "whole", "again", "and again"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_never_answers_holds_up_no_other_nor_the_history() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut daemon = Daemon::prepare(setup(&listener, "\"#help\", \"#mute\""));
    daemon.launch();
    let (mut line, _) = IrcLine::register(&listener, false).await;
    line.say(&said_at(1)).await;
    has(&daemon, 1).await;
    daemon.ready().await;
    until("told", &daemon, async || (daemon.get("/v1/status").await["channels"]["chat"]["code"] == "no_folder").then_some(())).await;
    let status = daemon.get("/v1/status").await["channels"]["chat"].clone();
    assert_eq!(status["state"], "running");
    assert!(status["detail"].as_str().unwrap().contains("#mute does not answer"), "{status}");
    drop(line);
    // The history of the other is told all the same; that of the mute one is refused, and said to be.
    let (mut line, from) = IrcLine::register(&listener, true).await;
    assert_eq!(from.as_deref(), Some("2026-11-23T10:00:01.000Z"));
    line.say(":irc.example.org BATCH +b1 chathistory #help").await;
    line.say(&said_at(2).replacen('@', "@batch=b1;", 1)).await;
    line.say(":irc.example.org BATCH -b1").await;
    line.until("CHATHISTORY AFTER #mute").await;
    line.say(":irc.example.org FAIL CHATHISTORY INVALID_TARGET #mute :Messages could not be retrieved").await;
    has(&daemon, 3).await;
    until("told", &daemon, async || {
        let status = daemon.get("/v1/status").await["channels"]["chat"].clone();
        status["detail"].as_str().is_some_and(|detail| detail.contains("the history of #mute")).then_some(())
    })
    .await;
    let mut came = texts(&daemon, "chat");
    came.sort();
    assert_eq!(came, ["message 1", "message 2", "message 9"]);
}
