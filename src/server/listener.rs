//! One listener: accepts connections within a bound, speaks HTTP/1.1 on each, and stops without cutting what is in flight.
//!
//! What must stay true: no peer can hold memory or a slot for ever. A head must arrive within `head_timeout` (which is also the idle
//! time of a kept connection), a peer that does not read its answer is cut after `WRITE_STALL`, and a graceful stop is bounded.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

use crate::ports::BoxFuture;
use crate::telemetry::metrics::Metrics;

/// A peer that takes nothing of its answer for this long is cut.
const WRITE_STALL: Duration = Duration::from_secs(30);

/// Largest request head, bytes. Platforms send up to about 8 KiB (signature and certificate headers); above it 431 is answered.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// After an early refusal the rest of the body is read and thrown away for this long, so that the peer sees the answer and not a reset.
const LINGER: Duration = Duration::from_secs(1);
/// And at most this many bytes of it.
const LINGER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Pause after `accept` failed (out of file descriptors): connections in flight end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a listener behaves.
#[derive(Debug, Clone)]
pub struct ListenerOptions {
    /// `public` or `private`: the metric label.
    pub name: &'static str,
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// A request's head must arrive within it; a kept connection is closed after it.
    pub head_timeout: Duration,
    /// How long requests in flight may take to finish once told to stop.
    pub stop_timeout: Duration,
}

/// What an answering function is told beside the request.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The other end of the connection.
    pub address: SocketAddr,
    unread: Arc<AtomicBool>,
}

impl Peer {
    /// The request is answered without its body having been read: the connection ends behind the answer.
    pub fn leave_body_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }
}

/// Answers a request. Never fails: a failure is an answer too.
pub type Answering = Arc<dyn Fn(Request<Incoming>, Peer) -> BoxFuture<'static, Result<Response<Body>, Infallible>> + Send + Sync>;

/// Serves until `stop` turns true (or its sender is gone), then finishes what is in flight within `stop_timeout`.
pub async fn serve(
    listener: TcpListener,
    options: ListenerOptions,
    metrics: Arc<Metrics>,
    answering: Answering,
    mut stop: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(options.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let mut open = JoinSet::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = accept(&listener, &slots) => accepted,
        };
        let (stream, address, slot) = match accepted {
            Ok(accepted) => accepted,
            Err(problem) => {
                metrics.connection_cut(options.name, "accept_failed");
                // Said once until it works again: without file descriptors this comes twenty times a second.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(omnigate.listener = options.name, error = %problem, "accept failed");
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        let (options, metrics, answering, stop) = (options.clone(), Arc::clone(&metrics), Arc::clone(&answering), stop.clone());
        open.spawn(async move {
            metrics.connections(options.name, 1);
            let reason = converse(stream, address, &options, answering, stop).await;
            metrics.connections(options.name, -1);
            if let Some(reason) = reason {
                metrics.connection_cut(options.name, reason);
            }
            drop(slot);
        });
    }
    // Closed first: a port that is still open would take connections that nobody will answer.
    drop(listener);
    let finished = timeout(options.stop_timeout, async { while open.join_next().await.is_some() {} }).await;
    if finished.is_err() {
        tracing::warn!(omnigate.listener = options.name, omnigate.connections = open.len(), "cut connections that did not finish in time");
        open.shutdown().await;
    }
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, address, slot))
}

/// Completes once it is time to stop.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: nobody could tell us later.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One connection until its end; says why it was cut, if it was.
async fn converse(
    stream: TcpStream,
    address: SocketAddr,
    options: &ListenerOptions,
    answering: Answering,
    mut stop: watch::Receiver<bool>,
) -> Option<&'static str> {
    let unread = Arc::new(AtomicBool::new(false));
    let peer = Peer { address, unread: Arc::clone(&unread) };
    let service = service_fn(move |request| answering(request, peer.clone()));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(options.head_timeout).max_buf_size(HEAD_BYTES_MAX).keep_alive(true);
    let mut connection = builder.serve_connection(TokioIo::new(Stalling::new(stream)), service);
    let mut told = false;
    let ended = loop {
        tokio::select! {
            ended = std::future::poll_fn(|context| connection.poll_without_shutdown(context)) => break ended,
            () = stopped(&mut stop), if !told => {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let mut stream = connection.into_parts().io.into_inner().stream;
    let _ = timeout(LINGER, stream.shutdown()).await;
    if unread.load(Ordering::Relaxed) {
        let _ = timeout(LINGER, discard(&mut stream)).await;
    }
    match ended {
        Ok(()) => None,
        Err(problem) if problem.is_timeout() => Some("slow_head"),
        Err(problem) if problem.is_parse() => Some("malformed"),
        Err(problem) if problem.is_incomplete_message() => Some("incomplete"),
        Err(_) => Some("broken"),
    }
}

/// Reads what the peer still sends and throws it away.
async fn discard(stream: &mut TcpStream) {
    let mut buffer = vec![0u8; 64 * 1024];
    let mut left = LINGER_BYTES_MAX;
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        left = left.saturating_sub(read);
        if left == 0 {
            return;
        }
    }
}

/// A stream whose writes fail when the peer takes nothing for [`WRITE_STALL`]. Reading has its own timeouts.
struct Stalling {
    stream: TcpStream,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Stalling {
    fn new(stream: TcpStream) -> Self {
        Self { stream, waiting: None }
    }

    /// Passes on what a write said; a write that waits too long fails.
    fn watch<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = None;
            return outcome;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(WRITE_STALL)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read its answer")))
    }
}

impl AsyncRead for Stalling {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stalling {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, outcome)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
