//! Traffic for the demo: what platforms would send, signed as they sign.

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// A request to a hook.
pub struct Traffic {
    /// What it is, for the terminal.
    pub title: &'static str,
    /// The hook.
    pub hook: &'static str,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: String,
}

/// Secrets of the demo's channels; they protect nothing.
pub const SLACK_SECRET: &str = "demo-slack-signing-secret";
/// App secret of the WhatsApp channel.
pub const WHATSAPP_SECRET: &str = "demo-meta-app-secret";
/// Secret token of the Telegram channel.
pub const TELEGRAM_SECRET: &str = "demo_telegram_secret";

fn hmac_hex(secret: &str, message: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn slack(title: &'static str, now_s: i64, event_id: &str, ts: &str, thread: Option<&str>, text: &str) -> Traffic {
    let mut event = serde_json::json!({
        "type": "message", "channel": "C0SUPPORT", "channel_type": "channel", "user": "U0ANA", "text": text, "ts": ts,
    });
    if let (Some(thread), Some(event)) = (thread, event.as_object_mut()) {
        event.insert("thread_ts".to_owned(), thread.into());
    }
    let body = serde_json::json!({
        "type": "event_callback", "team_id": "T0DEMO", "api_app_id": "A0DEMO", "event_id": event_id, "event_time": now_s, "event": event,
    })
    .to_string();
    let signature = format!("v0={}", hmac_hex(SLACK_SECRET, &format!("v0:{now_s}:{body}")));
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        ("x-slack-request-timestamp", now_s.to_string()),
        ("x-slack-signature", signature),
    ];
    Traffic { title, hook: "team-slack", headers, body }
}

fn whatsapp(now_s: i64) -> Traffic {
    let message = |id: &str, from: &str, text: &str| serde_json::json!({"from": from, "id": id, "timestamp": now_s.to_string(), "type": "text", "text": {"body": text}});
    let body = serde_json::json!({
        "object": "whatsapp_business_account",
        "entry": [{"id": "WABA1", "changes": [{"field": "messages", "value": {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": "15550000001", "phone_number_id": "PN1"},
            "contacts": [{"profile": {"name": "Zoë"}, "wa_id": "15550000002"}, {"profile": {"name": "Bo"}, "wa_id": "15550000003"}],
            "messages": [
                message("wamid.DEMO1", "15550000002", "Where is my order 4711?"),
                message("wamid.DEMO2", "15550000003", "The blue one arrived broken 😢"),
            ],
        }}]}],
    })
    .to_string();
    let signature = format!("sha256={}", hmac_hex(WHATSAPP_SECRET, &body));
    Traffic {
        title: "WhatsApp: one webhook, two messages",
        hook: "shop-whatsapp",
        headers: vec![("content-type", "application/json".to_owned()), ("x-hub-signature-256", signature)],
        body,
    }
}

fn telegram(now_s: i64) -> Traffic {
    let body = serde_json::json!({"update_id": 10001, "message": {
        "message_id": 5, "date": now_s, "text": "hi, do you ship to Norway?",
        "from": {"id": 222, "is_bot": false, "first_name": "Kari", "username": "kari", "language_code": "no"},
        "chat": {"id": 222, "type": "private"},
    }})
    .to_string();
    Traffic {
        title: "Telegram: a private message",
        hook: "shop-telegram",
        headers: vec![("content-type", "application/json".to_owned()), ("x-telegram-bot-api-secret-token", TELEGRAM_SECRET.to_owned())],
        body,
    }
}

fn form() -> Traffic {
    Traffic {
        title: "Web form: a contact form is submitted",
        hook: "contact-form",
        headers: vec![("content-type", "application/x-www-form-urlencoded".to_owned())],
        body: "name=Mia&email=mia%40example.org&subject=Invoice&message=Please+send+me+invoice+2026-117.&website=".to_owned(),
    }
}

fn forged(now_s: i64) -> Traffic {
    let mut traffic = slack("Slack: a forged request", now_s, "EvFORGED", "1.000000", None, "I am not from Slack");
    for (name, value) in &mut traffic.headers {
        if *name == "x-slack-signature" {
            *value = format!("v0={}", "0".repeat(64));
        }
    }
    traffic
}

/// The story, in its order.
pub fn story(now_s: i64) -> Vec<Traffic> {
    let root = format!("{now_s}.000100");
    vec![
        slack("Slack: a question in a channel", now_s, "EvDEMO1", &root, None, "The printer on floor 3 is on fire &amp; smoking"),
        slack(
            "Slack: the same webhook again (Slack repeats what it thinks was lost)",
            now_s,
            "EvDEMO1",
            &root,
            None,
            "The printer on floor 3 is on fire &amp; smoking",
        ),
        slack("Slack: a reply in its thread", now_s, "EvDEMO2", &format!("{now_s}.000200"), Some(&root), "Not literally. Paper jam."),
        forged(now_s),
        whatsapp(now_s),
        whatsapp(now_s),
        telegram(now_s),
        form(),
    ]
}

/// Two mails: a question and a reply to it with a quote below.
pub fn mails() -> [String; 2] {
    let first = "Message-ID: <q1@customers.example.org>\n\
        From: Ben <ben@customers.example.org>\nTo: support@acme.example\nSubject: Wrong size\n\
        Date: Fri, 20 Nov 2026 09:14:03 +0000\nMIME-Version: 1.0\n\
        Content-Type: multipart/mixed; boundary=\"b1\"\n\n\
        --b1\nContent-Type: text/plain; charset=utf-8\n\n\
        The shoes are too small.\nA photo is attached.\n\n\
        --b1\nContent-Type: image/gif; name=\"shoes.gif\"\nContent-Transfer-Encoding: base64\n\
        Content-Disposition: attachment; filename=\"shoes.gif\"\n\n\
        R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7\n--b1--\n";
    let second = "Message-ID: <q2@customers.example.org>\nIn-Reply-To: <q1@customers.example.org>\n\
        References: <q1@customers.example.org>\nFrom: Ben <ben@customers.example.org>\nTo: support@acme.example\n\
        Subject: Re: Wrong size\nDate: Fri, 20 Nov 2026 09:20:00 +0000\nMIME-Version: 1.0\n\
        Content-Type: text/plain; charset=utf-8\n\n\
        I need size 43.\n\nOn Fri, 20 Nov 2026 Ben wrote:\n> The shoes are too small.\n";
    [first.to_owned(), second.to_owned()]
}
