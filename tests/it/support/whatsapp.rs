//! A platform's side: signed WhatsApp webhooks of invented people, with numbers reserved for fiction.

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// App secret of the test channel.
pub const APP_SECRET: &str = "an-app-secret-only-for-tests";

/// The account of the test channel.
pub const PHONE_NUMBER_ID: &str = "PN1";

/// The body of a webhook with one text message. `sender` numbers the customers.
pub fn body(id: &str, sender: u64, text: &str) -> Vec<u8> {
    let from = format!("1555{:07}", 100_000 + sender);
    serde_json::json!({
        "object": "whatsapp_business_account",
        "entry": [{"id": "WABA1", "changes": [{"field": "messages", "value": {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": "15550000001", "phone_number_id": PHONE_NUMBER_ID},
            "contacts": [{"profile": {"name": format!("Customer {sender}")}, "wa_id": from}],
            "messages": [{"from": from, "id": id, "timestamp": "1763802843", "type": "text", "text": {"body": text}}],
        }}]}],
    })
    .to_string()
    .into_bytes()
}

/// The value of `x-hub-signature-256`.
pub fn signature(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(APP_SECRET.as_bytes()).unwrap();
    mac.update(body);
    let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digest}")
}

/// The whole signed request to a hook, ready for a socket.
pub fn request(hook: &str, body: &[u8]) -> Vec<u8> {
    let signature = signature(body);
    let headers = [("content-type", "application/json"), ("x-hub-signature-256", signature.as_str())];
    crate::support::http1::request("POST", &format!("/hooks/{hook}"), &headers, body)
}
