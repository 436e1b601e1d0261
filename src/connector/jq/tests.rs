//! jq: the language, the allow-list, and that nothing runs for ever.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::{Value, json};

use crate::connector::jq::{Facts, Filter, JqError, Limits};

#[track_caller]
fn compile(code: &str) -> Filter {
    match Filter::compile("map.jq", code, &["$settings"], Limits::default()) {
        Ok(filter) => filter,
        Err(problems) => panic!("{code}: {}", crate::connector::problem::render(&problems)),
    }
}

#[track_caller]
fn check(code: &str, input: Value, expected: Value) {
    let out = compile(code).run(input.to_string().as_bytes(), &[&json!({"a": 1})]);
    assert_eq!(out.map(Value::Array), Ok(expected), "{code}");
}

#[track_caller]
fn refused(code: &str, expected: &str) {
    let problems = Filter::compile("map.jq", code, &[], Limits::default()).err().unwrap_or_default();
    let text = crate::connector::problem::render(&problems);
    assert!(text.contains(expected), "{code}: {text}");
}

#[track_caller]
fn stopped(code: &str) {
    let before = std::time::Instant::now();
    let out = compile(code).run(b"{\"a\":[1,2,3]}", &[&Value::Null]);
    assert!(matches!(out, Err(JqError::Budget(_) | JqError::FanOut(_))), "{code}: {:?}", out.map(|all| all.len()));
    assert!(before.elapsed().as_secs() < 20, "{code} took {:?}", before.elapsed());
}

#[test]
fn the_language_works() {
    check(".a.b, .a[\"b\"], $settings.a", json!({"a": {"b": 1}}), json!([1, 1, 1]));
    check("[.[] | select(. > 1) | . * 2]", json!([1, 2, 3]), json!([[4, 6]]));
    check("to_entries | map({(.key): .value}) | add", json!({"a": 1, "b": 2}), json!([{"a": 1, "b": 2}]));
    check(".a |= . + 1 | del(.b) | .c.d = 5 | .e //= 7", json!({"a": 1, "b": 2}), json!([{"a": 2, "c": {"d": 5}, "e": 7}]));
    check(
        "map_values(. + 1), with_entries(.value += 1), walk(if type == \"number\" then . + 1 else . end)",
        json!({"a": 1}),
        json!([{"a": 2}, {"a": 2}, {"a": 2}]),
    );
    check("[.[] as [$x, {y: $y}] | $x + $y]", json!([[1, {"y": 2}]]), json!([[3]]));
    check(
        "[limit(2; .[])], first(.[]), [range(3)], (reduce .[] as $x (0; . + $x)), [foreach .[] as $x (0; . + $x)]",
        json!([1, 2, 3]),
        json!([[1, 2], 1, [0, 1, 2], 6, [1, 3, 6]]),
    );
    check("[.[] | (try error(\"x\") catch .), (.x? // 7)]", json!([1]), json!([["x", 7]]));
    check(
        "\"\\(.a): \\(.b)\", (.a | ascii_upcase | ltrimstr(\"X\")), (.a | split(\"\")), ([.a, .b] | join(\"-\"))",
        json!({"a": "xy", "b": 1}),
        json!(["xy: 1", "Y", ["x", "y"], "xy-1"]),
    );
    check(
        "[.. | numbers], (flatten), (map(type) | unique), (sort | first), index(2), (.[1:] | length)",
        json!([1, [2]]),
        json!([[1, 2], [1, 2], ["array", "number"], 1, null, 1]),
    );
    check(
        "test(\"b+\"), [scan(\"[a-z]\")], gsub(\"(?<x>[0-9])\"; \"<\\(.x)>\"), capture(\"(?<n>[0-9])\"), [splits(\"b\")]",
        json!("ab1"),
        json!([true, ["a", "b"], "ab<1>", {"n": "1"}, ["a", "1"]]),
    );
    check("label $out | .[] | if . > 1 then ., break $out else . end", json!([1, 2, 3]), json!([1, 2]));
    check(
        "until(. > 100; . * 2), [while(. < 5; . + 1)], [recurse(if . < 3 then . + 1 else empty end)]",
        json!(1),
        json!([128, [1, 2, 3, 4], [1, 2, 3]]),
    );
    check("(group_by(.a) | map(length)), (tojson | fromjson | length)", json!([{"a": 1}, {"a": 1}, {"a": 2}]), json!([[2, 1], 3]));
}

