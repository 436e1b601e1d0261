//! Skeleton: what `connector new` writes. A working connector with a passing fixture, to be changed until it fits the platform.

use crate::connector::folder::Folder;

/// The files of a new connector.
pub fn folder(name: &str) -> Folder {
    let files = [
        ("connector.toml", include_str!("skeleton/connector.toml")),
        ("map.jq", include_str!("skeleton/map.jq")),
        ("README.md", include_str!("skeleton/README.md")),
        ("fixtures/other_event/payload.json", include_str!("skeleton/other.json")),
        ("fixtures/other_event/expected.json", include_str!("skeleton/other_expected.json")),
        ("fixtures/text_message/payload.json", include_str!("skeleton/payload.json")),
        ("fixtures/text_message/expected.json", include_str!("skeleton/expected.json")),
    ];
    // A shell exports no name with a hyphen.
    let variable = format!("{}_SIGNING_SECRET", name.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    let fill = |text: &str| text.replace("NAME_SIGNING_SECRET", &variable).replace("NAME", name).into_bytes().into();
    let files = files.into_iter().map(|(path, text)| (path.to_owned(), fill(text))).collect();
    Folder { name: name.to_owned(), origin: name.to_owned(), files }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::connector::fixtures;

    #[test]
    fn skeleton_passes_its_own_fixtures_and_covers_its_map() {
        let report = fixtures::run(folder("acme-chat")).map_err(|problems| crate::connector::problem::render(&problems)).unwrap();
        assert_eq!(report.cases.len(), 2);
        let readme = folder("acme-chat").files["README.md"].to_vec();
        assert!(String::from_utf8(readme).unwrap().contains("{ env = \"ACME_CHAT_SIGNING_SECRET\" }"));
        for case in &report.cases {
            assert!(case.passed(), "{}: {:?}\n{}", case.case, case.problem, serde_json::to_string_pretty(&case.actual).unwrap());
        }
        assert!(report.uncovered.is_empty(), "{:?}", report.uncovered);
    }
}
