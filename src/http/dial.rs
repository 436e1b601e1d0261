//! Dial: TCP and TLS to a host that a channel names, for protocols that are no requests. The guard over where a call may lead holds
//! here too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::http::egress::{RefusedAddress, allowed};
use crate::http::tls;
use crate::model::codes::Code;
use crate::ports::http::HttpError;

/// Resolving and connecting, and the TLS handshake, get this much each.
const STEP_WITHIN: Duration = Duration::from_secs(10);

/// A connection, plain or secured.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Connects. `judged`: only to public addresses.
///
/// # Errors
/// `connect`, `timeout`, `egress_refused`.
pub async fn tcp(host: &str, port: u16, judged: bool) -> Result<TcpStream, HttpError> {
    let place = format!("{host}:{port}");
    let failed = |code, detail: String| HttpError { code, sent: false, detail };
    let connecting = async {
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await.map_err(|error| error.to_string())?.collect();
        let found = if judged { allowed(found).map_err(|RefusedAddress| String::new())? } else { found };
        TcpStream::connect(found.as_slice()).await.map_err(|error| error.to_string())
    };
    match tokio::time::timeout(STEP_WITHIN, connecting).await {
        Ok(Ok(stream)) => {
            // Frames are small and waited for; without it they are only slower.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(detail)) if detail.is_empty() => Err(failed(Code::EgressRefused, format!("{place}: {RefusedAddress}"))),
        Ok(Err(detail)) => Err(failed(Code::Connect, format!("connecting to {place}: {detail}"))),
        Err(_) => Err(failed(Code::Timeout, format!("connecting to {place} took longer than {} s", STEP_WITHIN.as_secs()))),
    }
}

/// Secures a connection. `name` is what the certificate must be for.
///
/// # Errors
/// `tls` if the certificate or the protocol is to blame, `connect` if the connection broke, `timeout`.
pub async fn secure<S: Duplex>(stream: S, name: &str, place: &str) -> Result<tokio_rustls::client::TlsStream<S>, HttpError> {
    let failed = |code, detail: String| HttpError { code, sent: false, detail };
    let server = ServerName::try_from(name.to_owned()).map_err(|_| failed(Code::Tls, format!("{name} is no name for TLS")))?;
    let connector = TlsConnector::from(Arc::new(tls::with_roots()));
    match tokio::time::timeout(STEP_WITHIN, connector.connect(server, stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(why)) => Err(failed(Code::Tls, format!("{place}: {}", tls::mistrust(why, "")))),
            Some(why) => Err(failed(Code::Tls, format!("{place}: the TLS handshake failed: {why}"))),
            None => Err(failed(Code::Connect, format!("{place}: the TLS handshake broke: {}", error.kind()))),
        },
        Err(_) => Err(failed(Code::Timeout, format!("{place}: the TLS handshake took longer than {} s", STEP_WITHIN.as_secs()))),
    }
}
