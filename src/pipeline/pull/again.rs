//! Again: mails that the server did not give are asked for again after an hour, six hours and a day. When one comes, it takes the place of
//! the quarantined item that stood for it.
//!
//! What must stay true: each try is written down before it is made, so that a mail that ends every session that asks for it ends no
//! more than these; a mail is never told twice, whoever else deals with the item meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::time::Time;
use crate::pipeline::pull::PullChannel;
use crate::pipeline::pull::ask::Session;
use crate::pipeline::sessions::Ended;
use crate::ports::pull::{Pull, PulledBatch, PulledState};
use crate::ports::store::{SourceCommit, SourceRowState, SourceState, Write};

/// Pauses before the tries. After the last one it is for a person.
const PAUSES: [Duration; 3] = [Duration::from_secs(3600), Duration::from_secs(6 * 3600), Duration::from_secs(24 * 3600)];
/// Mails that are remembered for an account (a memo has 64 KiB); a mailbox with more has another trouble than single mails.
const NOTED_MAX: usize = 500;

/// The mails of one account that are to be asked for again.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Again {
    /// By folder and number.
    folders: BTreeMap<String, BTreeMap<u64, Noted>>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Noted {
    epoch: u64,
    tries: usize,
    due_ms: i64,
}

/// Memo that holds them.
pub(super) fn again_key(account: &str) -> String {
    format!("{account}/again")
}

impl Again {
    /// As written down before.
    pub fn read(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    fn write(&self, account: &str) -> Write {
        let value = serde_json::to_string(self).ok().filter(|_| !self.folders.is_empty());
        Write::Memo { key: again_key(account), value }
    }

    /// Notes what a batch has of mails that were not given. What is to be written down, if there are any.
    pub fn note(&mut self, account: &str, batch: &PulledBatch, now: Time) -> Option<Write> {
        let mut noted: usize = self.folders.values().map(BTreeMap::len).sum();
        let before = noted;
        for thing in batch.things.iter().filter(|thing| matches!(thing.state, PulledState::Unfetchable { .. })) {
            if noted < NOTED_MAX {
                let entry = Noted { epoch: batch.epoch, tries: 0, due_ms: after(now, 0) };
                self.folders.entry(batch.folder.clone()).or_default().insert(thing.uid, entry);
                noted += 1;
            }
        }
        (noted > before).then(|| self.write(account))
    }

    /// When the next one is due.
    pub fn due(&self) -> Option<Time> {
        self.folders.values().flat_map(BTreeMap::values).map(|noted| Time(noted.due_ms)).min()
    }

    /// The next one that is due: folder, epoch and number. The try is counted.
    fn take_due(&mut self, now: Time) -> Option<(String, u64, u64)> {
        let found = self.folders.iter().find_map(|(folder, noted)| {
            let (uid, noted) = noted.iter().find(|(_, noted)| noted.due_ms <= now.0)?;
            Some((folder.clone(), noted.epoch, *uid))
        })?;
        let entry = self.folders.get_mut(&found.0)?.get_mut(&found.2)?;
        entry.tries += 1;
        entry.due_ms = after(now, entry.tries);
        if entry.tries >= PAUSES.len() {
            self.forget(&found.0, found.2);
        }
        Some(found)
    }

    fn forget(&mut self, folder: &str, uid: u64) {
        if let Some(noted) = self.folders.get_mut(folder) {
            noted.remove(&uid);
        }
        self.folders.retain(|_, noted| !noted.is_empty());
    }
}

fn after(now: Time, tries: usize) -> i64 {
    let pause = PAUSES.get(tries).map_or(0, |pause| i64::try_from(pause.as_millis()).unwrap_or(i64::MAX));
    now.0.saturating_add(pause)
}

impl PullChannel {
    /// Asks for what is due. True if something came.
    pub(super) async fn try_again(&self, pull: &mut dyn Pull, session: &mut Session) -> Result<bool, Ended> {
        let mut came = false;
        while let Some((folder, epoch, uid)) = session.again.take_due(self.clock.now()) {
            self.writer.write(session.again.write(&session.account)).await?;
            let state = session.states.iter().find(|state| state.folder == folder && state.epoch == epoch).cloned();
            let stands = match &state {
                Some(state) => self.stands_for(state, uid).await?,
                None => None,
            };
            let (Some(state), Some(old)) = (state, stands) else {
                // Renumbered, or dealt with by somebody else.
                session.again.forget(&folder, uid);
                continue;
            };
            tracing::info!(messaging.destination.name = %self.id, "asking once more for a mail that was not given");
            let Some(batch) = pull.again(&state, uid).await? else { continue };
            let whole = batch.things.iter().any(|thing| thing.state == PulledState::Whole);
            if whole {
                self.replace(&state, old, batch).await?;
                came = true;
            }
            session.again.forget(&folder, uid);
            self.writer.write(session.again.write(&session.account)).await?;
        }
        Ok(came)
    }

    /// The raw that stands for a mail in the quarantine.
    async fn stands_for(&self, state: &SourceState, uid: u64) -> Result<Option<crate::model::id::RawId>, Ended> {
        let source = (state.account.clone(), state.folder.clone(), state.epoch);
        let rows = self.store.source_rows(&source, (state.epoch, uid.saturating_sub(1)), 1).await?;
        let row = rows.into_iter().map(|(_, row)| row).find(|row| row.uid == uid && row.state == SourceRowState::Quarantined);
        Ok(row.and_then(|row| row.raw))
    }

    async fn replace(&self, state: &SourceState, old: crate::model::id::RawId, batch: PulledBatch) -> Result<(), Ended> {
        let historic = batch.historic;
        for thing in batch.things {
            let number = (thing.uid, thing.print);
            let kept = self.keep(thing, self.clock.now()).await?;
            self.store.stage(vec![kept.record.clone()], None).await?;
            let answers = self.look_up(std::slice::from_ref(&kept)).await;
            let mut admissions = self.read(vec![kept], false, historic, answers).await?;
            self.break_loops(&mut admissions, self.clock.now());
            for admission in admissions {
                let rows = vec![self.row(&admission, number)];
                let source = SourceCommit { state: state.clone(), rows, parsed: None, lease_epoch: self.lease_epoch };
                self.writer.write(Write::Refetched { old, admission, source }).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tries_are_an_hour_six_hours_and_a_day_apart_and_then_over() {
        let mut again = Again::default();
        again.folders.entry("INBOX".to_owned()).or_default().insert(4, Noted { epoch: 1, tries: 0, due_ms: after(Time(0), 0) });
        let mut tries = Vec::new();
        for hour in 0..100 {
            let now = Time(hour * 3_600_000);
            // A restart in between changes nothing.
            again = Again::read(serde_json::to_string(&again).ok().as_deref());
            if again.take_due(now).is_some() {
                tries.push(hour);
            }
        }
        assert_eq!(tries, [1, 7, 31]);
        assert!(again.due().is_none());
    }
}
