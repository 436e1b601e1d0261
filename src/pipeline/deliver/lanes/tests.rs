//! Order and bounds of the lanes, without a store.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn anchor(now_s: u64) -> Anchor {
    Anchor {
        now: Duration::from_secs(now_s),
        wall: Time(i64::try_from(now_s).unwrap() * 1000),
        longest: Duration::from_secs(86_400),
        first: Duration::ZERO,
    }
}

fn due(position: Position, lane: i64) -> Due {
    Due { position, lane, attempts: 0, due_at: Time(0), first_attempt_at: None, replay: false }
}

fn retry(position: Position, lane: i64, at_s: i64) -> Due {
    Due { attempts: 1, due_at: Time(at_s * 1000), first_attempt_at: Some(Time(0)), ..due(position, lane) }
}

fn take_all(lanes: &mut Lanes) -> Vec<Position> {
    std::iter::from_fn(|| lanes.take(false)).map(|due| due.position).collect()
}

#[test]
fn one_of_a_lane_is_out_at_a_time() {
    let (mut lanes, at) = (Lanes::default(), anchor(0));
    for position in 1..=6 {
        lanes.offer(due(position, 1 + position % 2), &at);
    }
    assert_eq!(take_all(&mut lanes), [1, 2]);
    lanes.done(LaneKey::Conversation(2), &at);
    assert_eq!(take_all(&mut lanes), [3]);
}

#[test]
fn a_blocked_lane_holds_its_head_alone_and_reads_the_others_again() {
    let (mut lanes, at) = (Lanes::default(), anchor(0));
    for position in 1..=5 {
        lanes.offer(due(position, 7), &at);
    }
    assert_eq!(take_all(&mut lanes), [1]);
    lanes.again(retry(1, 7, 5), &at);
    lanes.offer(due(6, 7), &at);
    assert_eq!((lanes.queued, lanes.next_timer()), (1, Some(Duration::from_secs(5))));
    lanes.wake(Duration::from_secs(4));
    assert_eq!(take_all(&mut lanes), Vec::<i64>::new());
    lanes.wake(Duration::from_secs(5));
    assert_eq!(take_all(&mut lanes), [1]);
    lanes.done(LaneKey::Conversation(7), &at);
    assert_eq!(lanes.next_unread(), Some((7, FOLLOWERS_MAX)));
    // What is found while it is being read spills it again.
    lanes.offer(due(7, 7), &at);
    lanes.read(7, vec![due(2, 7), due(3, 7)], false, &at);
    assert_eq!(take_all(&mut lanes), [2]);
    lanes.done(LaneKey::Conversation(7), &at);
    assert_eq!(take_all(&mut lanes), [3]);
    lanes.done(LaneKey::Conversation(7), &at);
    assert_eq!(lanes.next_unread(), Some((7, FOLLOWERS_MAX)));
    lanes.read(7, Vec::new(), false, &at);
    assert_eq!((lanes.len(), lanes.queued), (0, 0));
}

#[test]
fn what_is_known_or_out_is_not_taken_twice() {
    let (mut lanes, at) = (Lanes::default(), anchor(0));
    lanes.offer(due(1, 3), &at);
    lanes.offer(due(2, 3), &at);
    assert_eq!(take_all(&mut lanes), [1]);
    lanes.offer(due(1, 3), &at);
    lanes.offer(due(2, 3), &at);
    assert_eq!(lanes.queued, 1);
    lanes.done(LaneKey::Conversation(3), &at);
    assert_eq!(take_all(&mut lanes), [2]);
}

#[test]
fn a_dead_letter_that_is_due_again_goes_before_those_behind_it() {
    let (mut lanes, at) = (Lanes::default(), anchor(0));
    for position in [5, 6, 8] {
        lanes.offer(due(position, 3), &at);
    }
    lanes.offer(due(7, 3), &at);
    lanes.offer(due(2, 3), &at);
    assert_eq!(take_all(&mut lanes), [2]);
    lanes.done(LaneKey::Conversation(3), &at);
    assert_eq!(lanes.next_unread(), Some((3, FOLLOWERS_MAX)));
    lanes.read(3, vec![due(5, 3), due(6, 3), due(7, 3), due(8, 3)], false, &at);
    let mut order = Vec::new();
    while let Some(due) = lanes.take(false) {
        order.push(due.position);
        lanes.done(LaneKey::Conversation(3), &at);
    }
    assert_eq!((order, lanes.len(), lanes.queued), (vec![5, 6, 7, 8], 0, 0));
}

#[test]
fn events_without_a_conversation_do_not_wait_for_each_other() {
    let (mut lanes, at) = (Lanes::default(), anchor(0));
    lanes.offer(due(1, 0), &at);
    lanes.offer(due(2, 0), &at);
    assert_eq!(take_all(&mut lanes), [1, 2]);
}

#[test]
fn blocked_lanes_leave_the_room_to_others() {
    let (mut lanes, at) = (Lanes::default(), anchor(0));
    for lane in 1..=10_000 {
        lanes.offer(retry(lane, lane, 60), &at);
    }
    assert_eq!(lanes.room(), LOADED_MAX);
    for position in 0..100_000 {
        if lanes.room() > 0 {
            lanes.offer(due(20_000 + position, 20_000 + position), &at);
        }
    }
    assert_eq!((lanes.room(), lanes.len()), (0, 10_000 + LOADED_MAX));
}

#[test]
fn one_long_conversation_holds_a_few_followers_only() {
    let (mut lanes, at) = (Lanes::default(), anchor(0));
    for position in 0..100_000 {
        lanes.offer(due(position, 9), &at);
    }
    assert_eq!(lanes.queued, FOLLOWERS_MAX);
}

#[test]
fn a_page_of_replays_makes_the_next_page_larger() {
    let (mut lanes, at) = (Lanes::default(), anchor(0));
    for position in 0..=20 {
        lanes.offer(due(position, 9), &at);
    }
    for _ in 0..FOLLOWERS_MAX {
        lanes.take(false).unwrap();
        lanes.done(LaneKey::Conversation(9), &at);
    }
    assert_eq!(lanes.next_unread(), Some((9, FOLLOWERS_MAX)));
    lanes.read(9, Vec::new(), true, &at);
    assert_eq!(lanes.next_unread(), Some((9, 4 * FOLLOWERS_MAX)));
}

#[test]
fn due_times_of_a_clock_that_was_set_back_are_re_anchored() {
    let (mut lanes, at) = (Lanes::default(), anchor(1000));
    lanes.offer(Due { due_at: Time(i64::MAX), ..due(1, 1) }, &at);
    lanes.offer(retry(2, 2, 1_000_000_000), &at);
    assert_eq!(take_all(&mut lanes), [1]);
    assert_eq!(lanes.next_timer(), Some(Duration::from_secs(1000 + 86_400)));
}

#[test]
fn what_was_put_back_goes_first() {
    let (mut lanes, at) = (Lanes::default(), anchor(0));
    lanes.offer(due(1, 1), &at);
    lanes.offer(due(2, 2), &at);
    let first = lanes.take(false).unwrap();
    lanes.put_back(first);
    assert_eq!(take_all(&mut lanes), [1, 2]);
}
