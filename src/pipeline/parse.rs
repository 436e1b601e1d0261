//! Readers: threads with a known stack that parse mails.
//!
//! Parsing is CPU work and may, with hostile input, need a lot of stack or time: it neither runs on the runtime's threads nor
//! may it take them along. A job that does not end in time is left behind with its thread, which is replaced; how many may be
//! left behind is bounded (I6).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::oneshot;

/// A job says whether its thread goes on.
type Job = Box<dyn FnOnce() -> bool + Send>;

/// Threads that were left behind at most; beyond it jobs are refused until one of them ends.
const LEFT_BEHIND_MAX: usize = 8;

/// Why a job gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadError {
    /// It did not end in time.
    Timeout,
    /// It panicked, or no thread could be had.
    Failed,
}

/// A fixed number of reader threads.
pub struct Readers {
    jobs: mpsc::Sender<Job>,
    count: usize,
    queue: Arc<std::sync::Mutex<mpsc::Receiver<Job>>>,
    stack_bytes: usize,
    left_behind: Arc<AtomicUsize>,
}

impl Readers {
    /// Starts `count` threads with `stack_bytes` each.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(count: usize, stack_bytes: usize) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (queue, left_behind) = (Arc::new(std::sync::Mutex::new(queue)), Arc::new(AtomicUsize::new(0)));
        let readers = Self { jobs, count: count.max(1), queue, stack_bytes, left_behind };
        for _ in 0..readers.count {
            readers.spawn()?;
        }
        Ok(readers)
    }

    /// How many jobs run at once.
    pub fn count(&self) -> usize {
        self.count
    }

    fn spawn(&self) -> std::io::Result<()> {
        let queue = self.queue.clone();
        let work = move || {
            loop {
                let next = match queue.lock() {
                    Ok(queue) => queue.recv(),
                    Err(_) => return,
                };
                let goes_on = next.is_ok_and(|job| job());
                if !goes_on {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("reader".to_owned()).stack_size(self.stack_bytes).spawn(work).map(|_| ())
    }

    /// Runs `job` on a reader, at most for `limit`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn run<T: Send + 'static>(&self, limit: Duration, job: impl FnOnce() -> T + Send + 'static) -> Result<T, ReadError> {
        if self.left_behind.load(Ordering::Relaxed) >= LEFT_BEHIND_MAX {
            return Err(ReadError::Failed);
        }
        let (done, result) = oneshot::channel();
        // Set by whoever comes first, the end of the job or the end of the caller's patience; the second acts on it.
        let given_up = Arc::new(AtomicBool::new(false));
        let (left_behind, late) = (self.left_behind.clone(), given_up.clone());
        let task = move || {
            // A panic must not end the thread; the caller sees a closed channel.
            if let Ok(value) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)) {
                let _ = done.send(value);
            }
            let late = late.swap(true, Ordering::AcqRel);
            if late {
                left_behind.fetch_sub(1, Ordering::Relaxed);
            }
            // A thread that was given up has been replaced.
            !late
        };
        self.jobs.send(Box::new(task)).map_err(|_| ReadError::Failed)?;
        match tokio::time::timeout(limit, result).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) => Err(ReadError::Failed),
            Err(_) => {
                self.left_behind.fetch_add(1, Ordering::Relaxed);
                if given_up.swap(true, Ordering::AcqRel) {
                    // It ended this very moment: its thread goes on.
                    self.left_behind.fetch_sub(1, Ordering::Relaxed);
                } else {
                    self.spawn().map_err(|_| ReadError::Failed)?;
                }
                Err(ReadError::Timeout)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_or_hangs_does_not_stop_the_next() {
        let Ok(readers) = Readers::start(1, 1 << 20) else { return };
        let hung = readers.run(Duration::from_millis(20), || std::thread::sleep(Duration::from_millis(300))).await;
        assert_eq!(hung, Err(ReadError::Timeout));
        let panicked: Result<(), _> = readers.run(Duration::from_secs(5), || std::panic::resume_unwind(Box::new(1))).await;
        assert_eq!(panicked, Err(ReadError::Failed));
        assert_eq!(readers.run(Duration::from_secs(5), || 7).await, Ok(7));
    }
}
