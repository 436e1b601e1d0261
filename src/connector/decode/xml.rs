//! XML → JSON, without DTDs (an entity could grow without a bound, or read a file), bounded in depth and size.
//!
//! An element with text only becomes that text; any other an object with its attributes as `@name`, its children by their local name (a
//! list where one comes again) and its text as `#text`.

use roxmltree::{Document, Node, ParsingOptions};
use serde_json::{Map, Value};

/// Elements and texts of one document.
const NODES_MAX: u32 = 20_000;

fn parse(bytes: &[u8]) -> Option<Document<'_>> {
    let text = std::str::from_utf8(bytes).ok()?;
    // The parser takes stack for each level: count them first.
    if deeper_than(text, 128) {
        return None;
    }
    Document::parse_with_options(
        text.trim_start_matches('\u{feff}').trim_start(),
        ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..ParsingOptions::default() },
    )
    .ok()
}

/// Whether more start tags are open at once than `depth`: at least as deep as any parser would go.
fn deeper_than(text: &str, depth: usize) -> bool {
    let mut open = 0usize;
    let mut rest = text;
    while let Some((_, tail)) = rest.split_once('<') {
        if let Some(inside) = tail.strip_prefix("![CDATA[") {
            rest = inside.split_once("]]>").map_or("", |(_, after)| after);
            continue;
        }
        let end = tail.find('>').unwrap_or(tail.len());
        let (tag, after) = tail.split_at(end);
        match tag.bytes().next() {
            Some(b'/') => open = open.saturating_sub(1),
            Some(b'?' | b'!') => {}
            _ if tag.ends_with('/') => {}
            _ => open += 1,
        }
        if open > depth {
            return true;
        }
        rest = after;
    }
    false
}

/// The document as JSON: `{"root": …}`.
pub fn to_json(bytes: &[u8]) -> Option<Value> {
    let document = parse(bytes)?;
    let root = document.root_element();
    let mut out = Map::new();
    out.insert(root.tag_name().name().to_owned(), value(root));
    Some(Value::Object(out))
}

/// The text of the element `name` right below the root.
pub fn child_text(bytes: &[u8], name: &str) -> Option<String> {
    let document = parse(bytes)?;
    let child = document.root_element().children().find(|node| node.has_tag_name(name))?;
    child.text().map(str::to_owned)
}

fn value(node: Node<'_, '_>) -> Value {
    let mut members = Map::new();
    for attribute in node.attributes() {
        members.insert(format!("@{}", attribute.name()), Value::from(attribute.value()));
    }
    let mut text = String::new();
    for child in node.children() {
        if child.is_text() {
            text.push_str(child.text().unwrap_or_default());
        } else if child.is_element() {
            add(&mut members, child.tag_name().name(), value(child));
        }
    }
    if members.is_empty() {
        return Value::from(text);
    }
    if !text.trim().is_empty() {
        members.insert("#text".to_owned(), Value::from(text));
    }
    Value::Object(members)
}

fn add(members: &mut Map<String, Value>, name: &str, value: Value) {
    match members.get_mut(name) {
        Some(Value::Array(list)) => list.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
        None => drop(members.insert(name.to_owned(), value)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn elements_become_members_and_repeated_ones_lists() {
        let text = b"<?xml version=\"1.0\"?><r a=\"1\"><t><![CDATA[a<b]]></t><i>1</i><i>2</i><e/></r>";
        assert_eq!(to_json(text).unwrap(), json!({"r": {"@a": "1", "t": "a<b", "i": ["1", "2"], "e": ""}}));
    }

    #[test]
    fn dtds_and_depth_are_refused() {
        assert_eq!(to_json(b"<!DOCTYPE x [<!ENTITY a \"b\">]><x>&a;</x>"), None);
        let deep = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(to_json(deep(100).as_bytes()).is_some());
        assert_eq!(to_json(deep(200_000).as_bytes()), None);
        assert_eq!(to_json(b"not xml"), None);
    }
}
