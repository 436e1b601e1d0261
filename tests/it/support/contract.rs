//! The contract of events: every event that any test sees goes through [`assert_valid`], which asks an independent validator and the
//! committed schema, not our own types.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::Value;

/// The folder of the package.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads a file of the package.
#[track_caller]
pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|problem| panic!("{path}: {problem}"))
}

/// Holds `text` against the committed file; `BLESS=1` writes it.
#[track_caller]
pub fn assert_committed(path: &str, text: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(root().join(path), text).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(root().join(path)).unwrap_or_default();
    assert!(committed == text, "{path} is not what the code says: run `BLESS=1 cargo test --test it`, then read the difference");
}

fn validator() -> &'static Validator {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    VALIDATOR.get_or_init(|| {
        let schema: Value = serde_json::from_str(&read("docs/schema/event-v1.json")).unwrap();
        jsonschema::draft202012::new(&schema).unwrap()
    })
}

/// What the committed schema says about an event; empty if it is valid.
pub fn problems(event: &Value) -> Vec<String> {
    validator().iter_errors(event).map(|problem| format!("{}: {problem}", problem.instance_path())).collect()
}

/// Panics unless `event` is valid by the committed schema.
#[track_caller]
pub fn assert_valid(event: &Value) {
    let found = problems(event);
    assert!(found.is_empty(), "event does not keep the contract: {found:#?}\n{event:#}");
}

/// The golden events, by path.
pub fn goldens() -> Vec<(PathBuf, Value)> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(root().join("tests/golden/events/v1")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap())).collect()
}
