//! Numbers of tickets in a subject, as service desks write them: `[Ticket#4711]`, `[#4711]`, `[ACME-4711]`, `##4711##`,
//! `ref:…:ref`. Anybody can write them, so they only lead somebody who takes part already.

/// Most numbers of one subject.
const TICKETS_MAX: usize = 3;
/// Longest number.
const TICKET_BYTES_MAX: usize = 80;

/// Adds the numbers in `subject` to `tickets`, in one form however they are written; `[c.…]` is offered to `token` instead.
pub fn read(subject: &str, tickets: &mut Vec<String>, token: &mut dyn FnMut(&str)) {
    let mut rest = subject;
    while let Some((_, tail)) = rest.split_once('[') {
        let Some((inside, after)) = tail.split_once(']') else { break };
        if inside.starts_with("c.") || inside.starts_with("#c.") {
            token(inside.trim_start_matches('#'));
        } else if let Some(ticket) = bracketed(inside) {
            add(ticket, tickets);
        }
        rest = after;
    }
    if let Some((_, tail)) = subject.split_once("##")
        && let Some((inside, _)) = tail.split_once("##")
        && inside.len() >= 3
        && inside.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && inside.bytes().any(|byte| byte.is_ascii_digit())
    {
        add(inside.to_ascii_lowercase(), tickets);
    }
    if let Some((_, tail)) = subject.split_once("ref:")
        && let Some((inside, _)) = tail.split_once(":ref")
        && inside.len() >= 8
        && inside.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'!'))
    {
        add(format!("ref:{inside}"), tickets);
    }
}

fn add(ticket: String, tickets: &mut Vec<String>) {
    if ticket.len() <= TICKET_BYTES_MAX && tickets.len() < TICKETS_MAX && !tickets.contains(&ticket) {
        tickets.push(ticket);
    }
}

/// `Ticket#4711`, `Ticket: 4711`, `#4711`, `ACME-4711`. A number of one or two digits counts issues of a letter, not tickets.
fn bracketed(inside: &str) -> Option<String> {
    let inside = inside.trim();
    let digits = |text: &str| text.len() >= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((word, number)) = inside.split_once('#') {
        let word = word.trim().trim_end_matches(':').to_lowercase();
        return (digits(number.trim()) && word.chars().all(|c| c.is_alphanumeric() || c == ' '))
            .then(|| format!("{word}#{}", number.trim()));
    }
    if let Some((word, number)) = inside.split_once([':', ' '])
        && matches!(word.to_lowercase().as_str(), "ticket" | "case" | "request" | "vorgang" | "anfrage" | "incident" | "issue")
        && digits(number.trim())
    {
        return Some(format!("{}#{}", word.to_lowercase(), number.trim()));
    }
    let (project, number) = inside.split_once('-')?;
    let named = (2..=10).contains(&project.len()) && project.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    (named
        && project.starts_with(|c: char| c.is_ascii_uppercase())
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit()))
    .then(|| inside.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_the_forms_of_service_desks() {
        let all = |subject: &str| {
            let mut found = Vec::new();
            read(subject, &mut found, &mut |token| assert_eq!(token, "c.a.b"));
            found
        };
        assert_eq!(all("Re: [Ticket#2026060110000012] Order"), ["ticket#2026060110000012"]);
        assert_eq!(all("AW: [#4711] Order [list]"), ["#4711"]);
        assert_eq!(all("[ACME-42] Order"), ["ACME-42"]);
        assert_eq!(all("[Case 00123] x"), ["case#00123"]);
        assert_eq!(all("##RE-123## x"), ["re-123"]);
        assert_eq!(all("x [ ref:_00D1.500ab:ref ]"), ["ref:_00D1.500ab"]);
        assert!(all("[#c.a.b] [c.a.b]").is_empty());
        assert!(all("[1/3] [v2] [URGENT] #4711 [#12] [A-1] [").is_empty());
    }
}
