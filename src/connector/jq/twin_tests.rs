//! The short way gives what jaq gives: every shipped map over every fixture and over what mutation makes of them, and a list of programs
//! over values of every shape.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::connector::folder;
use crate::connector::jq::{Filter, Input, JqError, Limits};
use crate::connector::load::MAP_VARS;

/// Every kind of node, with one and with several outputs, with errors at each place.
const PROGRAMS: &[&str] = &[
    ".a.b",
    ".a[\"b\"]?",
    ".[]?",
    ".. | numbers",
    ".a[1:]",
    ".a[:-1]?",
    ".[1]?",
    ".a[.i]?",
    "[.a[]?, .b]",
    ".a[0], .a[-1]?",
    "(.a, .b) // 1",
    ".a // .b // 2",
    "(.a[]? | .x) // \"none\"",
    ".a and .b, (.a or .b), (.a | not)",
    "[(true, false) or (false, true)]",
    "[(1, 2) + (10, 20)], [(1, 2) < (2, 1)], -(.i // 1)",
    "{a: (1, 2), b: (3, 4)}",
    "{(.k // \"z\", \"y\"): .a, \"s\": 1, i}",
    "{$settings, \"a b\": .b}",
    "\"\\(.a) and \\(.b, 1) and \\(2, 3)\"",
    "@json \"x\\(.a)y\\(.b)\"",
    "@base64 \"\\(.s)\"",
    "[.a[]? as $x | .b as $y | [$x, $y]]",
    ". as {a: $x, b: [$y, $z]} | [$z, $y, $x]",
    ". as [$x, {b: $y}] | [$x, $y]",
    "reduce .a[]? as $x (0; . + $x)",
    "reduce .a[]? as $x ([]; . + [$x] + [.])",
    "reduce .a[]? as [$k, $v] ({}; . + {($k): $v})",
    "[reduce (1, 2) as $x ((0, 10); . + $x)]",
    "try .a.b.c catch .",
    "[.a[]? | try tonumber catch \"no\"]",
    "(.a | .b)?",
    "try error(\"x\") catch .",
    "try error catch .",
    "[first(.a[]?)], [last(.a[]?)], [limit(2; .a[]?, .b)]",
    "[limit(0, 1, 2.5; .a[]?)]",
    "limit(\"x\"; 1)",
    "first(.a | error)",
    "[range(.i // 3)], [range(1; 4)], [range(0; 10; 3)], [range(5; 0; -2)]",
    "[range((1, 2); (3, 4))]",
    "[recurse]",
    "[recurse(.a?; . != null)]",
    "[.. | strings]",
    "map(.x)?",
    "[.a[]? | select(. > 1)]",
    "to_entries",
    "with_entries(.value |= .)",
    "from_entries?",
    "(.s // \"\") | test(\"a\"), gsub(\"[^a-z]\"; \"-\"), split(\"\")",
    "(.s // \"x\") | ltrimstr(\"a\"), ascii_downcase, startswith(\"a\"), length",
    "[.a[]? | tostring], (.a | tojson)",
    "any(.a[]?; . == 1), all(.a[]?; . == 1), isempty(.a[]?)",
    "(.a | arrays | join(\",\"))?",
    "(.a | arrays | add)?",
    ".a == .b, (.a < .b), ([.a, .b] | index(1))",
    "if .a then 1 elif .b then 2 else 3 end",
    "[if (.a, .b) then \"y\" else \"n\" end]",
    "def f(g): [g, g]; f(.a), f(.b // 1)",
    "def f($x; g): $x + (g | 1); f(1, 2; .a)",
    "def a: .a; def b: def a: .b; [a]; a, b",
    "def f(x): 1 as $y | x; 2 as $y | f($y)",
    ".a | keys?, length?",
    "getpath([\"a\", 0])?",
    "has(\"a\")?, contains({a: 1})?",
    "tonumber?, type, (.i | floor)?",
    "until(true; .), [while(. == 1; 2)]",
    ".missing.deeper.still",
    ".a[.b, .i]?",
    "(1, 2) as $x | (3, 4) as $y | [$x, $y]",
    "[.[]?] | length",
    "min_by(.x)?, unique?",
    "$settings.a, $settings | tojson",
    "ignored(\"bot\")",
    ".i | time_s?, time_auto?",
    ".s | phone_e164?, email_addr?, digits?, hex?",
    "(try (1, error(\"e\"), 2) catch .), 9",
    "[(1, 2, 3) | if . == 2 then empty else . end]",
    "[.a[]? | try error({x: .}) catch .x]",
    "try ([1] | .[\"x\"]) catch 7",
    "[splits(\", *\")]?",
    "[match(\"a\").offset]?",
    "{a: .b, a: .a}",
    "[.[:2], .[1:]]?",
    "\"x\" * 3, ({} * {a: 1}), ([1, 2] - [2])",
];

