//! What can be asked of the gateway: pause, resume, replay, reprocess, reload, backup, erase.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use hyper::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::id::ContactId;
use crate::model::time::Time;
use crate::model::view::DeliveryFilter;
use crate::ports::control::{Consent, FolderCompared, Reloaded, ReplayRequest, SubscriptionView};
use crate::server::api::{Count, Named, Page, Shared, Told};
use crate::server::problem::Problem;

/// Fastest replay that can be asked for, deliveries a second.
const REPLAY_RATE_MAX: f64 = 100_000.0;
/// Longest folder name of an IMAP server that is believed.
const FOLDER_BYTES_MAX: usize = 1024;
/// Longest refresh token: sealed it must fit into a memo of the store.
const REFRESH_TOKEN_BYTES_MAX: usize = 32 * 1024;

/// `POST /v1/destinations/{name}/pause`.
pub async fn pause(State(shared): State<Shared>, Named(name): Named<String>) -> Result<StatusCode, Problem> {
    shared.control.pause(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/destinations/{name}/resume`.
pub async fn resume(State(shared): State<Shared>, Named(name): Named<String>) -> Result<StatusCode, Problem> {
    shared.control.resume(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/destinations/{name}/drop`.
pub async fn drop_destination(State(shared): State<Shared>, Named(name): Named<String>) -> Result<Json<Count>, Problem> {
    Ok(Json(Count { count: shared.control.drop_destination(&name).await? }))
}

/// Body of `POST /v1/dead/replay` and `POST /v1/dead/discard`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadAsked {
    /// Which dead letters. Its `state` and `limit` are not looked at.
    #[serde(default)]
    pub filter: DeliveryFilter,
    /// Every dead letter there is: must be said when the filter is empty.
    #[serde(default)]
    pub all: bool,
}

impl DeadAsked {
    fn check(mut self) -> Result<DeliveryFilter, Problem> {
        (self.filter.state, self.filter.limit) = (None, 0);
        if self.filter == DeliveryFilter::default() && !self.all {
            return Err(Problem::invalid("body: the filter is empty; write \"all\": true to mean every dead letter"));
        }
        Ok(self.filter)
    }
}

/// `POST /v1/dead/replay`.
pub async fn dead_replay(State(shared): State<Shared>, Told(asked): Told<DeadAsked>) -> Result<Json<Count>, Problem> {
    Ok(Json(Count { count: shared.control.dead(asked.check()?, false).await? }))
}

/// `POST /v1/dead/discard`.
pub async fn dead_discard(State(shared): State<Shared>, Told(asked): Told<DeadAsked>) -> Result<Json<Count>, Problem> {
    Ok(Json(Count { count: shared.control.dead(asked.check()?, true).await? }))
}

/// `POST /v1/replay`.
pub async fn replay(State(shared): State<Shared>, Told(asked): Told<ReplayRequest>) -> Result<Json<Count>, Problem> {
    if asked.filter.destination.as_deref().unwrap_or("").is_empty() {
        return Err(Problem::invalid("body: filter.destination must name the destination that gets the events again"));
    }
    if asked.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0 || rate > REPLAY_RATE_MAX) {
        return Err(Problem::invalid(format!("body: rate must be above 0 and at most {REPLAY_RATE_MAX} deliveries a second")));
    }
    if let (Some(since), Some(until)) = (asked.filter.since, asked.filter.until)
        && since >= until
    {
        return Err(Problem::invalid("body: filter.since must lie before filter.until"));
    }
    Ok(Json(Count { count: shared.control.replay(asked).await? }))
}

/// Answer of `POST /v1/quarantine/{item}/reprocess`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reprocessed {
    /// What became of the item now.
    pub fate: String,
}

/// `POST /v1/quarantine/{item}/reprocess`.
pub async fn reprocess(State(shared): State<Shared>, Named(item): Named<i64>) -> Result<Json<Reprocessed>, Problem> {
    Ok(Json(Reprocessed { fate: shared.control.reprocess(item).await? }))
}

