//! What a mail server writes above the words of others: warnings that they came from outside.

/// Paragraphs that are looked at, and the longest.
const BANNERS_MAX: usize = 3;
const BANNER_LINES_MAX: usize = 8;
const BANNER_BYTES_MAX: usize = 1_000;

/// How Exchange Online begins when a sender is new, and the link behind it, which is the same in every language.
const LEARN: &str = "aka.ms/learnaboutsenderidentification";
const RARE: [&str; 8] = [
    "you don't often get email from",
    "you don’t often get email from",
    "sie erhalten nicht häufig e-mails von",
    "vous n'obtenez pas souvent d'e-mail",
    "vous n’obtenez pas souvent d’e-mail",
    "no suele recibir correo electrónico de",
    "u ontvangt niet vaak e-mail van",
    "non si ricevono spesso messaggi",
];
/// The whole of a short banner.
const MARKS: [&str; 8] =
    ["external", "external email", "external e-mail", "external sender", "external message", "extern", "externe e-mail", "e-mail externe"];
/// How a long one begins.
const STARTS: [&str; 12] = [
    "caution",
    "warning",
    "attention",
    "achtung",
    "vorsicht",
    "hinweis",
    "atención",
    "attenzione",
    "external",
    "this email",
    "this e-mail",
    "this message",
];
/// Where it says that the mail comes from.
const OUTSIDE: [&str; 20] = [
    "originated from outside",
    "originated outside",
    "came from outside",
    "comes from outside",
    "sent from outside",
    "from outside of the org",
    "from outside the org",
    "from outside of your org",
    "from outside your org",
    "from an external source",
    "external email",
    "external sender",
    "externe e-mail",
    "externen absender",
    "externer absender",
    "von außerhalb",
    "provient de l'extérieur",
    "provient de l’extérieur",
    "fuera de la organización",
    "mittente esterno",
];
/// What it warns of.
const CARE: [&str; 10] =
    ["link", "attachment", "anhang", "anhäng", "pièces jointes", "adjunto", "allegat", "bijlage", "unless you", "know the content"];

/// Without the banners at the top; what is left is never empty.
pub fn without(mut lines: Vec<&str>) -> Vec<&str> {
    for _ in 0..BANNERS_MAX {
        let Some(first) = lines.iter().position(|line| !line.trim().is_empty()) else { break };
        let paragraph: Vec<&str> =
            lines.iter().skip(first).take(BANNER_LINES_MAX + 1).take_while(|line| !line.trim().is_empty()).copied().collect();
        let behind = first + paragraph.len();
        let rest = lines.get(behind..).unwrap_or_default();
        if paragraph.len() > BANNER_LINES_MAX || !is_banner(&paragraph) || rest.iter().all(|line| line.trim().is_empty()) {
            break;
        }
        lines.drain(..behind);
    }
    lines
}

fn is_banner(paragraph: &[&str]) -> bool {
    if paragraph.iter().map(|line| line.len()).sum::<usize>() > BANNER_BYTES_MAX {
        return false;
    }
    let lower = paragraph.join(" ").to_lowercase();
    let bare = lower.trim_matches(|c: char| !c.is_alphanumeric());
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let begins = |words: &[&str]| words.iter().any(|word| bare.starts_with(word));
    lower.contains(LEARN) || begins(&RARE) || MARKS.contains(&bare) || begins(&STARTS) && has(&OUTSIDE) && has(&CARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(without(text.lines().collect()).join("\n").trim(), expected);
    }

    #[test]
    fn banners_go_and_what_only_looks_like_one_stays() {
        check("[EXTERNAL EMAIL]\n\nHello", "Hello");
        check("CAUTION: This email originated from outside of the organization. Do not click\nlinks.\n\nHello", "Hello");
        check("You don't often get email from ana@example.org. Learn why this is important\n\nHello", "Hello");
        check("[EXTERNAL]\n\nWARNING: external sender. Do not open attachments.\n\nHello", "Hello");
        check("ACHTUNG: Diese E-Mail kommt von außerhalb. Klicken Sie keine Links an.\n\nHallo", "Hallo");
        for stays in [
            "External email addresses cannot be added, why?\n\nHello",
            "Warning: the external power supply burns.\n\nHello",
            "[EXTERNAL EMAIL]",
            "Hello\n\n[EXTERNAL EMAIL]",
        ] {
            check(stays, stays);
        }
    }
}
