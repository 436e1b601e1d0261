//! One thread that owns one write connection. Asynchronous callers hand it jobs and await the answer; the queue is bounded, so a
//! slow disk is felt by those who write and by nobody else.

use std::fs::File;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::error::closed;
use crate::ports::store::StoreError;

/// Jobs that may wait for the thread. The pipeline's own queue is the one that gives backpressure.
const JOBS_MAX: usize = 64;

type Job<W> = Box<dyn FnOnce(&mut W) -> Next + Send>;

/// Whether the thread goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    Stop,
}

/// The way to a thread.
pub(super) struct Owner<W> {
    jobs: Option<mpsc::Sender<Job<W>>>,
    thread: Option<JoinHandle<()>>,
}

impl<W: Send + 'static> Owner<W> {
    /// Starts the thread. It holds the folder's lock until it ends.
    pub fn start(name: &str, mut owned: W, lock: Arc<File>) -> std::io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job<W>>(JOBS_MAX);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                if job(&mut owned) == Next::Stop {
                    break;
                }
            }
            drop(owned);
            drop(lock);
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Does `work` on the thread.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut W) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job<W> = Box::new(move |owned| {
            // Nobody may wait for it any more; the work is done all the same.
            let _ = answer.send(work(owned));
            Next::GoOn
        });
        self.jobs.as_ref().ok_or_else(closed)?.send(job).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Does `work` when its turn comes; nobody waits. Left out if the queue is full: such work is repeated by later care.
    pub fn hint(&self, work: impl FnOnce(&mut W) + Send + 'static) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.try_send(Box::new(move |owned| {
                work(owned);
                Next::GoOn
            }));
        }
    }

    /// Does `work` as the last thing on the thread.
    pub async fn last(&self, work: impl FnOnce(&mut W) -> Result<(), StoreError> + Send + 'static) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job<W> = Box::new(move |owned| {
            let _ = answer.send(work(owned));
            Next::Stop
        });
        self.jobs.as_ref().ok_or_else(closed)?.send(job).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

impl<W> Drop for Owner<W> {
    fn drop(&mut self) {
        // Whoever opens the folder next must find it free.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
