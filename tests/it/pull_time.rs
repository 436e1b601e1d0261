//! The loop around a pulled source and time: what is asked for again, the freshness alarm, and logins by turns. Hours pass by the
//! test's own clock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use omnigate::model::codes::Code;
use omnigate::model::item::Fate;
use omnigate::ports::pull::{PullError, PullNews, PulledBatch, PulledState};
use omnigate::ports::store::{SourceRowState, Write};
use tokio::sync::Semaphore;

use crate::pull_loop::{Script, World, batch, note};
use crate::support::virtual_time::VirtualClock;

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// Mail 2 of three is not given.
fn with_one_that_is_not_given() -> Result<PullNews, PullError> {
    let Ok(PullNews::Batch(mut pulled)) = batch(1, 1..=3, "a") else { panic!() };
    pulled.things[1].state = PulledState::Unfetchable { detail: "not given".to_owned() };
    pulled.things[1].body = "Subject: a part".into();
    Ok(PullNews::Batch(pulled))
}

fn it_comes() -> Result<Option<PulledBatch>, PullError> {
    let Ok(PullNews::Batch(pulled)) = batch(1, 2..=2, "late") else { panic!() };
    Ok(Some(pulled))
}

fn lost() -> PullError {
    PullError::Lost { code: Code::ConnectionLost, detail: "gone".to_owned(), after: None }
}

async fn world(clock: &VirtualClock) -> World {
    let mut world = World::new(Script { settles: true, clock: Some(clock.clone()), ..Script::default() });
    world.answer([note(1), with_one_that_is_not_given()]);
    world.run(0).await;
    world
        .until("two are told, one is not", async || (world.fate(Fate::Published).await, world.fate(Fate::Quarantined).await) == (2, 1))
        .await;
    world
}

