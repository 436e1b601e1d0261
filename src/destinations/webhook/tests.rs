//! Options of a webhook that cannot work. What it sends is tested over sockets in `tests/it/deliver`.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::model::time::Time;

struct Still;
impl Clock for Still {
    fn now(&self) -> Time {
        Time(0)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

fn refused_options(change: impl Fn(&mut WebhookOptions)) -> Option<WebhookError> {
    let mut options = WebhookOptions {
        url: "https://crm.example.org/hooks".into(),
        secrets: vec!["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".into()],
        headers: Vec::new(),
        timeout: Duration::from_secs(20),
        concurrency: 8,
        strict_egress: false,
        shape: Shape::default(),
    };
    change(&mut options);
    Webhook::new(options, Arc::new(Still)).err()
}

#[test]
fn options_that_cannot_work_are_refused_with_the_reason() {
    assert_eq!(refused_options(|_| {}), None);
    let url = |text: &'static str, strict: bool| {
        refused_options(move |options| {
            options.url = text.into();
            options.strict_egress = strict;
        })
        .map(|error| error.to_string())
    };
    assert_eq!(url("http://10.0.0.1/", false), None);
    assert_eq!(url("crm", false).unwrap(), "url: not a URL");
    assert_eq!(url("ftp://crm.example.org", false).unwrap(), "url: only http and https are spoken");
    assert_eq!(url("http://crm.example.org", true).unwrap(), "url: `strict_egress` allows https only");
    assert_eq!(url("https://[::ffff:10.0.0.1]/", true).unwrap(), "url: refused address (`strict_egress`)");
    assert!(url("https://me:pass@crm.example.org", false).unwrap().contains("authorization"));
    let header =
        |name: &'static str, value: &'static str| refused_options(move |options| options.headers = vec![(name.into(), value.into())]);
    assert_eq!(header("authorization", "Bearer x"), None);
    assert_eq!(header("Webhook-Id", "1").unwrap().to_string(), "headers: `Webhook-Id` is set by the gateway");
    assert_eq!(header("content-length", "1").unwrap().to_string(), "headers: `content-length` is set by the gateway");
    assert_eq!(header("x-a", "a\r\nb: c").unwrap().to_string(), "headers: the value of `x-a` is no header value");
    assert!(matches!(refused_options(|options| options.secrets.clear()), Some(WebhookError::Secret(SecretError::Missing))));
}