fn both(filter: &mut Filter, input: &[u8]) -> [Result<Vec<Value>, JqError>; 2] {
    let settings = json!({"a": 1, "agents": ["U1", "U0A1"], "fields": {"message": "message", "email": "email"}, "leave_out": ["t"], "honeypot": "website"});
    let vars = [
        &json!("channel"),
        &settings,
        &json!({"x-header": "h"}),
        &json!({"q": "1"}),
        &json!("webhook"),
        &json!({"user": ["U1", "@me:example.org"]}),
    ];
    let fast = filter.run_of(Input::Json(input), &vars);
    let program = filter.fast.take();
    let slow = filter.run_of(Input::Json(input), &vars);
    filter.fast = program;
    [fast, slow]
}

#[track_caller]
fn same(name: &str, filter: &mut Filter, input: &[u8]) {
    let [fast, slow] = both(filter, input);
    // The two pay other prices: one may come to the end of a budget that the other did not.
    if [&fast, &slow].iter().any(|result| matches!(result, Err(JqError::Budget(_)))) {
        return;
    }
    assert_eq!(fast, slow, "{name} on {}", String::from_utf8_lossy(input));
}

fn maps() -> Vec<(String, Filter, Vec<Value>)> {
    // A folder may hold two: of a channel, and of the way back from a ticket system.
    let all = folder::every().into_iter().flat_map(|(name, folder)| {
        let of = |place: &str| {
            let filter = Filter::compile("map.jq", folder.text(&format!("{place}map.jq"))?, &MAP_VARS, Limits::default()).unwrap();
            let fixtures = format!("{place}fixtures/");
            let payloads = folder.files.iter().filter(|(path, _)| path.starts_with(&fixtures) && path.ends_with("payload.json"));
            let payloads: Vec<Value> = payloads.filter_map(|(_, bytes)| serde_json::from_slice(bytes).ok()).collect();
            Some((format!("{name}/{place}"), filter, payloads))
        };
        ["", "back/"].into_iter().filter_map(of).collect::<Vec<_>>()
    });
    all.collect()
}

#[test]
fn every_shipped_map_takes_the_short_way_and_gives_what_jaq_gives() {
    for (name, mut filter, payloads) in maps() {
        assert!(filter.fast.is_some(), "the map of {name} uses something that only jaq runs");
        for payload in &payloads {
            same(&name, &mut filter, payload.to_string().as_bytes());
            for mutated in mutations(payload) {
                same(&name, &mut filter, mutated.to_string().as_bytes());
            }
        }
    }
}

#[test]
fn a_program_as_deep_as_the_short_way_goes_needs_little_stack() {
    let steps = |count: usize| format!(". {}", "| .[] | [.]".repeat(count));
    let fits = |count: usize| Filter::compile("map.jq", &steps(count), &MAP_VARS, Limits::default()).unwrap().fast.is_some();
    let count = (1..58).rev().find(|count| fits(*count)).unwrap();
    assert!(count > 40, "{count}");
    // The thread of a test has 2 MiB, as those of the daemon have, and an unoptimised build takes the most.
    let filter = Filter::compile("map.jq", &steps(count), &MAP_VARS, Limits::default()).unwrap();
    assert_eq!(filter.run(b"[1]", &[&Value::Null; 5]).unwrap().len(), 1);
}

/// The payload with one value after the other taken out or made something else.
fn mutations(payload: &Value) -> Vec<Value> {
    let mut paths = Vec::new();
    walk(payload, String::new(), &mut paths);
    let others = [Value::Null, json!(7), json!("x"), json!([]), json!({}), json!([{"id": 1}]), json!(true), json!("")];
    let mut all = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let mut mutated = payload.clone();
        *mutated.pointer_mut(path).unwrap() = others[index % others.len()].clone();
        all.push(mutated);
    }
    all
}

fn walk(value: &Value, path: String, paths: &mut Vec<String>) {
    paths.push(path.clone());
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| walk(item, format!("{path}/{index}"), paths)),
        Value::Object(map) => {
            map.iter().for_each(|(key, item)| walk(item, format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")), paths))
        }
        _ => {}
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..5).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-2.0f64..2.0).prop_map(Value::from),
        "[abX1, @.+-]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop_oneof![Just("a"), Just("b"), Just("x"), Just("i"), Just("s"), Just("k")];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..5).prop_map(|map| map
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

#[test]
fn the_listed_programs_give_what_jaq_gives_for_values_of_every_shape() {
    let mut filters: Vec<Filter> = PROGRAMS
        .iter()
        .map(|code| Filter::compile("map.jq", code, &MAP_VARS, Limits::default()).unwrap_or_else(|problems| panic!("{code}: {problems:?}")))
        .collect();
    let short = filters.iter().filter(|filter| filter.fast.is_some()).count();
    assert!(short * 10 >= filters.len() * 9, "only {short} of {} take the short way", filters.len());
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() });
    let filters = std::cell::RefCell::new(&mut filters);
    let done = runner.run(&any_value(), |value| {
        let input = value.to_string();
        for (code, filter) in PROGRAMS.iter().zip(filters.borrow_mut().iter_mut()) {
            same(code, filter, input.as_bytes());
        }
        Ok(())
    });
    done.unwrap();
}
