//! Mailboxes: what a person asks of a mail channel — take in what is old, compare with what was taken in, go on with a new consent.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::app::control::failed;
use crate::app::feeds::Road;
use crate::app::gateway::Gateway;
use crate::app::wire;
use crate::config::channel_set;
use crate::config::connectors::Connectors;
use crate::config::load::Loaded;
use crate::config::oauth::OAuthGrant;
use crate::config::settings::ChannelFile;
use crate::config::source::Disk;
use crate::connector::kit::ChannelKit;
use crate::engines::imap::ImapSource;
use crate::model::mailbox::FirstRun;
use crate::model::time::Time;
use crate::pipeline::pull::backfill_key;
use crate::pipeline::reconcile::reconcile;
use crate::ports::control::{Consent, ControlError, FolderCompared};
use crate::ports::pull::PullSource;
use crate::ports::store::{SourceCommit, SourceState, Write, pull_lease};

/// The new low-water mark of a folder; `None`: as it is.
type Mark<'a> = &'a (dyn Fn(&SourceState) -> Option<u64> + Sync);

impl Gateway {
    /// The files of today, and a mail channel that runs.
    async fn mail_file(&self, channel: &str) -> Result<(Loaded, Arc<ChannelFile>), ControlError> {
        let running = self.running.lock().await;
        let loaded = running.loaded.clone().ok_or_else(|| ControlError::Failed("the gateway is starting".to_owned()))?;
        let file = loaded.channels.get(channel).and_then(|file| file.as_ref().ok()).filter(|_| running.pulls.contains_key(channel));
        let file = file.cloned().ok_or_else(|| ControlError::Missing(format!("there is no running mail channel `{channel}`")))?;
        Ok((loaded, file))
    }

    /// Stops the channel, moves its marks, and starts it again: it lists and fetches anew what lies above them. What is known is a
    /// duplicate, what lies below the first run is historic.
    async fn rewind(&self, loaded: &Loaded, file: &Arc<ChannelFile>, memo: Option<Write>, mark: Mark<'_>) -> Result<(), ControlError> {
        let mut running = self.running.lock().await;
        let again = wire::mail_channel(file, &self.parts.tokens).map_err(ControlError::Refused)?;
        self.stop_pull(&mut running, &file.id).await;
        let source = ImapSource::new(again.settings.clone(), self.parts.clock.clone());
        let rewound = self.move_marks(&PullSource::account(&source), memo, mark).await;
        let pulling = self.start_pull(again, loaded).await?;
        running.pulls.insert(file.id.clone(), pulling);
        rewound
    }

