//! Letters into Request Tracker's mail gateway, through a mail server that hands on with `contrib/rt-mailgate-once`: one ticket a
//! conversation and each message once, although SMTP cannot tell what became of a letter whose answer was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::json;

use crate::support::contract::root;
use crate::support::daemon::{Daemon, Setup};
use crate::support::desks::Desk;
use crate::support::dice::Dice;
use crate::support::servers;
use crate::support::ticketing::{System, conversations, forms_channel, post_form, post_whatsapp};

/// The mail server. Ended when dropped.
struct Relay {
    child: Child,
    stdin: ChildStdin,
    said: Receiver<String>,
    port: u16,
    /// Of the step before `rt-mailgate`; goes with the server.
    _folder: tempfile::TempDir,
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The step before `rt-mailgate`, with what it is told.
fn once(desk: &Desk, folder: &std::path::Path) -> Vec<String> {
    std::fs::write(folder.join("token"), desk.token()).unwrap();
    let said = [
        ("--url", desk.url()),
        ("--queue", "Support".to_owned()),
        ("--token-file", folder.join("token").display().to_string()),
        ("--spool", folder.join("spool").display().to_string()),
        ("--patience", "15".to_owned()),
    ];
    let program = ["python3".to_owned(), root().join("contrib/rt-mailgate-once").display().to_string()];
    program.into_iter().chain(said.into_iter().flat_map(|(key, value)| [key.to_owned(), value])).collect()
}

impl Relay {
    fn start(desk: &Desk) -> Option<Self> {
        let python = servers::installed("venv/bin/python");
        if !python.exists() {
            servers::missing("the Python package aiosmtpd");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(python)
            .arg(root().join("tests/data/clients/mailgate.py"))
            .args(once(desk, folder.path()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, said) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).for_each(|line| drop(tell.send(line))));
        let port = said.recv_timeout(Duration::from_secs(60)).unwrap().trim().parse().unwrap();
        Some(Self { child, stdin, said, port, _folder: folder })
    }

    fn percent(&mut self, percent: u64, seed: u64) {
        writeln!(self.stdin, "percent {percent} {seed}").unwrap();
    }

