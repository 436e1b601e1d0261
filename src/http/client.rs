//! The client: [`Http`] over reqwest.

use std::io::Read as _;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, Method, Response};

use crate::http::egress::{GuardedResolver, RefusedAddress, literal_refused};
use crate::http::tls;
use crate::model::codes::Code;
use crate::ports::BoxFuture;
use crate::ports::http::{Egress, Http, HttpAnswer, HttpBody, HttpError, HttpOpened, HttpPart, HttpRead, HttpRequest};

/// Connecting gets at most this much of the whole time.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Idle connections are closed by us before common servers close them, or requests would run into the closing.
const IDLE_WITHIN: Duration = Duration::from_secs(30);
/// Idle connections kept to one host.
const IDLE_MAX: usize = 4;

/// Sends requests. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    written: Client,
    public: Client,
    /// Written hosts are judged too.
    strict: bool,
}

impl HttpClient {
    /// A client for everything that calls out. `strict`: even hosts that the admin wrote down must be public and speak https.
    ///
    /// # Errors
    /// One line, if the HTTP client cannot be made.
    pub fn new(strict: bool) -> Result<Self, String> {
        let builder = || {
            Client::builder()
                .tls_backend_preconfigured(tls::with_roots())
                .http1_only()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .no_proxy()
                .connect_timeout(CONNECT_WITHIN)
                .pool_max_idle_per_host(IDLE_MAX)
                .pool_idle_timeout(IDLE_WITHIN)
                .tcp_nodelay(true)
        };
        let made = |builder: reqwest::ClientBuilder| builder.build().map_err(|error| error.without_url().to_string());
        let public = made(builder().dns_resolver(GuardedResolver))?;
        let written = if strict { public.clone() } else { made(builder())? };
        Ok(Self { written, public, strict })
    }

    /// The same client, its connections shared; with `strict`, for who is strict.
    pub fn strictly(&self, strict: bool) -> Self {
        Self { strict: self.strict || strict, ..self.clone() }
    }

    /// Whether the way of a request is judged: only public addresses.
    ///
    /// # Errors
    /// Its address is refused as it stands.
    pub(crate) fn judge(&self, request: &HttpRequest) -> Result<bool, HttpError> {
        let judged = self.strict || request.egress == Egress::Public;
        if judged && request.url.host().is_none_or(|host| literal_refused(&host)) {
            return Err(refused(&request.place()));
        }
        if self.strict && request.url.scheme() != "https" {
            let detail = format!("{}: `strict_egress` allows https only", request.place());
            return Err(HttpError { code: Code::EgressRefused, sent: false, detail });
        }
        Ok(judged)
    }

