//! What hooks can do beside taking a POST, by the running binary: requests that can be only once, paths below a hook, secrets in bodies.

use std::time::Duration;

use omnigate::connector::verify::Algorithm;

use crate::support::daemon::{Daemon, ROUTE_ALL, Setup};
use crate::support::http1::{self, Message};
use crate::support::receiver::Receiver;

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("content-type", "application/json");
const TOKEN: &str = "a-token-that-stands-in-every-body";

async fn daemon(receiver: &Receiver, id: &str, channel: &str, secret: &str) -> Daemon {
    let mut setup = Setup::default();
    setup.destination("crm", &receiver.url(), "");
    setup.rest.push_str(ROUTE_ALL);
    setup.channels.insert(id.to_owned(), channel.to_owned());
    setup.env.insert("SECRET".to_owned(), secret.to_owned());
    Daemon::start(setup).await
}

async fn call(daemon: &Daemon, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Message {
    http1::once(daemon.public, method, target, headers, body.as_bytes()).await.unwrap()
}

/// A form as Mailgun sends it.
fn mail(token: &str, text: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mac = Algorithm::Sha256.mac(b"a-signing-key", format!("{now}{token}").as_bytes());
    let signature: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "recipient=help%40example.org&sender=ana%40example.org&from=ana%40example.org&subject=Order&body-plain={text}\
         &Message-Id=%3C{text}%40example.org%3E&timestamp={now}&token={token}&signature={signature}"
    )
}

#[tokio::test]
async fn a_token_of_mailgun_is_taken_once_across_restarts_and_whatever_else_the_request_says() {
    let receiver = Receiver::start().await;
    let channel = "connector = \"mailgun\"\n[secrets]\nsigning_key = { env = \"SECRET\" }\n";
    let mut daemon = daemon(&receiver, "mail", channel, "a-signing-key").await;
    let first = mail("token-1", "first");
    assert_eq!(call(&daemon, "POST", "/hooks/mail", &[FORM], &first).await.status(), 200);
    daemon.settled(Duration::from_secs(20)).await;
    daemon.kill();
    daemon.launch();
    daemon.ready().await;
    // Nothing of the mail is signed: with a token that somebody saw, anybody could have written this.
    let forged = first.replace("first", "forged").replace("ana%40", "eve%40");
    for replayed in [&first, &forged] {
        assert_eq!(call(&daemon, "POST", "/hooks/mail", &[FORM], replayed).await.status(), 200);
    }
    assert_eq!(call(&daemon, "POST", "/hooks/mail", &[FORM], &mail("token-2", "second")).await.status(), 200);
    let scrape = daemon.settled(Duration::from_secs(20)).await;
    scrape.identities_hold();
    assert_eq!(scrape.sum("omnigate_items", &[("channel", "mail"), ("fate", "duplicate")]), 2);
    let texts: Vec<String> = receiver.book().deliveries.iter().map(|delivery| delivery.text("/message/text").to_owned()).collect();
    assert_eq!(texts, ["first", "second"]);
}

#[tokio::test]
async fn a_homeserver_puts_transactions_below_its_hook() {
    let receiver = Receiver::start().await;
    let channel = "connector = \"matrix\"\n[secrets]\nhs_token = { env = \"SECRET\" }\n";
    let daemon = daemon(&receiver, "rooms", channel, "a-token").await;
    let token = ("authorization", "Bearer a-token");
    let body = "{\"events\":[{\"type\":\"m.room.message\",\"room_id\":\"!r:example.org\",\"event_id\":\"$e1\",\"sender\":\"@ana:example.org\",\
                \"origin_server_ts\":1700000000000,\"content\":{\"msgtype\":\"m.text\",\"body\":\"hello\"}}]}";
    let put = "/hooks/rooms/_matrix/app/v1/transactions/1";
    for _ in 0..2 {
        let answer = call(&daemon, "PUT", put, &[JSON, token], body).await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "{}"));
    }
    assert_eq!(call(&daemon, "PUT", put, &[JSON], body).await.status(), 401);
    assert_eq!(call(&daemon, "GET", put, &[token], "").await.status(), 405);
    assert_eq!(call(&daemon, "PUT", "/hooks/rooms/elsewhere", &[JSON, token], body).await.status(), 404);
    assert_eq!(call(&daemon, "PUT", "/hooks/nobody/_matrix/app/v1/transactions/1", &[JSON, token], body).await.status(), 404);
    let user = call(&daemon, "GET", "/hooks/rooms/_matrix/app/v1/users/@ana:example.org", &[token], "").await;
    assert_eq!((user.status(), user.text().contains("M_NOT_FOUND")), (404, true));
    let scrape = daemon.settled(Duration::from_secs(20)).await;
    assert_eq!(scrape.sum("omnigate_items", &[("channel", "rooms"), ("fate", "duplicate")]), 1);
    assert_eq!(receiver.book().deliveries.len(), 1);
}

#[tokio::test]
async fn a_secret_that_comes_in_bodies_is_nowhere_in_the_store_or_the_log() {
    let receiver = Receiver::start().await;
    let channel = "connector = \"mattermost\"\n[secrets]\ntoken = { env = \"SECRET\" }\n";
    let daemon = daemon(&receiver, "chat", channel, TOKEN).await;
    let body = format!(
        "{{\"token\":\"{TOKEN}\",\"channel_id\":\"c\",\"user_id\":\"u\",\"user_name\":\"ana\",\"post_id\":\"p\",\"text\":\"hello\"}}"
    );
    assert_eq!(call(&daemon, "POST", "/hooks/chat", &[JSON], &body).await.status(), 200);
    daemon.settled(Duration::from_secs(20)).await;
    assert_eq!(receiver.book().deliveries.len(), 1);
    let mut seen = 0;
    let mut folders = vec![daemon.folder.path().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
                continue;
            }
            seen += 1;
            let bytes = std::fs::read(entry.path()).unwrap();
            assert!(!bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()), "{}", entry.path().display());
        }
    }
    assert!(seen > 4, "only {seen} files");
}