    fn faults(&mut self) -> u64 {
        writeln!(self.stdin, "faults").unwrap();
        self.said.recv_timeout(Duration::from_secs(60)).unwrap().trim().parse().unwrap()
    }
}

fn setup(relay: &Relay) -> Setup {
    let mut setup = Setup::default();
    setup.with_whatsapp();
    forms_channel(&mut setup);
    let steps = vec!["\"1s\""; 95].join(", ");
    setup.rest = format!(
        "[delivery]\nschedule = [\"0s\", {steps}]\n[destination.desk]\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nconcurrency = 4\n\
         timeout = \"12s\"\nfrom = \"gateway@gw.example.org\"\nto = \"support@desk.example.org\"\nas = \"customer\"\n[[route]]\nto = [\"desk\"]\n",
        relay.port
    );
    setup
}

/// Every conversation is one ticket, every message one entry of it, in order, written as the customer, its files byte for byte.
async fn check(desk: &Desk, daemon: &Daemon, files: &BTreeMap<String, Vec<u8>>) {
    let said = conversations(daemon).await;
    let mut tickets = Vec::new();
    for page in 1.. {
        let list = desk.get(&format!("/REST/2.0/tickets?query=Queue%3D%27Support%27&orderby=id&per_page=100&page={page}")).await;
        tickets.extend(list["items"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()));
        if list["items"].as_array().unwrap().len() < 100 {
            break;
        }
    }
    let mut there = BTreeSet::new();
    for ticket in &tickets {
        let entries = System::Rt.entries(desk, ticket).await;
        let holds = |words: &Vec<(String, Vec<String>)>| {
            words.len() == entries.len() && words.iter().zip(&entries).all(|((text, _), entry)| entry.text.contains(text.as_str()))
        };
        let texts: Vec<&str> = entries.iter().map(|entry| entry.text.trim()).collect();
        let (conversation, words) = said.iter().find(|(_, words)| holds(words)).unwrap_or_else(|| panic!("{ticket} holds {texts:?}"));
        assert!(there.insert(conversation), "a second ticket of {conversation}: {texts:?}");
        for (entry, (_, names)) in entries.iter().zip(words) {
            assert_eq!(entry.files.keys().collect::<BTreeSet<_>>(), names.iter().collect::<BTreeSet<_>>(), "{texts:?}");
            assert!(entry.files.iter().all(|(name, bytes)| files[name] == *bytes));
        }
    }
    assert_eq!(there.len(), said.len(), "conversations without a ticket");
}

#[tokio::test]
async fn letters_become_one_ticket_a_conversation_over_a_bad_relay_and_kills() {
    let Some(desk) = Desk::rt().await else { return };
    let Some(mut relay) = Relay::start(&desk) else { return };
    let count: u64 = std::env::var("OMNIGATE_TICKETS").ok().and_then(|value| value.parse().ok()).unwrap_or(8);
    let seed = std::env::var("SIM_SEED").ok().and_then(|value| value.parse().ok()).unwrap_or(20_261_123);
    println!("SIM_SEED={seed} OMNIGATE_TICKETS={count}");
    let mut dice = Dice::new(seed);
    relay.percent(30, seed);
    let photo: Vec<u8> = (0..40_001).map(|_| dice.roll() as u8).collect();
    let files = BTreeMap::from([("photo.jpg".to_owned(), photo.clone())]);
    let mut daemon = Daemon::start(setup(&relay)).await;
    for round in 0..3 {
        for number in 0..count {
            let id = format!("{round}-{number}");
            if number % 2 == 0 {
                post_whatsapp(&daemon, 100 + number, &id, &format!("text {id} of whatsapp")).await;
            } else {
                let files = if round == 1 { vec![("photo.jpg".to_owned(), photo.clone())] } else { Vec::new() };
                post_form(&daemon, &format!("who{number}"), &id, &format!("text {id} of form"), &files).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(dice.between(500, 4_000))).await;
        daemon.kill();
        daemon.launch();
        daemon.ready().await;
    }
    // The relay stays bad until enough went wrong, then all that is owed arrives.
    let from = std::time::Instant::now();
    while relay.faults() < count && from.elapsed() < Duration::from_secs(30 + 2 * count) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    relay.percent(0, seed);
    daemon.settled(Duration::from_secs(240 + 6 * count)).await;
    println!("{} letters went wrong", relay.faults());
    assert!(relay.faults() > 0);
    let dead = daemon.get("/v1/deliveries?state=dead").await;
    assert_eq!(dead["items"], json!([]));
    check(&desk, &daemon, &files).await;
}

/// Why the step is there: what RT's own gateway does with a letter that comes twice, and with one that names another.
#[tokio::test]
async fn a_letter_that_comes_twice_is_one_entry_only_with_the_step_before_rt_mailgate() {
    let Some(desk) = Desk::rt().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = |command: &[String], letter: &str| {
        let mut child = Command::new(&command[0]).args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(letter.as_bytes()).unwrap();
        child.wait().unwrap().code()
    };
    let letter = |id: &str, more: &str| {
        format!(
            "From: ana@example.org\nTo: support@example.org\nSubject: Hello\nMessage-ID: <{id}@gw.example.org>\n{more}\nwords of {id}\n"
        )
    };
    let count = async || {
        let list = desk.get("/REST/2.0/tickets?query=Queue%3D%27Support%27&per_page=100").await;
        list["items"].as_array().unwrap().len()
    };
    let bare: Vec<String> =
        ["rt-mailgate", "--queue", "Support", "--action", "correspond", "--url", &desk.url()].map(str::to_owned).to_vec();
    let answer = "References: <one@gw.example.org>\n";
    for (id, more) in [("one", ""), ("one", ""), ("two", answer)] {
        assert_eq!(run(&bare, &letter(id, more)), Some(0));
    }
    assert_eq!(count().await, 3, "RT folds and threads by itself now: the step can go");
    let once = once(&desk, folder.path());
    let answer = "References: <three@gw.example.org>\n";
    for (id, more) in [("three", ""), ("three", ""), ("four", answer), ("four", answer), ("three", "")] {
        assert_eq!(run(&once, &letter(id, more)), Some(0));
    }
    assert_eq!(count().await, 4);
    let entries = System::Rt.entries(&desk, "4").await;
    assert_eq!(entries.iter().map(|entry| entry.text.trim()).collect::<Vec<_>>(), ["words of three", "words of four"]);
    // Written by the customer.
    let creator = desk.get("/REST/2.0/ticket/4").await["Creator"]["id"].clone();
    assert_eq!(creator, "ana@example.org");
    // RT away: later, not never.
    let mut away = once.clone();
    away[3] = "http://127.0.0.1:1".to_owned();
    assert_eq!(run(&away, &letter("five", "")), Some(75));
}

/// Request Tracker, or the step before its gateway, is killed while a letter is being written, at another moment each time; then the mail
/// server tries again, as it does.
#[tokio::test]
async fn a_letter_is_one_ticket_whenever_rt_or_the_step_is_killed() {
    let Some(mut desk) = Desk::rt().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut command = once(&desk, folder.path());
    let patience = command.iter().position(|word| word == "--patience").unwrap();
    command[patience + 1] = "2".to_owned();
    let begin = |letter: &str| {
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(letter.as_bytes()).unwrap();
        child
    };
    // How long a letter takes when nothing is in its way: the kills are spread over that.
    let letter = |number: u64| {
        format!(
            "From: ana@example.org\nTo: support@example.org\nSubject: Hello\nMessage-ID: <kill-{number}@gw.example.org>\n\nletter {number}\n"
        )
    };
    let from = std::time::Instant::now();
    assert!(begin(&letter(0)).wait().unwrap().success());
    let takes = from.elapsed();
    const KILLS: u64 = 8;
    let mut cut = 0;
    for number in 1..=KILLS {
        let mut child = begin(&letter(number));
        tokio::time::sleep(takes * u32::try_from(number).unwrap() / u32::try_from(KILLS + 1).unwrap()).await;
        if number % 2 == 0 {
            desk.kill();
            cut += u64::from(!child.wait().unwrap().success());
            desk.launch_rt().await;
        } else {
            let killed = Command::new("kill").args(["-9", "--", &format!("-{}", child.id())]).status().unwrap();
            cut += u64::from(killed.success() && !child.wait().unwrap().success());
        }
        let begun = std::time::Instant::now();
        while !begin(&letter(number)).wait().unwrap().success() {
            assert!(begun.elapsed() < Duration::from_secs(60), "letter {number} is never taken");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    assert!(cut > 0, "no letter was cut");
    let list = desk.get("/REST/2.0/tickets?query=Queue%3D%27Support%27&orderby=id&per_page=100").await;
    let mut said = Vec::new();
    for ticket in list["items"].as_array().unwrap() {
        said.extend(System::Rt.entries(&desk, ticket["id"].as_str().unwrap()).await.into_iter().map(|entry| entry.text.trim().to_owned()));
    }
    said.sort();
    let wanted: Vec<String> = (0..=KILLS).map(|number| format!("letter {number}")).collect();
    assert_eq!(said, wanted, "{cut} letters were cut");
}
