//! A small stand-in for the pipeline's pull loop: asks until quiet, keeps what came, moves the cursor as a commit would.

use std::sync::Arc;
use std::time::Duration;

use omnigate::engines::imap::{ImapSettings, ImapSource, Login, Timeouts};
use omnigate::model::mailbox::{After, FirstRun, Mailbox, Tls};
use omnigate::model::time::Time;
use omnigate::ports::BoxFuture;
use omnigate::ports::clock::Clock;
use omnigate::ports::pull::{Pull, PullError, PullNews, PullSource, Pulled, PulledState, RollReason};
use omnigate::ports::store::{SourceRow, SourceRowState, SourceState};

/// The machine's clock.
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Time {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Time(i64::try_from(since.as_millis()).unwrap())
    }

    fn monotonic(&self) -> Duration {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(span))
    }
}

/// Settings for a server on loopback, without TLS, backfilling the INBOX.
pub fn settings(port: u16, user: &str) -> ImapSettings {
    ImapSettings {
        mailbox: Mailbox {
            host: "127.0.0.1".to_owned(),
            port,
            tls: Tls::None,
            insecure: false,
            ca_pem: None,
            user: user.to_owned(),
            folders: vec!["INBOX".to_owned()],
            after: After::Peek,
            first_run: FirstRun::Backfill,
            poll_interval: Duration::from_secs(1),
            idle: true,
            mail_bytes_max: 50 * 1024 * 1024,
            batch_items_max: 200,
            batch_bytes_max: 8 * 1024 * 1024,
            day_bytes_max: None,
        },
        login: Login::Password("secret".to_owned().into()),
        timeouts: Timeouts { connect: Duration::from_secs(5), read: Duration::from_secs(5), ..Timeouts::default() },
    }
}

/// What is durable of ana's INBOX (UIDVALIDITY 7) after mails up to `low_water`, looked over a moment ago; up to `first_run_top` was
/// there at the first run.
pub fn known(low_water: u64, first_run_top: u64) -> SourceState {
    SourceState {
        account: "imap:127.0.0.1:ana".to_owned(),
        folder: "INBOX".to_owned(),
        epoch: 1,
        epoch_name: 7,
        low_water,
        first_run_top,
        memo: format!("{{\"floor\":0,\"surveyed_at\":{}}}", WallClock.now().0),
    }
}

/// A source over settings.
pub fn source(settings: ImapSettings) -> ImapSource {
    ImapSource::new(settings, Arc::new(WallClock))
}

/// What became durable.
#[derive(Default)]
pub struct Desk {
    /// The cursors.
    pub states: Vec<SourceState>,
    /// Everything that was pulled, with its epoch and whether it is historic.
    pub things: Vec<(u64, bool, Pulled)>,
    /// Admitted and not settled: epoch and number.
    pub unsettled: Vec<(String, u64, u64)>,
    /// Rolls that were compared.
    pub rolls: usize,
    /// What a person was told.
    pub notes: Vec<(omnigate::model::codes::Code, String)>,
    /// Sessions that were opened by [`Desk::persist`].
    pub sessions: usize,
}

impl Desk {
    /// Asks until the source is quiet.
    pub async fn drain(&mut self, pull: &mut dyn Pull) -> Result<(), PullError> {
        for _ in 0..100_000 {
            match pull.next(&self.states).await? {
                PullNews::Quiet => return Ok(()),
                PullNews::State(state) => self.put(state),
                PullNews::Note { code, detail } => self.notes.push((code, detail)),
                PullNews::Roll(roll) => {
                    let known = |uid: u64, print: Option<u64>| match roll.reason {
                        RollReason::Gaps => self.uids().contains(&uid),
                        RollReason::Renumbered => print.is_some() && self.things.iter().any(|(_, _, thing)| thing.print == print),
                    };
                    let wanted = roll.there.iter().filter(|(uid, print)| !known(*uid, *print)).map(|(uid, _)| *uid).collect();
                    self.rolls += 1;
                    pull.wanted(&roll.folder, wanted);
                }
                PullNews::Batch(batch) => {
                    let mut state = self.states.iter().find(|state| state.folder == batch.folder).cloned().unwrap();
                    assert_eq!(state.epoch, batch.epoch);
                    let below = batch.to <= state.low_water;
                    assert!(below || state.low_water + 1 == batch.from, "ranges are gapless");
                    assert!(batch.to >= batch.from && batch.things.iter().all(|thing| (batch.from..=batch.to).contains(&thing.uid)));
                    assert!(batch.things.is_sorted_by(|one, two| one.uid < two.uid), "numbers ascend");
                    state.low_water = batch.to.max(state.low_water);
                    self.put(state);
                    for thing in batch.things {
                        if thing.state != PulledState::Gone {
                            self.unsettled.push((batch.folder.clone(), batch.epoch, thing.uid));
                        }
                        self.things.push((batch.epoch, batch.historic, thing));
                    }
                }
            }
        }
        panic!("the source is never quiet");
    }

    fn put(&mut self, state: SourceState) {
        assert!(state.memo.len() <= 4096);
        self.states.retain(|known| known.folder != state.folder);
        self.states.push(state);
    }

    /// Opens sessions until one reads to the end; at most `sessions`.
    pub async fn persist(&mut self, source: &ImapSource, sessions: usize) -> Box<dyn Pull> {
        let mut errors = Vec::new();
        for _ in 0..sessions {
            self.sessions += 1;
            let mut pull = match source.open().await {
                Ok(pull) => pull,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            match self.drain(&mut *pull).await {
                Ok(()) => return pull,
                Err(error) => errors.push(error),
            }
        }
        panic!("no session came to its end: {errors:?}");
    }

    /// Carries out the policy, as after a commit. Returns how many are done.
    pub async fn settle(&mut self, pull: &mut dyn Pull) -> Result<usize, PullError> {
        let mut count = 0;
        for state in self.states.clone() {
            let of = |entry: &&(String, u64, u64)| entry.0 == state.folder && entry.1 == state.epoch;
            let row = |uid: u64| SourceRow { uid, state: SourceRowState::Admitted, raw: None, print: None };
            let rows: Vec<_> = self.unsettled.iter().filter(of).map(|(_, _, uid)| row(*uid)).collect();
            let done = pull.settle(&state, &rows).await?;
            count += done.len();
            self.unsettled.retain(|entry| !(of(&entry) && done.contains(&entry.2)));
        }
        Ok(count)
    }

    /// The numbers of what was pulled.
    pub fn uids(&self) -> Vec<u64> {
        self.things.iter().map(|(_, _, thing)| thing.uid).collect()
    }

    /// The cursor of the INBOX.
    pub fn inbox(&self) -> &SourceState {
        self.states.iter().find(|state| state.folder == "INBOX").unwrap()
    }
}