/// Body of `POST /v1/channels/{id}/backfill`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackfillAsked {
    /// Nothing older than this; without it everything.
    #[serde(default)]
    pub since: Option<Time>,
    /// Only this folder.
    #[serde(default)]
    pub folder: Option<String>,
}

/// `POST /v1/channels/{id}/backfill`.
pub async fn backfill(
    State(shared): State<Shared>,
    Named(id): Named<String>,
    Told(asked): Told<BackfillAsked>,
) -> Result<StatusCode, Problem> {
    if asked.folder.as_ref().is_some_and(|folder| folder.is_empty() || folder.len() > FOLDER_BYTES_MAX || folder.contains(char::is_control))
    {
        return Err(Problem::invalid("body: folder must be a folder's name"));
    }
    shared.control.backfill(&id, asked.since, asked.folder.as_deref()).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Body of `POST /v1/channels/{id}/reconcile`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReconcileAsked {
    /// Take in what was overlooked; goes on behind the answer.
    #[serde(default)]
    pub repair: bool,
}

/// `POST /v1/channels/{id}/reconcile`.
pub async fn reconcile(
    State(shared): State<Shared>,
    Named(id): Named<String>,
    Told(asked): Told<ReconcileAsked>,
) -> Result<Json<Page<FolderCompared>>, Problem> {
    Ok(Json(Page { items: shared.control.reconcile(&id, asked.repair).await?, next: None }))
}

/// Body of `POST /v1/channels/{id}/consent`.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsentGiven {
    /// The refresh token that the identity provider gave.
    pub refresh_token: String,
    /// Seconds it is good for, if the provider said so.
    #[serde(default)]
    pub ends_in_s: Option<u64>,
}

/// `POST /v1/channels/{id}/consent`.
pub async fn consent(
    State(shared): State<Shared>,
    Named(id): Named<String>,
    Told(asked): Told<ConsentGiven>,
) -> Result<StatusCode, Problem> {
    if asked.refresh_token.is_empty() || asked.refresh_token.len() > REFRESH_TOKEN_BYTES_MAX {
        return Err(Problem::invalid("body: refresh_token must be a refresh token"));
    }
    let given = Consent { refresh_token: asked.refresh_token.into(), ends_in: asked.ends_in_s.map(Duration::from_secs) };
    shared.control.consent(&id, given).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/channels/{id}/subscribe`.
pub async fn subscribe(State(shared): State<Shared>, Named(id): Named<String>) -> Result<Json<SubscriptionView>, Problem> {
    Ok(Json(shared.control.subscribe(&id).await?))
}

/// `POST /v1/channels/{id}/unsubscribe`.
pub async fn unsubscribe(State(shared): State<Shared>, Named(id): Named<String>) -> Result<Json<SubscriptionView>, Problem> {
    Ok(Json(shared.control.unsubscribe(&id).await?))
}

/// `GET /v1/channels/{id}/subscription`.
pub async fn subscription(State(shared): State<Shared>, Named(id): Named<String>) -> Result<Json<SubscriptionView>, Problem> {
    Ok(Json(shared.control.subscription(&id).await?))
}

/// `POST /v1/reload`.
pub async fn reload(State(shared): State<Shared>) -> Result<Json<Reloaded>, Problem> {
    Ok(Json(shared.control.reload().await?))
}

/// Body of `POST /v1/backup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupAsked {
    /// Folder on the daemon's machine, absolute; made by the backup, must not exist.
    pub folder: PathBuf,
}

/// `POST /v1/backup`.
pub async fn backup(State(shared): State<Shared>, Told(asked): Told<BackupAsked>) -> Result<StatusCode, Problem> {
    let climbs = asked.folder.components().any(|part| part == std::path::Component::ParentDir);
    if !asked.folder.is_absolute() || climbs {
        return Err(Problem::invalid("body: folder must be an absolute path without `..`, on the daemon's machine"));
    }
    shared.control.backup(&asked.folder).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/contacts/{id}/erase`: counts by name.
pub async fn erase(State(shared): State<Shared>, Named(id): Named<ContactId>) -> Result<Json<BTreeMap<String, u64>>, Problem> {
    Ok(Json(shared.control.erase(id).await?))
}
