//! Random histories: whatever was written in whatever order, with crashes in between, the invariants hold.

use omnigate::model::codes::Code;
use omnigate::model::delivery::Verdict;
use omnigate::model::item::{Hold, HoldReason, Item, ItemBody};
use omnigate::model::view::DeliveryFilter;
use omnigate::ports::store::Write;

use super::gate::{DAY_MS, Dice, Gate, each};

const STEPS: u64 = 150;

fn random_item(gate: &Gate, dice: &Dice) -> Item {
    let thread = ["ana", "bob", "eve"][dice.below(3) as usize];
    // Few names, so that most things are seen again, edited before they come, deleted twice.
    let name = format!("{thread} {}", dice.below(12));
    match dice.below(12) {
        0 => gate.edit(thread, &name, &dice.below(3).to_string()),
        1 => gate.delete(&name),
        2 | 3 => gate.reaction(&name, "+1"),
        4 => gate.held(thread, &name, Hold { reason: HoldReason::Held, until: gate.now() }),
        5 => gate.bare(ItemBody::Ignored { code: "echo".into() }),
        6 => gate.bare(ItemBody::Quarantined { code: Code::BadDraft, detail: String::new() }),
        _ => gate.message(thread, &name),
    }
}

async fn decide_something(gate: &Gate, dice: &Dice) {
    let due = gate.store().waiting("desk", 0, 1000).await.unwrap();
    let Some(one) = (!due.is_empty()).then(|| due[dice.below(due.len() as u64) as usize].clone()) else { return };
    let verdict = match dice.below(4) {
        0 => Verdict::Dead { code: Code::Rejected },
        1 => Verdict::Retry { due_at: gate.now(), code: Code::Failed, counted: true },
        _ => Verdict::Delivered,
    };
    gate.decide_at("desk", one.position, verdict, one.replay, 0).await.unwrap();
}

async fn step(gate: &Gate, dice: &Dice) {
    match dice.below(20) {
        0 => gate.crash(),
        1 => gate.pass(8 * DAY_MS),
        2 => {
            if let Some((item, _)) = gate.store().pending(1).await.unwrap().first() {
                gate.one(Write::Release { item: *item }).await.unwrap();
            }
        }
        3 => drop(gate.one(Write::Replay { filter: DeliveryFilter::default(), limit: 3 }).await.unwrap()),
        4 => {
            let discard = dice.below(2) == 0;
            gate.one(Write::Dead { filter: DeliveryFilter::default(), discard }).await.unwrap();
        }
        5 => {
            if let Some(bad) = gate.store().quarantine(None, None, 1).await.unwrap().first() {
                let items = vec![random_item(gate, dice), random_item(gate, dice)];
                gate.one(Write::Reprocess { item: bad.item, items }).await.unwrap();
            }
        }
        6..=10 => decide_something(gate, dice).await,
        _ => {
            let write = |items| Write::Admit { admissions: vec![gate.admission(items)], source: None };
            let mut writes = Vec::new();
            for _ in 0..=dice.below(3) {
                writes.push(write((0..dice.below(4)).map(|_| random_item(gate, dice)).collect()));
            }
            for answer in gate.store().commit(writes).await.unwrap() {
                answer.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn the_invariants_hold_after_random_histories() {
    let seed = std::env::var("SIM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_123);
    println!("SIM_SEED={seed}");
    for run in 0..4 {
        each(|gate| async move {
            let dice = Dice::new(seed + run);
            for _ in 0..STEPS {
                step(&gate, &dice).await;
            }
            gate.check_invariants().await;
            while let Some((item, _)) = gate.store().pending(1).await.unwrap().first() {
                gate.one(Write::Release { item: *item }).await.unwrap();
            }
            let totals = gate.store().totals().await.unwrap();
            assert_eq!(totals.fates["chat"].get("pending").copied().unwrap_or(0), 0, "what was held was released");
            gate.check_invariants().await;
        })
        .await;
    }
}
