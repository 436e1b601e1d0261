//! Stdout: one line of JSON per event, for trying out and for pipes. A closed pipe is a failure like any other: the event waits.

use std::io::Write;

use crate::destinations::shape::Shape;
use crate::model::codes::Code;
use crate::model::delivery::Outgoing;
use crate::ports::BoxFuture;
use crate::ports::destination::{DeliverError, Destination, Receipt};

/// The standard output.
#[derive(Default)]
pub struct Stdout {
    shape: Shape,
}

impl Stdout {
    /// Writes events in this form.
    pub fn new(shape: Shape) -> Self {
        Self { shape }
    }
}

impl Destination for Stdout {
    fn deliver<'a>(&'a self, outgoing: &'a Outgoing) -> BoxFuture<'a, Result<Receipt, DeliverError>> {
        Box::pin(async move {
            let line = line(self.shape.render(&outgoing.bytes).await?.as_ref());
            // A reader that is slow fills the pipe, and writing to it blocks: not on a thread of the runtime.
            let written = tokio::task::spawn_blocking(move || {
                let mut out = std::io::stdout().lock();
                out.write_all(&line).and_then(|()| out.flush())
            });
            match written.await {
                Ok(Ok(())) => Ok(Receipt::default()),
                Ok(Err(error)) => Err(failed(&error)),
                Err(error) => Err(failed(&error)),
            }
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, DeliverError>> {
        Box::pin(std::future::ready(Ok("standard output".to_owned())))
    }
}

/// One event as one line. JSON has no raw line breaks of its own; an admin's jq body must not make two lines of one event.
pub(crate) fn line(body: &[u8]) -> Vec<u8> {
    let mut line: Vec<u8> = body.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
    line.push(b'\n');
    line
}

fn failed(error: &dyn std::fmt::Display) -> DeliverError {
    DeliverError::Later { code: Code::WriteFailed, status: None, detail: format!("writing to stdout: {error}"), after: None }
}
