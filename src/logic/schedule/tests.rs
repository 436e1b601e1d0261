//! The table of design §8, the steps, and both forms of `Retry-After`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

const NOW: Time = Time(1_700_000_000_000);
const MIDDLE: f64 = 0.5;

fn later(status: Option<u16>, after: Option<u64>) -> Result<Receipt, DeliverError> {
    Err(DeliverError::Later { code: Code::Failed, status, detail: "answered".into(), after: after.map(Duration::from_secs) })
}

fn never() -> Result<Receipt, DeliverError> {
    Err(DeliverError::Never { code: Code::Rejected, status: Some(422), detail: "answered 422".into() })
}

fn wait_s(judged: &Judged) -> i64 {
    match judged.verdict {
        Verdict::Retry { due_at, .. } => due_at.since_ms(NOW) / 1000,
        ref other => panic!("no retry: {other:?}"),
    }
}

#[test]
fn failures_follow_the_steps_and_end_exhausted_after_ten_attempts() {
    let policy = Policy::default();
    let waits: Vec<i64> = (0..9).map(|made| wait_s(&judge(later(Some(500), None), made, &policy, NOW, MIDDLE))).collect();
    assert_eq!(waits, [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]);
    let last = judge(later(Some(500), None), 9, &policy, NOW, MIDDLE);
    assert_eq!(last.verdict, Verdict::Dead { code: Code::Exhausted });
}

#[test]
fn a_blocking_destination_keeps_trying_by_the_last_step() {
    let policy = Policy { on_exhausted: OnExhausted::Block, ..Policy::default() };
    assert_eq!(wait_s(&judge(later(None, None), 500, &policy, NOW, MIDDLE)), 86_400);
}

#[test]
fn jitter_is_a_fifth_both_ways() {
    let schedule = Schedule::default();
    assert_eq!(schedule.delay(2, 0.0).unwrap().as_secs(), 240);
    assert_eq!(schedule.delay(2, 1.0).unwrap().as_secs(), 360);
}

#[test]
fn never_is_asked_three_times() {
    let policy = Policy::default();
    assert_eq!(wait_s(&judge(never(), 0, &policy, NOW, MIDDLE)), 5);
    assert_eq!(wait_s(&judge(never(), 1, &policy, NOW, MIDDLE)), 300);
    assert_eq!(judge(never(), 2, &policy, NOW, MIDDLE).verdict, Verdict::Dead { code: Code::Rejected });
    // Also where the head of a lane blocks when exhausted: a rejection is no exhaustion.
    let policy = Policy { on_exhausted: OnExhausted::Block, ..policy };
    assert_eq!(judge(never(), 2, &policy, NOW, MIDDLE).verdict, Verdict::Dead { code: Code::Rejected });
}

#[test]
fn retry_after_lengthens_a_step_and_pauses_the_destination() {
    let policy = Policy::default();
    let judged = judge(later(Some(429), Some(60)), 0, &policy, NOW, MIDDLE);
    assert_eq!((wait_s(&judged), judged.effect), (60, Effect::Wait(Duration::from_secs(60))));
    let judged = judge(later(Some(503), Some(1)), 0, &policy, NOW, MIDDLE);
    assert_eq!((wait_s(&judged), judged.effect), (5, Effect::Wait(Duration::from_secs(1))));
    let judged = judge(later(Some(503), Some(1_000_000)), 0, &policy, NOW, MIDDLE);
    assert_eq!(wait_s(&judged), 86_400);
}

#[test]
fn refused_credentials_and_gone_use_up_no_step() {
    let policy = Policy::default();
    let denied = Err(DeliverError::Denied { code: Code::Denied, status: Some(401), detail: String::new() });
    let judged = judge(denied, 9, &policy, NOW, MIDDLE);
    assert_eq!(judged.effect, Effect::Denied);
    assert_eq!(judged.verdict, Verdict::Retry { due_at: NOW, code: Code::Denied, counted: false });
    let gone = Err(DeliverError::Halt { code: Code::Gone, status: Some(410), detail: String::new() });
    let judged = judge(gone, 9, &policy, NOW, MIDDLE);
    assert_eq!(judged.effect, Effect::Halted);
    assert_eq!(judged.verdict, Verdict::Retry { due_at: NOW, code: Code::Gone, counted: false });
}