#[test]
fn big_integers_keep_their_digits() {
    check(".id | tostring", json!(null), json!(["null"]));
    let filter = compile(".id, (.id | tostring), {id}");
    let out = filter.run_to_json(b"{\"id\": 123456789012345678901234567890}", &[&Value::Null]).unwrap();
    let texts: Vec<String> = out.into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect();
    assert_eq!(texts, ["123456789012345678901234567890", "\"123456789012345678901234567890\"", "{\"id\":123456789012345678901234567890}"]);
    let value = compile(".").run(b"[9007199254740993, 18446744073709551615, 1.50, -0, 1e3]", &[&Value::Null]).unwrap();
    assert_eq!(value, [json!([9_007_199_254_740_993_i64, "18446744073709551615", 1.5, 0, 1000])]);
}

#[test]
fn gateway_functions_work() {
    check(
        "time_s, (\"1700000000.000100\" | time_s), (\"2023-11-14T22:13:20Z\" | time_iso), (1700000000000 | time_auto), (null | time_s)",
        json!(1_700_000_000),
        json!([1_700_000_000_000_i64, 1_700_000_000_000_i64, 1_700_000_000_000_i64, 1_700_000_000_000_i64, null]),
    );
    check(
        "sha256, (. | hmac_sha256(\"k\") | length), (base64 | base64d), hex",
        json!("a"),
        json!(["ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb", 64, "a", "61"]),
    );
    check("uuid5(\"6ba7b810-9dad-11d1-80b4-00c04fd430c8\")", json!("www.example.org"), json!(["74738ff5-5367-5958-9aee-98fffdcd1876"]));
    check("ignored(\"bot\")", json!(null), json!([{"kind": "ignore", "code": "bot"}]));
    check("html_text", json!("<p>a &amp; b</p>"), json!(["a & b"]));
}

#[test]
fn what_is_not_on_the_list_does_not_exist() {
    for code in [
        "env",
        "input",
        "inputs",
        "halt",
        "now",
        "debug",
        "stderr",
        "$ENV",
        "$__prog_args",
        "halt_error",
        "localtime",
        "repeat(.)",
        "path(.a)",
        "getpath([]) = 1",
    ] {
        let problems = Filter::compile("map.jq", code, &[], Limits::default()).err();
        assert!(problems.is_some(), "`{code}` is not refused");
    }
    refused("import \"a\" as a; .", "expected");
    refused("include \"a\"; .", "expected");
    refused(".a | slect(.b)", "map.jq:1:6: undefined filter `slect`");
}

#[test]
fn programs_that_could_take_the_stack_are_refused() {
    refused("def f: f; f", "calls itself");
    refused("def f(x): def g: f(x); g; f(.)", "calls itself");
    refused("(reduce range(100000) as $i (.; .a)) |= 1", "left of an update");
    refused("def f(g): g |= 1; f(.a)", "left of an update");
    refused("del(first(.a))", "left of an update");
    refused(&format!("{}1{}", "(".repeat(500), ")".repeat(500)), "nests");
    refused(&format!(".{}", "|.".repeat(20_000)), "operators");
    refused("ignored(.x)", "literal");
    let long = |calls: &str| format!("{}{calls}", ".|".repeat(80));
    refused(&format!("def a: {}; def b: {}; b", long("."), long("a")), "nests deeper");
    refused(&format!("def a: {}; def b(f): {}; b(a)", long("."), long("f")), "nests deeper");
}