    /// Sends a request, up to the head of its answer.
    pub(crate) async fn begin(&self, request: HttpRequest) -> Result<Response, HttpError> {
        let (place, within) = (request.place(), request.within);
        let client = if self.judge(&request)? { &self.public } else { &self.written };
        let built = build(request).map_err(|detail| HttpError { code: Code::Invariant, sent: false, detail })?;
        match tokio::time::timeout(within, client.execute(built)).await {
            Ok(done) => done.map_err(|error| explain(&place, &error)),
            Err(_) => Err(late(&place, within)),
        }
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpAnswer, HttpError> {
        let (place, within, max) = (request.place(), request.within, request.answer_bytes_max);
        let exchange = async { read(self.begin(request).await?, max, &place).await };
        match tokio::time::timeout(within, exchange).await {
            Ok(done) => done,
            Err(_) => Err(late(&place, within)),
        }
    }
}

pub(crate) fn late(place: &str, within: Duration) -> HttpError {
    HttpError { code: Code::Timeout, sent: true, detail: format!("no answer from {place} in {} s", within.as_secs()) }
}

fn headers_of(response: &Response) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// A body on its way.
struct Reading {
    response: Response,
    place: String,
}

impl HttpRead for Reading {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, HttpError>> {
        Box::pin(async move {
            let place = &self.place;
            self.response.chunk().await.map_err(|error| half(place, &error))
        })
    }
}

fn half(place: &str, error: &reqwest::Error) -> HttpError {
    HttpError { code: Code::Unknown, sent: true, detail: format!("{place} answered by half: {}", innermost(error)) }
}

impl Http for HttpClient {
    fn open(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpOpened, HttpError>> {
        Box::pin(async move {
            let place = request.place();
            let response = self.begin(request).await?;
            let (status, headers) = (response.status().as_u16(), headers_of(&response));
            let body: Box<dyn HttpRead> = Box::new(Reading { response, place });
            Ok(HttpOpened { status, headers, body })
        })
    }

    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpAnswer, HttpError>> {
        Box::pin(self.exchange(request))
    }
}

fn build(request: HttpRequest) -> Result<reqwest::Request, String> {
    let method: Method = request.method.parse().map_err(|_| format!("`{}` is no method", request.method))?;
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("omnigate/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in &request.headers {
        let parsed: HeaderName = name.parse().map_err(|_| format!("`{name}` is no header name"))?;
        let mut value = HeaderValue::from_str(value).map_err(|_| format!("the value of `{name}` is no header value"))?;
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    let body = match request.body {
        HttpBody::None => None,
        HttpBody::Bytes(bytes) => Some(bytes),
        HttpBody::Multipart(parts) => {
            let (boundary, body) = multipart(&parts);
            let value = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"));
            headers.insert(CONTENT_TYPE, value.map_err(|_| "the boundary is no header value".to_owned())?);
            Some(body)
        }
    };
    let mut built = reqwest::Request::new(method, request.url);
    *built.headers_mut() = headers;
    *built.body_mut() = body.map(Into::into);
    Ok(built)
}

/// A form (RFC 7578). The boundary is made of the content itself, so that the same parts give the same bytes on every attempt.
pub fn multipart(parts: &[HttpPart]) -> (String, Bytes) {
    use sha2::Digest;
    let mut digest = sha2::Sha256::new();
    for part in parts {
        digest.update(part.name.as_bytes());
        digest.update(&part.bytes);
    }
    let boundary: String = digest.finalize().iter().take(20).map(|byte| format!("{byte:02x}")).collect();
    let quoted = |text: &str| text.replace('"', "%22").replace(['\r', '\n'], " ");
    let mut body = BytesMut::with_capacity(parts.iter().map(|part| part.bytes.len() + 256).sum());
    for part in parts {
        body.put_slice(format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{}\"", quoted(&part.name)).as_bytes());
        if let Some(name) = &part.file_name {
            body.put_slice(format!("; filename=\"{}\"", quoted(name)).as_bytes());
        }
        if let Some(kind) = &part.media_type {
            body.put_slice(format!("\r\ncontent-type: {}", kind.replace(['\r', '\n'], " ")).as_bytes());
        }
        body.put_slice(b"\r\n\r\n");
        body.put_slice(&part.bytes);
        body.put_slice(b"\r\n");
    }
    body.put_slice(format!("--{boundary}--\r\n").as_bytes());
    (boundary, body.freeze())
}

pub(crate) async fn read(mut response: Response, max: usize, place: &str) -> Result<HttpAnswer, HttpError> {
    let status = response.status().as_u16();
    let headers = headers_of(&response);
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > max => {
                let detail = format!("the answer of {place} is longer than {max} bytes");
                return Err(HttpError { code: Code::Protocol, sent: true, detail });
            }
            Ok(Some(chunk)) => body.put_slice(&chunk),
            Ok(None) => return unpack(HttpAnswer { status, headers, body: body.freeze() }, max, place),
            Err(error) => return Err(half(place, &error)),
        }
    }
}

/// An answer that came compressed although most are not asked to (RFC 9110 §8.4): some platforms know no other. What it becomes is bounded as
/// if it had come so: a kilobyte can unpack to a gigabyte.
fn unpack(mut answer: HttpAnswer, max: usize, place: &str) -> Result<HttpAnswer, HttpError> {
    let wrong = |what: &str| HttpError { code: Code::Protocol, sent: true, detail: format!("the answer of {place} {what}") };
    let encoding = answer.header("content-encoding").map(|name| name.trim().to_ascii_lowercase()).unwrap_or_default();
    match encoding.as_str() {
        "" | "identity" => return Ok(answer),
        _ if answer.body.is_empty() => return Ok(answer),
        "gzip" | "x-gzip" => {}
        _ => return Err(wrong("is compressed in a way that nobody asked for")),
    }
    let mut body = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let read = MultiGzDecoder::new(answer.body.as_ref()).take(limit).read_to_end(&mut body);
    read.map_err(|_| wrong("is no gzip, though it says so"))?;
    if body.len() > max {
        return Err(wrong(&format!("is longer than {max} bytes when unpacked")));
    }
    answer.headers.retain(|(name, _)| name != "content-encoding" && name != "content-length");
    answer.body = Bytes::from(body);
    Ok(answer)
}

fn explain(place: &str, error: &reqwest::Error) -> HttpError {
    if causes(error).any(|cause| cause.is::<RefusedAddress>()) {
        return refused(place);
    }
    let (code, sent, detail) = if error.is_connect() {
        let tls = causes(error).any(is_tls);
        (if tls { Code::Tls } else { Code::Connect }, false, format!("connecting to {place}: {}", innermost(error)))
    } else if error.is_timeout() {
        (Code::Timeout, true, format!("no answer from {place} in time"))
    } else if error.is_builder() {
        (Code::Invariant, false, format!("request to {place}: {}", innermost(error)))
    } else {
        (Code::Unknown, true, format!("sent to {place}, no answer: {}", innermost(error)))
    };
    HttpError { code, sent, detail }
}

/// Whether TLS is to blame; it hides inside an error of the system.
fn is_tls(cause: &(dyn std::error::Error + 'static)) -> bool {
    let inside = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    // There may be several around each other.
    cause.is::<rustls::Error>() || inside.is_some_and(|inside| is_tls(inside))
}

fn refused(place: &str) -> HttpError {
    HttpError { code: Code::EgressRefused, sent: false, detail: format!("{place}: {RefusedAddress}") }
}

/// What happened beneath. The outer texts of an error name the URL, whose path or query may hold a secret; the innermost is the
/// system's own word.
pub fn innermost(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| "failed".to_owned(), ToString::to_string)
}

