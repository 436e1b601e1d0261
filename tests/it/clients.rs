//! Deliveries of the running binary, verified by the libraries that receivers use: `standardwebhooks` for Python and JavaScript.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::contract::root;
use crate::support::daemon::{Daemon, Setup};
use crate::support::receiver::{Receiver, SECRET};
use crate::support::{servers, whatsapp};

/// The secret that is rotated out: deliveries are signed with both.
const OLD_SECRET: &str = "whsec_dGhlLW9sZC1zZWNyZXQtdGhhdC1pcy1yb3RhdGVkLW91dA==";

mod real_clients {
    use super::*;

    #[tokio::test]
    async fn python_library_verifies_deliveries_under_both_secrets() {
        let python = servers::installed("venv/bin/python");
        if !python.exists() {
            return servers::missing("the Python library standardwebhooks");
        }
        check(&python, "tests/data/clients/verify.py").await;
    }

    #[tokio::test]
    async fn javascript_library_verifies_deliveries_under_both_secrets() {
        if !servers::installed("node_modules/standardwebhooks").exists() {
            return servers::missing("the npm package standardwebhooks");
        }
        check(Path::new("node"), "tests/data/clients/verify.cjs").await;
    }
}

async fn check(program: &Path, script: &str) {
    let receiver = Receiver::start().await;
    let mut setup = Setup::default();
    setup.with_whatsapp();
    setup.env.insert("NEW".to_owned(), SECRET.to_owned());
    setup.env.insert("OLD".to_owned(), OLD_SECRET.to_owned());
    setup.rest = format!(
        "[destination.crm]\nkind = \"webhook\"\nurl = \"{}\"\nsecret = [{{ env = \"NEW\" }}, {{ env = \"OLD\" }}]\n[[route]]\nto = [\"crm\"]\n",
        receiver.url()
    );
    let daemon = Daemon::start(setup).await;
    let texts = ["plain", "ümläut, emoji 🎉, \u{2028} and \"quotes\"", "<b>html & co</b>\n\ttabs", "日本語"];
    for (number, text) in texts.iter().enumerate() {
        let body = whatsapp::body(&format!("wamid.client.{number}"), number as u64, text);
        assert_eq!(daemon.post(&body).await.expect("an answer").status(), 200);
    }
    daemon.settled(std::time::Duration::from_secs(20)).await;
    receiver.no_complaints();
    let deliveries: Vec<Value> = receiver
        .book()
        .deliveries
        .iter()
        .map(|delivery| {
            let headers: serde_json::Map<String, Value> =
                delivery.request.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            json!({"headers": headers, "body": delivery.request.text()})
        })
        .collect();
    assert_eq!(deliveries.len(), texts.len());
    for secret in [SECRET, OLD_SECRET] {
        assert_eq!(run(program, script, secret, &Value::from(deliveries.clone())).trim(), texts.len().to_string());
    }
}

fn run(program: &Path, script: &str, secret: &str, input: &Value) -> String {
    let mut child = Command::new(program)
        .arg(root().join(script))
        .arg(secret)
        .current_dir(servers::installed(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script} under {secret}");
    String::from_utf8(output.stdout).unwrap()
}