#[test]
fn the_deepest_program_allowed_runs_on_a_small_stack() {
    // Test threads have 2 MiB, as the daemon's workers.
    for code in [format!("{}.", ".|".repeat(118)), format!("def a: {}.; {}a", ".|".repeat(58), ".|".repeat(58))] {
        check(&code, json!(1), json!([1]));
    }
    check(&format!("{}.a{} = 1 | 1", "(".repeat(90), ")".repeat(90)), json!({}), json!([1]));
    let deep = format!("{}1{}", "[".repeat(128), "]".repeat(128));
    let out = compile("(.. |= .) == ., ([..] | length), (tojson | length), ([.] | flatten)").run(deep.as_bytes(), &[&Value::Null]);
    assert_eq!(out, Ok(vec![json!(true), json!(129), json!(257), json!([1])]));
}

#[test]
fn runaway_programs_are_stopped() {
    for code in [
        "range(1e18) | empty",
        "[range(1e9)]",
        "recurse(.)",
        "[recurse(empty, .)] | length",
        "until(false; .)",
        "last(range(1e12))",
        "\"x\" * 1e9",
        "\"x\" * 1000000000 | length",
        "reduce range(60) as $i (\"x\"; . + .) | length",
        "reduce range(60) as $i ([1]; . + .) | length",
        "reduce range(60) as $i ([1]; [., .]) | tojson | length",
        "reduce range(60) as $i ([1]; [., .]) | . == 1",
        "reduce range(100000) as $i (null; [.]) | 1",
        "reduce range(100000) as $i (null; {a: .}) | 1",
        "reduce range(1000) as $i ([]; .[1000000 * $i] = 1) | length",
        "[range(1e6)] | sort | length",
        "range(20000)",
        "def a: ., .; def b: a | a | a | a; def c: b | b | b | b; [c | c] | length",
        "[limit(1e18; range(1e18))] | length",
        "reduce range(1e6) as $i (\"\"; . + \"xxxxxxxxxx\") | length",
        "range(1e6) | tostring | test(\"[a-z]{9}\" + .)",
    ] {
        stopped(code);
    }
}

#[test]
fn deep_and_broken_input_is_refused_before_it_reaches_the_stack() {
    let filter = compile(".");
    assert_eq!(filter.run("[".repeat(100_000).as_bytes(), &[&Value::Null]), Err(JqError::TooDeep(128)));
    let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
    assert!(filter.run(deep.as_bytes(), &[&Value::Null]).is_ok());
    let over = format!("{}{}", "[".repeat(129), "]".repeat(129));
    assert_eq!(filter.run(over.as_bytes(), &[&Value::Null]), Err(JqError::TooDeep(128)));
    for broken in
        ["", "{", "[1,]", "{\"a\" 1}", "01", "1.", "tru", "\"\\x\"", "\"a", "1 2", "{1:2}", "nul", "+1", "[1 2]", "\"\u{1}\"", "--1", "1e"]
    {
        assert!(matches!(filter.run(broken.as_bytes(), &[&Value::Null]), Err(JqError::Input(_))), "{broken}");
    }
    assert!(matches!(filter.run(b"\"\xff\"", &[&Value::Null]), Err(JqError::Input(_))));
    assert_eq!(filter.run(br#""\ud83d\ude00 \ud800 \u00e4""#, &[&Value::Null]), Ok(vec![json!("😀 \u{fffd} ä")]));
}

#[test]
fn errors_name_types_and_program_text_but_no_content() {
    let filter = compile("if .a == 1 then error(\"no such thing\") elif .a == 2 then error(.secret) else .secret.x end");
    let run =
        |input: Value| filter.run(input.to_string().as_bytes(), &[&Value::Null]).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(run(json!({"a": 1})).contains("no such thing"));
    for a in [2, 3] {
        let text = run(json!({"a": a, "secret": "hunter2"}));
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn filters_are_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&compile("."));
}

#[test]
fn facts_name_codes_and_kinds() {
    let filter = compile("if .a then ignored(\"bot\") else {kind: (if .b then \"edit\" else \"message\" end)} end");
    let Facts { codes, kinds, .. } = filter.facts();
    assert_eq!(
        (codes.iter().cloned().collect::<Vec<_>>(), kinds.iter().cloned().collect::<Vec<_>>()),
        (vec!["bot".to_owned()], vec!["edit".to_owned(), "message".to_owned()])
    );
}