/// The causes of an error, the outermost first.
pub fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn request(url: &str, egress: Egress) -> HttpRequest {
        HttpRequest {
            method: "GET",
            url: url.parse().unwrap(),
            headers: vec![("authorization".to_owned(), "Bearer secret".to_owned())],
            body: HttpBody::None,
            within: Duration::from_millis(700),
            answer_bytes_max: 10,
            egress,
        }
    }

    /// Answers one connection with these bytes, then closes it; without bytes it stays silent.
    async fn server(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/bot-secret/x?token=secret", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            let _ = peer.read(&mut [0; 2048]).await.unwrap();
            if answer.is_empty() {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            peer.write_all(answer).await.unwrap();
        });
        url
    }

    #[tokio::test]
    async fn an_error_says_whether_the_peer_may_have_heard_and_shows_no_secret() {
        let client = HttpClient::new(false).unwrap();
        let cases: [(&[u8], Code, bool); 4] = [
            (b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n12345678901234567890", Code::Protocol, true),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123", Code::Unknown, true),
            (b"nonsense\r\n\r\n", Code::Unknown, true),
            (b"", Code::Timeout, true),
        ];
        for (answer, code, sent) in cases {
            let error = client.send(request(&server(answer).await, Egress::Written)).await.unwrap_err();
            assert_eq!((error.code, error.sent), (code, sent), "{error}");
            assert!(!error.detail.contains("secret"), "{error}");
        }
        let dead = request("http://127.0.0.1:1/x", Egress::Written);
        let error = client.send(dead).await.unwrap_err();
        assert_eq!((error.code, error.sent), (Code::Connect, false));
    }

    fn zipped(plain: &[u8]) -> Vec<u8> {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn packed(body: Vec<u8>) -> HttpAnswer {
        let headers = vec![("content-encoding".to_owned(), "gzip".to_owned()), ("content-length".to_owned(), body.len().to_string())];
        HttpAnswer { status: 200, headers, body: Bytes::from(body) }
    }

    #[test]
    fn packed_answers_are_unpacked_within_their_bound_and_a_bomb_is_cut() {
        let answer = unpack(packed(zipped(b"{\"items\":[]}")), 100, "x").unwrap();
        assert_eq!((answer.body.as_ref(), answer.headers.len()), (&b"{\"items\":[]}"[..], 0));
        // Two members, one after the other, are one body (RFC 1952 §2.2).
        let two = [zipped(b"[1,"), zipped(b"2]")].concat();
        assert_eq!(unpack(packed(two), 5, "x").unwrap().body.as_ref(), b"[1,2]");
        assert_eq!(unpack(packed(zipped(&[b' '; 100])), 100, "x").unwrap().body.len(), 100);
        assert!(unpack(packed(zipped(&[b' '; 101])), 100, "x").unwrap_err().detail.contains("longer than 100 bytes"));
        let bomb = zipped(&vec![0; 64 << 20]);
        assert!(bomb.len() < 100_000, "{} bytes for 64 MiB", bomb.len());
        assert_eq!(unpack(packed(bomb), 1 << 20, "x").unwrap_err().code, Code::Protocol);
        for broken in [zipped(b"hello")[..12].to_vec(), b"plain".to_vec()] {
            assert!(unpack(packed(broken), 100, "x").unwrap_err().detail.contains("no gzip"));
        }
        let mut other = packed(b"x".to_vec());
        other.headers[0].1 = "br".to_owned();
        assert!(unpack(other, 100, "x").unwrap_err().detail.contains("nobody asked for"));
        assert!(unpack(packed(Vec::new()), 100, "x").unwrap().body.is_empty());
    }

    #[tokio::test]
    async fn what_came_from_outside_never_leads_home() {
        let client = HttpClient::new(false).unwrap();
        let url = server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(client.send(request(&url, Egress::Public)).await.unwrap_err().code, Code::EgressRefused);
        let named = url.replace("127.0.0.1", "localhost");
        assert_eq!(client.send(request(&named, Egress::Public)).await.unwrap_err().code, Code::EgressRefused);
        assert_eq!(HttpClient::new(true).unwrap().send(request(&named, Egress::Written)).await.unwrap_err().code, Code::EgressRefused);
        assert_eq!(client.send(request(&url, Egress::Written)).await.unwrap().status, 200);
    }

    #[test]
    fn names_of_a_form_cannot_break_out_of_their_header() {
        let part = HttpPart {
            name: "a\"\r\nx: y".to_owned(),
            file_name: Some("b\".txt".to_owned()),
            media_type: Some("text/plain\r\nz: 1".to_owned()),
            bytes: Bytes::from_static(b"hello"),
        };
        let (boundary, body) = multipart(&[part]);
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(text.lines().filter(|line| line.contains(": ")).count(), 2, "{text}");
        assert!(text.starts_with(&format!("--{boundary}\r\n")) && text.ends_with(&format!("--{boundary}--\r\n")));
    }
}
