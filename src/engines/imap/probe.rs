//! A look at a mailbox for `check --connect`: lines for a person, nothing is changed.

use async_imap::imap_proto::{AttributeValue, Response};

use crate::engines::imap::conn::Conn;
use crate::engines::imap::folder::{View, select};
use crate::engines::imap::text::internal_date;
use crate::engines::imap::{ImapSettings, settle, surroundings};
use crate::model::mailbox::{After, FirstRun};
use crate::model::time::Time;
use crate::ports::pull::PullError;

/// What a person wants to know about the server's extensions.
const TELLING: &[&str] = &["IDLE", "MOVE", "UIDPLUS", "CONDSTORE", "QRESYNC", "OBJECTID", "ID", "SPECIAL-USE"];

/// Looks, and tells.
pub async fn probe(settings: &ImapSettings, conn: &mut Conn) -> Result<Vec<String>, PullError> {
    let known: Vec<_> = TELLING.iter().filter(|name| conn.can(name)).copied().collect();
    let mut lines =
        vec![format!("logged in to {}:{}", settings.mailbox.host, settings.mailbox.port), format!("the server can {}", known.join(" "))];
    lines.push(surroundings::folders(conn).await?);
    for folder in &settings.mailbox.folders {
        let view = select(conn, folder, true).await?;
        lines.push(describe(conn, folder, &view).await?);
        if settings.mailbox.after == After::Flag && !view.keywords {
            lines.push(format!("folder {folder:?} takes no keywords: its mails would stay unmarked"));
        }
        if let Some(names) = surroundings::vouchers(conn, view.exists).await? {
            let advice = "whom you trust of them belongs into [settings] authserv_ids";
            lines.push(format!("folder {folder:?}: senders of the newest mails were checked by {names}; {advice}"));
        }
    }
    lines.push(match settings.mailbox.first_run {
        FirstRun::FromNow => "first run: only mails that arrive from now on".to_owned(),
        FirstRun::Backfill => "first run: everything above, as historic".to_owned(),
    });
    let idle = settings.mailbox.idle && conn.can("IDLE");
    let polled = if idle { settings.mailbox.folders.get(1..).unwrap_or_default().len() } else { settings.mailbox.folders.len() };
    lines.push(match (idle, polled) {
        (true, 0) => "news by IDLE".to_owned(),
        (_, _) => format!(
            "{}{polled} folders are looked at every {} s",
            if idle { "news by IDLE in the first folder; " } else { "" },
            settings.mailbox.poll_interval.as_secs()
        ),
    });
    lines.push(policy(settings, conn));
    if let After::Move(target) = &settings.mailbox.after
        && !surroundings::exists(conn, target).await.map_err(|failed| failed.fatal("LIST"))?
    {
        lines.push(format!("folder {target:?} is not there yet: it would be made"));
    }
    Ok(lines)
}

fn policy(settings: &ImapSettings, conn: &Conn) -> String {
    match &settings.mailbox.after {
        After::Peek => "after the commit: nothing changes in the mailbox".to_owned(),
        After::Flag => format!("after the commit: keyword {}, where the folder takes keywords", settle::KEYWORD),
        After::Seen => "after the commit: mails are marked as seen".to_owned(),
        After::Delete(age) => {
            let days = age.as_secs() / 86_400;
            let how = if conn.can("UIDPLUS") { "deleted" } else { "marked as deleted, because the server has no UIDPLUS" };
            format!("after the commit: mails that are {days} days old or older are {how}")
        }
        After::Move(target) => {
            let how = match (conn.can("MOVE"), conn.can("UIDPLUS")) {
                (true, _) => "with MOVE",
                (false, true) => "by copy and UID EXPUNGE",
                (false, false) => "by copy; the original is only marked as deleted, because the server has neither MOVE nor UIDPLUS",
            };
            format!("after the commit: mails move to {target:?}, {how}")
        }
    }
}

async fn describe(conn: &mut Conn, folder: &str, view: &View) -> Result<String, PullError> {
    if view.exists == 0 {
        return Ok(format!("folder {folder:?}: empty, uidvalidity {}", view.validity));
    }
    let oldest = date_of(conn, "1").await?;
    let newest = date_of(conn, "*").await?;
    let day = |time: Option<Time>| time.map_or("?".to_owned(), |time| time.to_string().chars().take(10).collect());
    let (first, last) = (day(oldest), day(newest));
    Ok(format!("folder {folder:?}: {} mails from {first} to {last}, uidvalidity {}", view.exists, view.validity))
}

async fn date_of(conn: &mut Conn, number: &str) -> Result<Option<Time>, PullError> {
    let mut found = None;
    let mut see = |response: &Response<'_>| {
        let Response::Fetch(_, attributes) = response else { return };
        for attribute in attributes {
            if let AttributeValue::InternalDate(text) = attribute {
                found = internal_date(text).or(found);
            }
        }
    };
    let command = format!("FETCH {number} (UID INTERNALDATE)");
    conn.run(&command, &mut see).await.map_err(|failed| failed.fatal("FETCH"))?;
    Ok(found)
}
