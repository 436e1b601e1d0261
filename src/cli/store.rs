//! `migrate`, `backup`, `restore`, `erase`: care of the store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::app::alone;
use crate::cli::Context;
use crate::cli::daemon::done;
use crate::cli::exit::Failure;
use crate::cli::output::{Busy, confirm};
use crate::cli::reach::{daemon, data_dir, runs};
use crate::config::key::{KeyError, instance_key};
use crate::config::load::load_reach;
use crate::config::source::Disk;
use crate::model::id::ContactId;
use crate::ports::store::Store;
use crate::server::api::verbs::BackupAsked;
use crate::stores::sqlite::{SqliteStore, restore_backup, verify_backup};

/// `migrate`.
pub async fn migrate(context: &Context) -> Result<(), Failure> {
    let data = data_dir(&context.config)?;
    if !data.exists() {
        return Err(Failure::Missing(format!("{} holds no store yet: `omnigate run` makes it", data.display())));
    }
    let busy = Busy::with("migrating the store");
    open(&data)?.close().await?;
    drop(busy);
    done(context, &format!("the store in {} has the form of omnigate {}", data.display(), env!("CARGO_PKG_VERSION")))
}

/// Opens the store for writing, while no daemon runs.
pub fn open(folder: &Path) -> Result<SqliteStore, Failure> {
    alone::open(folder).map_err(|error| Failure::Failed(error.to_string()))
}

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// New folder, on the daemon's machine
    pub folder: PathBuf,
}

/// `backup`.
pub async fn backup(context: &Context, args: &BackupArgs) -> Result<(), Failure> {
    let folder = std::path::absolute(&args.folder)?;
    let client = daemon(&context.config).await?;
    let busy = Busy::with("copying the store");
    client.ask::<serde_json::Value>(&["backup"], &BackupAsked { folder: folder.clone() }).await?;
    drop(busy);
    let text = format!("backed up to {}\nthe instance key is not in it: keep that apart, no restore works without it", folder.display());
    context.output.show(&serde_json::json!({ "folder": folder }), |_| text)
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Folder that `backup` made
    pub folder: PathBuf,
    /// Replace the store that is there; its files stay beside it, named .replaced
    #[arg(long)]
    pub force: bool,
}

/// The file without which there is no store.
const STORE: &str = "omnigate.db";
/// Folder of large raws and fetched files, in the data folder and in a backup.
const BLOBS: &str = "blobs";
/// What a backup notes about the key it was made with.
const KEY_NOTE: &str = "instance-key.fingerprint";

/// `restore`: offline only. The store that is there is set aside, never deleted.
pub async fn restore(context: &Context, args: &RestoreArgs) -> Result<(), Failure> {
    if runs(&context.config).await? {
        return Err(Failure::Refused("a gateway is running on this configuration: stop it first".to_owned()));
    }
    let data = data_dir(&context.config)?;
    let busy = Busy::with("checking the backup");
    let facts = verify_backup(&args.folder).map_err(|error| Failure::Failed(format!("the backup cannot be used: {error}")))?;
    drop(busy);
    check_key(context, &args.folder)?;
    let replaces = data.join(STORE).exists();
    if replaces && !args.force {
        return Err(Failure::Refused(format!("{} holds a store already: --force replaces it", data.display())));
    }
    let busy = Busy::with("restoring");
    std::fs::create_dir_all(&data)?;
    // Files first: a store that names files which are not there yet would be worse than files nobody names.
    copy_tree(&args.folder.join(BLOBS), &data.join(BLOBS))?;
    restore_backup(&args.folder, &data).map_err(|error| Failure::Failed(error.to_string()))?;
    drop(busy);
    let value = serde_json::json!({
        "data_dir": data, "replaced": replaces, "schema": facts.schema, "received": facts.received, "events": facts.events, "raws": facts.raws,
    });
    context.output.show(&value, |_| {
        let mut text =
            format!("restored into {}: items {}, events {}, raws {}\n", data.display(), facts.received, facts.events, facts.raws);
        if replaces {
            text.push_str("the files of the store that was there stay beside it, named .replaced, until the next restore\n");
        }
        text.push_str("what was received after the backup comes again from its platform, under the same keys\n");
        text
    })
}

/// A store under another key would take everything it has seen for new.
fn check_key(context: &Context, backup: &Path) -> Result<(), Failure> {
    let Ok(noted) = std::fs::read_to_string(backup.join(KEY_NOTE)) else { return Ok(()) };
    let place = load_reach(&context.config, &Disk)?.0.key;
    let found = match instance_key(&place, &Disk, None) {
        Ok(made) => made.secret.fingerprint(),
        Err(KeyError::Missing { place, .. }) => {
            return Err(Failure::Refused(format!("the instance key ({place}) is missing: put the one of the backup there first")));
        }
        Err(error) => return Err(Failure::Failed(error.to_string())),
    };
    if found == noted.trim() {
        return Ok(());
    }
    let text =
        format!("the backup was made with the instance key {}, here is {found}: put the key of the backup there first", noted.trim());
    Err(Failure::Refused(text))
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), Failure> {
    let entries = match std::fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    std::fs::create_dir_all(to)?;
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        if path.is_dir() {
            copy_tree(&path, &to.join(name))?;
        } else {
            std::fs::copy(&path, to.join(name))?;
            std::fs::File::open(to.join(name))?.sync_all()?;
        }
    }
    Ok(std::fs::File::open(to)?.sync_all()?)
}

/// Arguments of `erase`.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// Id of the contact: cnt_…
    pub contact: ContactId,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// `erase`.
pub async fn erase(context: &Context, args: &EraseArgs) -> Result<(), Failure> {
    let client = daemon(&context.config).await?;
    confirm("Messages, raws and waiting deliveries of this contact go for good. Erase?", args.yes)?;
    let counts: BTreeMap<String, u64> = client.ask(&["contacts", &args.contact.to_string(), "erase"], &()).await?;
    if counts.is_empty() {
        return done(context, "erased");
    }
    context.output.show(&counts, |counts| {
        let parts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        format!("erased: {}", parts.join(", "))
    })
}