impl World {
    fn asked_again(&self) -> usize {
        self.script.asked_again.lock().unwrap().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_was_not_given_is_asked_for_after_an_hour_six_and_a_day_and_takes_its_place_when_it_comes() {
    let clock = VirtualClock::default();
    let world = world(&clock).await;
    world.script.again.lock().unwrap().extend([Ok(None), Err(lost()), it_comes()]);
    let old = world.rows(1).await[1].raw;
    clock.pass(HOUR - MINUTE).await;
    assert_eq!(world.asked_again(), 0, "not before its time");
    for (pause, tries) in [(2 * MINUTE, 1), (6 * HOUR - 2 * MINUTE, 1), (4 * MINUTE, 2), (23 * HOUR, 2)] {
        clock.pass(pause).await;
        world.until("it is asked for", async || world.asked_again() == tries).await;
        assert_eq!(world.fate(Fate::Quarantined).await, 1);
    }
    clock.pass(2 * HOUR).await;
    world.until("it is told", async || world.fate(Fate::Published).await == 3).await;
    assert_eq!((world.fate(Fate::Quarantined).await, world.asked_again()), (0, 3), "one item, in its old place");
    world.until("and the policy is carried out", async || world.rows(1).await[1].state == SourceRowState::Settled).await;
    let row = world.rows(1).await[1].clone();
    assert!(row.raw.is_some() && row.raw != old, "by its own raw");
    world.gate.check_totals().await;
    clock.pass(100 * HOUR).await;
    assert_eq!(world.asked_again(), 3, "never again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_never_given_is_asked_for_three_times_across_restarts() {
    let clock = VirtualClock::default();
    let mut world = world(&clock).await;
    for _ in 0..40 {
        let before = world.script.waits.load(Ordering::SeqCst);
        world.restart().await;
        world.until("it waits", async || world.script.waits.load(Ordering::SeqCst) > before).await;
        clock.pass(2 * HOUR).await;
        world.until("it was woken", async || world.script.waits.load(Ordering::SeqCst) > before + 1).await;
    }
    assert_eq!(world.asked_again(), 3);
    assert_eq!((world.fate(Fate::Published).await, world.fate(Fate::Quarantined).await), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_somebody_else_dealt_with_is_not_told_twice() {
    let clock = VirtualClock::default();
    let world = world(&clock).await;
    world.script.again.lock().unwrap().push_back(it_comes());
    let row = world.store.quarantine(None, None, 10).await.unwrap().remove(0);
    world.gate.one(Write::Reprocess { item: row.item, items: vec![world.gate.message("ana", "by hand")] }).await.unwrap();
    assert_eq!(world.fate(Fate::Published).await, 3);
    clock.pass(2 * HOUR).await;
    world.until("it is asked for", async || world.asked_again() == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((world.fate(Fate::Published).await, world.fate(Fate::Quarantined).await), (3, 0));
    world.gate.check_totals().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_not_seen_working_for_long_is_told_and_so_is_its_recovery() {
    let clock = VirtualClock::default();
    // Its waits end by no clock: the session hangs.
    let mut world = World::new(Script::default());
    world.clock = Arc::new(clock.clone());
    world.answer([note(1), batch(1, 1..=1, "a")]);
    world.run(0).await;
    world.until("it works", async || world.fate(Fate::Published).await == 1).await;
    clock.pass(44 * MINUTE).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.code(), None, "healthy waits are as long");
    clock.pass(3 * MINUTE).await;
    world.until("it is told", async || world.code().as_deref() == Some("stale")).await;
    let told = async |name: &str| world.gate.events().await.iter().filter(|event| event.body.type_name() == name).count();
    world.until("operators hear of it", async || told("channel.degraded").await == 1).await;
    clock.pass(5 * HOUR).await;
    assert_eq!(told("channel.degraded").await, 1, "once");
    world.script.news.notify_one();
    world.until("it works again", async || world.code().is_none()).await;
    world.until("operators hear of it", async || told("channel.recovered").await == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_lost_as_soon_as_it_works_has_recovered_when_a_session_lasts_a_minute() {
    let clock = VirtualClock::default();
    let mut world = World::new(Script::default());
    world.clock = Arc::new(clock.clone());
    let works = || Ok(PullNews::Note { code: Code::Protocol, detail: "a folder is not there".to_owned() });
    world.answer((0..4).flat_map(|_| [works(), Err(lost())]).chain([works()]));
    world.run(0).await;
    let told = async || -> Vec<_> { world.gate.events().await.iter().map(|event| event.body.type_name()).collect() };
    let used = || world.script.answers.lock().unwrap().is_empty();
    while !used() {
        clock.pass(Duration::from_secs(1)).await;
        // The store's threads know no virtual time.
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    clock.pass(Duration::from_secs(50)).await;
    assert_eq!(told().await, ["channel.degraded"], "four times up and down is one trouble");
    clock.pass(2 * MINUTE).await;
    world.until("it lasts", async || told().await == ["channel.degraded", "channel.recovered"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_its_servers_a_login_a_minute_and_what_waits_is_taken_soon_after_there_is_room() {
    let clock = VirtualClock::default();
    let mut world = World::new(Script { clock: Some(clock.clone()), ..Script::default() });
    world.answer([note(1), batch(1, 1..=1, "a")]);
    world.run(0).await;
    world.until("it works", async || world.fate(Fate::Published).await == 1).await;
    let writer = world.writer.clone().unwrap();
    writer.set_disk_full(true);
    world.answer((0..2_000).map(|_| batch(1, 2..=2, "b")));
    let logins = || world.script.opened.load(Ordering::Relaxed);
    while logins() < 9 {
        clock.pass(Duration::from_secs(1)).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The ninth session has ended by then; the next begins after half a minute at the earliest.
    let quietly = async || tokio::time::sleep(Duration::from_millis(300)).await;
    quietly().await;
    clock.pass(Duration::from_secs(25)).await;
    quietly().await;
    assert_eq!((logins(), world.fate(Fate::Published).await), (9, 1));
    world.script.answers.lock().unwrap().drain(1..);
    writer.set_disk_full(false);
    clock.pass(2 * MINUTE).await;
    world.until("what waited", async || world.fate(Fate::Published).await == 2).await;
    world.gate.check_totals().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn few_log_in_at_one_server_at_once_and_a_server_that_hangs_delays_no_other() {
    let (door, logins) = (Arc::new(Semaphore::new(0)), Arc::default());
    let mut worlds = Vec::new();
    for number in 0..10 {
        let hung = number < 9;
        let (server, door) = (if hung { "slow.example" } else { "quick.example" }, hung.then(|| door.clone()));
        let mut world = World::new(Script { server: Some(server.to_owned()), door, ..Script::default() });
        world.logins = Arc::clone(&logins);
        world.answer([note(1)]);
        world.run(0).await;
        worlds.push(world);
    }
    let opened = |worlds: &[World]| worlds.iter().map(|world| world.script.opened.load(Ordering::SeqCst)).sum::<usize>();
    let quick = &worlds[9];
    quick.until("the other server is not waited for", async || !quick.store.sources("imap:server:ana").await.unwrap().is_empty()).await;
    quick.until("four are at the slow one's door", async || opened(&worlds[..9]) == 4).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(opened(&worlds[..9]), 4, "and no more");
    // Each that comes in makes room for one.
    door.add_permits(2);
    quick.until("two more", async || opened(&worlds[..9]) == 6).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(opened(&worlds[..9]), 6);
    door.add_permits(100);
    quick.until("all", async || opened(&worlds[..9]) == 9).await;
}