    async fn move_marks(&self, account: &str, memo: Option<Write>, mark: Mark<'_>) -> Result<(), ControlError> {
        let lease_epoch = self.parts.store.take_lease(&pull_lease(account), "rewind").await?;
        let states = self.parts.store.sources(account).await?;
        let marked: Vec<_> = states.into_iter().filter_map(|state| Some((mark(&state)?, state))).collect();
        if marked.is_empty() {
            return Err(ControlError::Refused("nothing to go back to: the channel has not seen that folder yet".to_owned()));
        }
        if let Some(memo) = memo {
            self.parts.writer.write(memo).await?;
        }
        for (mark, state) in marked {
            let state = SourceState { low_water: state.low_water.min(mark), ..state };
            let commit = SourceCommit { state, rows: Vec::new(), parsed: None, lease_epoch };
            self.parts.writer.admit_staged(Vec::new(), Some(commit.into())).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Takes in what lies before the first run.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn backfill_channel(&self, channel: &str, since: Option<Time>, folder: Option<&str>) -> Result<(), ControlError> {
        let (loaded, file) = self.mail_file(channel).await?;
        let mail = wire::mail_channel(&file, &self.parts.tokens).map_err(ControlError::Refused)?;
        let account = PullSource::account(&ImapSource::new(mail.settings, self.parts.clock.clone()));
        let memo = Write::Memo { key: backfill_key(&account), value: since.map(|since| since.to_string()) };
        let mark = |state: &SourceState| folder.is_none_or(|folder| folder == state.folder).then_some(0);
        self.rewind(&loaded, &file, Some(memo), &mark).await
    }

    /// Compares a mailbox with what was taken in from it, and takes in what was overlooked.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn reconcile_channel(&self, channel: &str, repair: bool) -> Result<Vec<FolderCompared>, ControlError> {
        let (loaded, file) = self.mail_file(channel).await?;
        let mail = wire::mail_channel(&file, &self.parts.tokens).map_err(ControlError::Refused)?;
        let backfill = mail.settings.mailbox.first_run == FirstRun::Backfill;
        let source = ImapSource::new(mail.settings, self.parts.clock.clone());
        let compared = reconcile(&source, &*self.parts.store, backfill).await.map_err(failed)?;
        let overlooked: BTreeMap<&str, u64> = compared.iter().filter_map(first_overlooked).collect();
        if repair && !overlooked.is_empty() {
            // Everything above the first of them is fetched again; what is known is recognised by its content.
            let mark = |state: &SourceState| overlooked.get(state.folder.as_str()).map(|uid| uid.saturating_sub(1));
            self.rewind(&loaded, &file, None, &mark).await?;
        }
        Ok(compared)
    }

    /// Takes over the consent that a person just gave, and goes on with it.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn take_consent(&self, channel: &str, given: Consent) -> Result<(), ControlError> {
        let mut running = self.running.lock().await;
        let loaded = running.loaded.clone().ok_or_else(|| ControlError::Failed("the gateway is starting".to_owned()))?;
        let file = loaded.channels.get(channel).and_then(|file| file.as_ref().ok());
        let file = file.ok_or_else(|| ControlError::Missing(format!("there is no channel `{channel}`")))?;
        let source = match &file.oauth {
            Some(oauth) if oauth.grant == OAuthGrant::RefreshToken => self.parts.tokens.source(file, oauth),
            Some(_) => Err(format!("the channel `{channel}` takes no log-ins")),
            None => self.kit(&loaded, file).and_then(|kit| self.parts.tokens.consented(&kit)),
        };
        let source = source.map_err(ControlError::Refused)?;
        source.adopt(given.refresh_token, given.ends_in).await.map_err(failed)?;
        tracing::info!(messaging.destination.name = %channel, "consent taken over");
        if running.pulls.contains_key(channel) {
            // It may be waiting for minutes because of the old one.
            let again = wire::mail_channel(file, &self.parts.tokens).map_err(ControlError::Refused)?;
            self.stop_pull(&mut running, channel).await;
            let pulling = self.start_pull(again, &loaded).await?;
            running.pulls.insert(channel.to_owned(), pulling);
        } else {
            let roads: Vec<Road> = running.feeds.keys().filter(|(id, _)| id == channel).cloned().collect();
            for road in &roads {
                self.stop_feed(&mut running, road).await;
            }
            // Everything else is as it was, and stays.
            self.apply_channels(&mut running, &loaded).await;
        }
        Ok(())
    }

    /// How the platform of a channel is called.
    fn kit(&self, loaded: &Loaded, file: &ChannelFile) -> Result<ChannelKit, String> {
        let connector = Connectors::of(&loaded.config, &Disk).get(&file.connector);
        match connector {
            Some(Ok(connector)) if !connector.manifest.is_mail() => Ok(ChannelKit::of(connector, &channel_set::spec(file))),
            _ => Err(format!("the channel `{}` takes no log-ins", file.id)),
        }
    }
}

/// A folder's first mail that was overlooked, or stands where another was.
fn first_overlooked(folder: &FolderCompared) -> Option<(&str, u64)> {
    let first = folder.missing.numbers.iter().chain(&folder.changed.numbers).min()?;
    Some((&folder.folder, *first))
}
