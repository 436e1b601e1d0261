//! File: events appended to a local file, one line of JSON each.
//!
//! A delivery is taken once its line is on disk (durability `power`) or with the kernel (`process`). Deliveries that wait together share
//! one write and one fsync. A line torn by a crash or a full disk is never continued: the next write starts on a fresh line, and
//! the torn event comes again whole. A file that was rotated away (another inode under the path, or none) is opened anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::destinations::shape::Shape;
use crate::destinations::stdout::line;
use crate::model::codes::Code;
use crate::model::delivery::Outgoing;
use crate::ports::BoxFuture;
use crate::ports::destination::{DeliverError, Destination, Receipt};

/// Lines written and synced together, at most this many bytes (or one line that is longer).
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

type Answer = Result<(), String>;

/// A file of events.
pub struct EventFile {
    shape: Shape,
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    fsync: bool,
    queue: Mutex<Vec<(Vec<u8>, oneshot::Sender<Answer>)>>,
    /// Held by whoever writes for all that wait.
    open: Arc<tokio::sync::Mutex<Option<Open>>>,
}

struct Open {
    file: File,
    identity: Option<(u64, u64)>,
}

impl EventFile {
    /// Appends to `path`, which is made when the first event comes; its folder must exist. `fsync`: durability `power`.
    pub fn new(path: PathBuf, fsync: bool, shape: Shape) -> Self {
        Self { shape, shared: Arc::new(Shared { path, fsync, queue: Mutex::default(), open: Arc::default() }) }
    }
}

impl Destination for EventFile {
    fn deliver<'a>(&'a self, outgoing: &'a Outgoing) -> BoxFuture<'a, Result<Receipt, DeliverError>> {
        Box::pin(async move {
            let line = line(self.shape.render(&outgoing.bytes).await?.as_ref());
            let (answer, mut answered) = oneshot::channel();
            self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).push((line, answer));
            loop {
                // The first to come writes for all that queue up behind it; the others find their answer when they get here.
                let guard = Arc::clone(&self.shared.open).lock_owned().await;
                match answered.try_recv() {
                    Ok(Ok(())) => return Ok(Receipt::default()),
                    Ok(Err(detail)) => return Err(failed(detail)),
                    Err(oneshot::error::TryRecvError::Closed) => return Err(failed("the writing thread ended".to_owned())),
                    Err(oneshot::error::TryRecvError::Empty) => {}
                }
                let shared = Arc::clone(&self.shared);
                if let Err(error) = tokio::task::spawn_blocking(move || write_batch(&shared, guard)).await {
                    return Err(failed(error.to_string()));
                }
            }
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, DeliverError>> {
        let path = self.shared.path.clone();
        Box::pin(async move {
            let looked = tokio::task::spawn_blocking(move || {
                open(&path).map(|_| format!("{} can be written", path.display())).map_err(|error| format!("{}: {error}", path.display()))
            });
            looked.await.unwrap_or_else(|error| Err(error.to_string())).map_err(failed)
        })
    }
}

fn failed(detail: String) -> DeliverError {
    DeliverError::Later { code: Code::WriteFailed, status: None, detail, after: None }
}

fn write_batch(shared: &Shared, mut guard: tokio::sync::OwnedMutexGuard<Option<Open>>) {
    let batch = {
        let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        let fitting = queue.iter().take_while(|(line, _)| {
            bytes += line.len();
            bytes <= BATCH_BYTES_MAX
        });
        let count = fitting.count().max(1).min(queue.len());
        queue.drain(..count).collect::<Vec<_>>()
    };
    let written = append(shared, &mut guard, &batch);
    if written.is_err() {
        // Whatever part of a line got through is found at the next opening.
        *guard = None;
    }
    let answer = written.map_err(|error| format!("{}: {error}", shared.path.display()));
    for (_, waiting) in batch {
        // A delivery that was cancelled does not listen any more; its line stays, as after any unknown outcome.
        let _ = waiting.send(answer.clone());
    }
}

fn append(shared: &Shared, slot: &mut Option<Open>, batch: &[(Vec<u8>, oneshot::Sender<Answer>)]) -> io::Result<()> {
    let rotated = slot.as_ref().is_none_or(|open| std::fs::metadata(&shared.path).ok().and_then(|seen| identity(&seen)) != open.identity);
    if rotated {
        *slot = Some(open(&shared.path)?);
        if shared.fsync {
            sync_folder(&shared.path)?;
        }
    }
    let Some(open) = slot else { return Ok(()) };
    let bytes: Vec<u8> = batch.iter().flat_map(|(line, _)| line.iter().copied()).collect();
    open.file.write_all(&bytes)?;
    if shared.fsync { open.file.sync_data() } else { Ok(()) }
}

fn open(path: &Path) -> io::Result<Open> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    if file.metadata()?.is_file() && file.seek(SeekFrom::End(0))? > 0 {
        let mut last = [0u8; 1];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    let identity = identity(&file.metadata()?);
    Ok(Open { file, identity })
}

#[cfg(unix)]
fn identity(seen: &std::fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((seen.dev(), seen.ino()))
}

#[cfg(not(unix))]
fn identity(_: &std::fs::Metadata) -> Option<(u64, u64)> {
    None
}

/// A new file's name survives a power cut only once its folder is synced.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::model::id::EventId;

    fn event(number: u128) -> Outgoing {
        Outgoing {
            event: EventId(number),
            event_type: "message.created".into(),
            conversation: None,
            channel: None,
            sequence: 0,
            previous: 0,
            bytes: format!("{{\"n\":{number}}}").into_bytes().into(),
            attempt: 1,
            replay: false,
        }
    }

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn deliveries_at_once_are_one_line_each() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.ndjson");
        let file = EventFile::new(path.clone(), true, Shape::default());
        let events: Vec<Outgoing> = (0..100).map(event).collect();
        let answers = futures_util::future::join_all(events.iter().map(|outgoing| file.deliver(outgoing))).await;
        assert!(answers.iter().all(Result::is_ok));
        let mut expected: Vec<String> = (0..100).map(|n| format!("{{\"n\":{n}}}")).collect();
        let mut found = lines(&path);
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn a_torn_last_line_is_not_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.ndjson");
        std::fs::write(&path, "{\"n\":1}\n{\"n\":").unwrap();
        EventFile::new(path.clone(), false, Shape::default()).deliver(&event(2)).await.unwrap();
        assert_eq!(lines(&path), ["{\"n\":1}", "{\"n\":", "{\"n\":2}"]);
    }

    #[tokio::test]
    async fn a_rotated_file_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("events.ndjson"), folder.path().join("events.1"));
        let file = EventFile::new(path.clone(), false, Shape::default());
        file.deliver(&event(1)).await.unwrap();
        std::fs::rename(&path, &old).unwrap();
        file.deliver(&event(2)).await.unwrap();
        assert_eq!((lines(&old), lines(&path)), (vec!["{\"n\":1}".to_owned()], vec!["{\"n\":2}".to_owned()]));
    }

    #[tokio::test]
    async fn a_missing_folder_is_a_failure_that_ends_when_it_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/events.ndjson");
        let file = EventFile::new(path.clone(), true, Shape::default());
        let error = file.deliver(&event(1)).await.unwrap_err();
        assert!(matches!(error, DeliverError::Later { code: Code::WriteFailed, .. }));
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        file.deliver(&event(1)).await.unwrap();
        assert_eq!(lines(&path), ["{\"n\":1}"]);
    }
}
