//! Inspect: a look at all that is in a pulled source, page by page, for comparison with what is known. Changes nothing there.

use crate::model::time::Time;
use crate::ports::BoxFuture;
use crate::ports::pull::PullError;

/// What is in a range of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The folder.
    pub folder: String,
    /// Epoch name at the source (UIDVALIDITY).
    pub epoch_name: u64,
    /// Mails in the whole folder, as the source says.
    pub exists: u64,
    /// First number of the range.
    pub from: u64,
    /// Last number of the range; the last page of a folder reaches beyond every number there is.
    pub to: u64,
    /// What is there, by number ascending.
    pub there: Vec<Seen>,
}

/// One thing of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its number.
    pub uid: u64,
    /// When the source received it.
    pub date: Option<Time>,
    /// What it is recognised by under another number.
    pub print: Option<u64>,
}

/// A session that looks.
pub trait Inspect: Send {
    /// The next page; `None` at the end. Folders one after the other, ranges ascending and without gaps.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Page>, PullError>>;

    /// Ends the session politely, within a short bound.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// A source that can be inspected.
pub trait Inspected: Send + Sync {
    /// The account, as in the states of its folders.
    fn account(&self) -> String;

    /// Connects and logs in.
    fn inspect(&self) -> BoxFuture<'_, Result<Box<dyn Inspect>, PullError>>;
}