#[test]
fn details_are_cut_between_characters() {
    let error = DeliverError::Never { code: Code::Rejected, status: None, detail: "é".repeat(400) };
    let detail = judge(Err(error), 0, &Policy::default(), NOW, MIDDLE).detail.unwrap();
    assert_eq!(detail.len(), 300);
}

#[test]
fn retry_after_reads_both_forms_and_clamps() {
    let check = |text: &str, expected: Option<u64>| {
        assert_eq!(retry_after(text, NOW).map(|span| u64::try_from(span.as_millis()).unwrap()), expected, "{text}");
    };
    check("120", Some(120_000));
    check(" 0 ", Some(0));
    check("1.5", Some(1500));
    check("99999999999999999999999999", Some(86_400_000));
    check("-1", None);
    check("soon", None);
    check("", None);
    check(".", None);
    // 1,700,000,000 is 2023-11-14T22:13:20Z.
    check("Tue, 14 Nov 2023 22:14:20 GMT", Some(60_000));
    check("Tuesday, 14-Nov-23 22:14:20 GMT", Some(60_000));
    check("Tue Nov 14 22:14:20 2023", Some(60_000));
    check("Mon, 13 Nov 2023 22:14:20 GMT", Some(0));
    check("Fri, 14 Nov 2031 22:14:20 GMT", Some(86_400_000));
    check("Fri, 99 Nov 2031 22:14:20 GMT", None);
}

#[test]
fn every_status_means_what_the_table_says() {
    for status in 100..=999u16 {
        let answer = of_http_status(status, Some("7"), NOW);
        let fits = match status {
            200..=299 => answer.is_ok(),
            401 | 403 => matches!(answer, Err(DeliverError::Denied { code: Code::Denied, .. })),
            410 => matches!(answer, Err(DeliverError::Halt { code: Code::Gone, .. })),
            429 | 503 => matches!(answer, Err(DeliverError::Later { code: Code::Busy, after: Some(after), .. }) if after.as_secs() == 7),
            404 | 407 | 408 | 409 | 421 | 423 | 424 | 425 | 428 | 500.. => {
                matches!(answer, Err(DeliverError::Later { code: Code::Failed, after: None, .. }))
            }
            _ => matches!(answer, Err(DeliverError::Never { code: Code::Rejected, .. })),
        };
        assert!(fits, "{status}: {answer:?}");
    }
    assert!(matches!(of_http_status(503, None, NOW), Err(DeliverError::Later { after: None, .. })));
    assert!(matches!(of_http_status(429, Some("soon"), NOW), Err(DeliverError::Later { after: Some(BUSY_PAUSE), .. })));
}

#[test]
fn a_delivery_in_doubt_is_looked_for_at_its_time_and_only_what_was_sent_counts() {
    let unsure =
        |sent: bool| DeliverError::Unsure { code: Code::Unknown, status: None, detail: "d".into(), after: Duration::from_secs(2), sent };
    let judged = |sent: bool, made: u32| judge(Err(unsure(sent)), made, &Policy::default(), Time(0), 0.5);
    let retry = |counted: bool| Verdict::Retry { due_at: Time(2_000), code: Code::Unknown, counted };
    assert_eq!((judged(true, 3).verdict, judged(true, 3).health), (retry(true), Health::Bad));
    assert_eq!((judged(false, 9).verdict, judged(false, 9).health), (retry(false), Health::Neither));
    assert_eq!(judged(true, 9).verdict, Verdict::Dead { code: Code::Exhausted });
}
