//! Faults over the real binary and real sockets. Each test says what the client got, what the ledger says, and that with the
//! fault gone everything due is delivered (I8, I9).

mod disk;
mod hostile;
mod peers;
mod stops;

use std::time::Duration;

use serde_json::Value;

use crate::support::daemon::{Daemon, Setup, quick_schedule};
use crate::support::receiver::Receiver;
use crate::support::{contract, whatsapp};

/// Long enough for a loaded machine; a test that passes never waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A receiver, and a setup that sends everything to it with quick retries.
async fn receiver_and_setup() -> (Receiver, Setup) {
    let receiver = Receiver::start().await;
    let mut setup = Setup::whatsapp_to(&receiver.url());
    setup.rest.push_str(&quick_schedule());
    (receiver, setup)
}

/// Body of message `number` of a customer.
fn message(number: usize, sender: u64) -> Vec<u8> {
    whatsapp::body(&format!("wamid.{sender}.{number}"), sender, &format!("message {number}"))
}

/// Posts messages `numbers` of a customer; each must get its 2xx.
async fn post_all(daemon: &Daemon, sender: u64, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let answer = daemon.post(&message(number, sender)).await.expect("an answer");
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
}

/// The ledger, newest first; `query` filters.
async fn ledger(daemon: &Daemon, query: &str) -> Vec<Value> {
    let page = daemon.get(&format!("/v1/ledger?limit=10000{query}")).await;
    page["items"].as_array().cloned().unwrap_or_default()
}

/// Everything that was promised is kept: valid events, no complaint, nothing owed, identities hold, and `count` events taken.
async fn all_is_well(daemon: &Daemon, receiver: &Receiver, count: usize) {
    receiver.wait_for("all events", PATIENCE, |book| book.taken().len() >= count).await;
    daemon.settled(PATIENCE).await.identities_hold();
    receiver.no_complaints();
    let book = receiver.book();
    assert_eq!(book.taken().len(), count);
    book.events().into_iter().for_each(contract::assert_valid);
}
