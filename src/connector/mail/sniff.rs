//! Media types by first bytes. The declared type is believed unless the bytes say otherwise: a program that calls itself a
//! picture is told as a program.

/// Bytes that are looked at.
pub const FIRST_BYTES: usize = 64;

/// Bytes at an offset, and the type they prove.
const MARKS: [(usize, &[u8], &str); 22] = [
    (0, b"%PDF-", "application/pdf"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"#!AMR", "audio/amr"),
    (8, b"WAVE", "audio/wav"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"\x1f\x8b\x08", "application/gzip"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"MZ", "application/vnd.microsoft.portable-executable"),
    (0, b"\x7fELF", "application/x-elf"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (0, b"{\\rtf", "application/rtf"),
];

/// Endings that name a type inside a container (zip, OLE), or where nothing was declared.
const ENDINGS: [(&str, &str); 14] = [
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("doc", "application/msword"),
    ("xls", "application/vnd.ms-excel"),
    ("ppt", "application/vnd.ms-powerpoint"),
    ("msg", "application/vnd.ms-outlook"),
    ("csv", "text/csv"),
    ("txt", "text/plain"),
    ("ics", "text/calendar"),
    ("eml", "message/rfc822"),
    ("vcf", "text/vcard"),
];

/// The type to tell.
pub fn media_type(declared: &str, name: Option<&str>, first: &[u8]) -> String {
    let ending = name.and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending.to_ascii_lowercase());
    let by_name = ending.and_then(|ending| ENDINGS.iter().find(|(known, _)| *known == ending)).map(|(_, media_type)| *media_type);
    let found = MARKS
        .iter()
        .find(|(at, mark, _)| first.get(*at..).is_some_and(|rest| rest.starts_with(mark)))
        .map(|(_, _, media_type)| *media_type);
    let generic =
        matches!(declared, "application/octet-stream" | "application/x-download" | "application/force-download" | "application/unknown");
    match found {
        // Containers hold many types: what was declared, or the ending, is more exact.
        Some("application/zip" | "application/x-ole-storage" | "video/mp4" | "audio/ogg" | "video/webm")
            if !generic && !is_shown(declared) =>
        {
            declared.to_owned()
        }
        Some(container @ ("application/zip" | "application/x-ole-storage")) => by_name.unwrap_or(container).to_owned(),
        // MZ is two letters; a text may begin with them.
        Some("application/vnd.microsoft.portable-executable") if declared.starts_with("text/") || declared.starts_with("message/") => {
            declared.to_owned()
        }
        Some(found) => found.to_owned(),
        None if generic => by_name.unwrap_or("application/octet-stream").to_owned(),
        None => declared.to_owned(),
    }
}

/// Types that a reader shows in place: those must be what they say.
fn is_shown(media_type: &str) -> bool {
    media_type.starts_with("image/") || media_type.starts_with("text/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_win_over_the_declared_type() {
        assert_eq!(media_type("image/png", Some("a.png"), b"MZ\x90\0"), "application/vnd.microsoft.portable-executable");
        assert_eq!(media_type("application/octet-stream", Some("a.bin"), b"%PDF-1.7"), "application/pdf");
        assert_eq!(media_type("image/jpg", None, b"\xff\xd8\xff\xe0"), "image/jpeg");
    }

    #[test]
    fn containers_keep_the_more_exact_type() {
        assert_eq!(media_type("application/octet-stream", Some("Rechnung.DOCX"), b"PK\x03\x04"), ENDINGS[0].1);
        assert_eq!(media_type("application/vnd.oasis.opendocument.text", None, b"PK\x03\x04"), "application/vnd.oasis.opendocument.text");
        assert_eq!(media_type("image/png", Some("x"), b"PK\x03\x04"), "application/zip");
    }

    #[test]
    fn what_nobody_knows_stays_as_declared() {
        assert_eq!(media_type("text/calendar", None, b"BEGIN:VCALENDAR"), "text/calendar");
        assert_eq!(media_type("application/octet-stream", None, b"\0\0"), "application/octet-stream");
    }
}
