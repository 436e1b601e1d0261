//! Each mode of attachments over one event, byte for byte.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::{Value, json};

use super::*;
use crate::ports::BoxFuture;

const EVENT: &str = r#"{"type":"message.created","id":"evt_1","data":{"z":123456789012345678901234567890,"message":{"text":"a","attachments":[{"id":"att_00000000000000000000000001","name":"a.txt","bytes":3,"state":"stored","url":"u1"},{"id":"att_00000000000000000000000002","bytes":4,"state":"stored","url":"u2"},{"id":"att_00000000000000000000000003","bytes":1,"state":"pending","url":null}],"extra":{"b":1,"a":2}},"a":1.50}}"#;

struct Files(Result<Option<&'static str>, String>);

impl FileReader for Files {
    fn read(&self, attachment: AttachmentId, bytes_max: u64) -> BoxFuture<'_, Result<Option<Bytes>, String>> {
        assert!(attachment.0 != 3, "asked for a file that is not held");
        let answer = self.0.clone();
        Box::pin(
            async move { answer.map(|text| text.map(|text| Bytes::from_static(text.as_bytes())).filter(|b| b.len() as u64 <= bytes_max)) },
        )
    }
}

async fn render(attachments: Attachments, body: Option<Arc<dyn Form>>) -> Result<String, DeliverError> {
    let rendered = Shape { attachments, body }.render(&Bytes::from_static(EVENT.as_bytes())).await?;
    Ok(String::from_utf8(rendered.to_vec()).unwrap())
}

fn inline(bytes_max: u64, answer: Result<Option<&'static str>, String>) -> Attachments {
    Attachments::Inline { bytes_max, files: Arc::new(Files(answer)) }
}

#[tokio::test]
async fn url_is_the_frozen_event_itself() {
    assert_eq!(render(Attachments::Url, None).await.unwrap(), EVENT);
}

#[tokio::test]
async fn none_empties_the_list_and_touches_nothing_else() {
    let rendered = render(Attachments::None, None).await.unwrap();
    let (head, rest) = EVENT.split_once(r#"[{"id""#).unwrap();
    let (_, tail) = rest.split_once("}]").unwrap();
    assert_eq!(rendered, format!("{head}[]{tail}"));
}

#[tokio::test]
async fn inline_adds_content_until_the_limit_is_reached() {
    let value: Value = serde_json::from_str(&render(inline(7, Ok(Some("abc"))), None).await.unwrap()).unwrap();
    let list = &value["data"]["message"]["attachments"];
    assert_eq!(list[0]["content"], json!("YWJj"));
    assert_eq!(list[1]["content"], json!("YWJj"));
    assert_eq!(list[2].get("content"), None);
    // One byte less: the second file keeps its URL alone.
    let value: Value = serde_json::from_str(&render(inline(6, Ok(Some("abc"))), None).await.unwrap()).unwrap();
    let list = &value["data"]["message"]["attachments"];
    assert_eq!((list[0]["content"].clone(), list[1].get("content")), (json!("YWJj"), None));
    assert_eq!(list[1]["url"], json!("u2"));
}

#[tokio::test]
async fn a_file_that_is_gone_keeps_its_url_and_one_that_cannot_be_read_is_tried_again() {
    assert_eq!(render(inline(100, Ok(None)), None).await.unwrap(), EVENT);
    let error = render(inline(100, Err("disk".into())), None).await.unwrap_err();
    assert!(matches!(error, DeliverError::Later { code: Code::StoreUnavailable, .. }));
}

struct Jq(Result<&'static str, &'static str>);
impl Form for Jq {
    fn body(&self, event: &[u8]) -> Result<Vec<u8>, String> {
        let event: Value = serde_json::from_slice(event).unwrap();
        assert_eq!(event["type"], json!("message.created"));
        self.0.map(|text| text.as_bytes().to_vec()).map_err(str::to_owned)
    }
}

#[tokio::test]
async fn a_body_that_fails_can_never_work() {
    assert_eq!(render(Attachments::Url, Some(Arc::new(Jq(Ok("{}"))))).await.unwrap(), "{}");
    let error = render(Attachments::Url, Some(Arc::new(Jq(Err("no field"))))).await.unwrap_err();
    assert!(matches!(error, DeliverError::Never { code: Code::TemplateFailed, .. }));
}
