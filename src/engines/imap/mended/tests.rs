//! Every odd line, in pieces of any size: what passes, what is mended, what is passed over, and what never reaches the parser.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

/// What becomes of a stream, whatever the reads are.
async fn mended(sent: &[u8]) -> io::Result<Vec<u8>> {
    use tokio::io::AsyncReadExt as _;

    let mut all = Vec::new();
    for (number, piece) in [sent.len().max(1), 1, 7, 64].into_iter().enumerate() {
        let (mut peer, ours) = tokio::io::duplex(piece);
        let mut mended = Mended::new(ours, b"");
        let sent = sent.to_vec();
        let feed = tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut peer, &sent).await });
        let mut came = Vec::new();
        mended.read_to_end(&mut came).await?;
        feed.await.unwrap().unwrap();
        assert!(number == 0 || came == all, "pieces of {piece}: {:?}", String::from_utf8_lossy(&came));
        all = came;
    }
    Ok(all)
}

async fn check(sent: &str, expected: &str) {
    let came = mended(sent.as_bytes()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&came), expected, "{sent:?}");
}

#[tokio::test]
async fn what_the_parser_reads_is_not_touched() {
    for line in [
        "* OK [UIDNEXT 4]\r\n",
        "* FLAGS (\\Seen $x)\n",
        "* 3 EXISTS\r\n",
        "* LIST () \"/\" {5}\r\nINBOX\r\n",
        "+ eyJhIjoxfQ==\r\n",
        "+\r\n",
        "A1 OK done\r\n",
        "* 1 FETCH (UID 1 RFC822.SIZE 3 INTERNALDATE \"17-Jul-2026 02:44:25 +0000\")\r\n",
        "* 1 FETCH (UID 1 BODY[] {31}\r\n* XFOO bar\r\n\r\nINTERNALDATE NIL)\r\n",
        "* Subject: of a mail whose length was told wrongly\r\n",
        "A1 OK no end",
    ] {
        check(line, line).await;
    }
}

#[tokio::test]
async fn what_nobody_asked_for_and_the_parser_cannot_read_is_passed_over_whole() {
    let before = "* 1 FETCH (UID 1 BODY[] {3}\r\nabc)\r\n";
    let behind = "* 2 EXISTS\r\nA1 OK\r\n";
    for line in [
        "* XFOO bar\r\n",
        "* ID ( \"name\" \"Coremail Imap\" \"vendor\" \"Mailtech\" \"TransID\" \"abc\" )\r\n",
        "* ID ()\r\n",
        "* ESEARCH (TAG \"a\") UID ALL 1:3\r\n",
        "* SEARCH 1 (MODSEQ 5)\r\n",
        "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n",
        "* METADATA \"\" (/private/x {4}\r\n* 1 /y {3}\r\nabc)\r\n",
        "* 7 XNOTES (a)\r\n",
        "* FLAGS (\\Seen $a{b)\r\n",
        "\r\n",
        "\n",
        "* \r\n",
        "* 2 FETCH (FLAGS (\\Seen)))\r\n",
        "* 2 FETCH (X-FOO (a (b) \"c\"))\r\n",
    ] {
        check(&[before, line, behind].concat(), &[before, behind].concat()).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_written_oddly_is_read_and_keeps_its_content() {
    let check = async |sent: &str, expected: &str| {
        check(sent, expected).await;
        assert!(matches!(Response::parse(expected.as_bytes()), Ok(([], _))), "{expected}");
    };
    check("* 1 FETCH (UID 1 INTERNALDATE NIL)\r\n", "* 1 FETCH (UID 1 INTERNALDATE \"\")\r\n").await;
    check("* 1 FETCH (UID 1  internaldate  nil)\r\n", "* 1 FETCH (UID 1 INTERNALDATE \"\")\r\n").await;
    check("* 1 FETCH ( UID 1 RFC822.SIZE  20 )\r\n", "* 1 FETCH (UID 1 RFC822.SIZE 20)\r\n").await;
    check("* 1 FETCH (UID 1 BODY[] ~{3}\r\n\0{\")\r\n", "* 1 FETCH (UID 1 BODY[] {3}\r\n\0{\")\r\n").await;
    check("* 1 FETCH (UID 1 BODY[] {3+}\r\nabc)\r\n", "* 1 FETCH (UID 1 BODY[] {3}\r\nabc)\r\n").await;
    check("* 1 FETCH (BODY[] {3}\r\nabc INTERNALDATE NIL UID 1)\r\n", "* 1 FETCH (BODY[] {3}\r\nabc INTERNALDATE \"\" UID 1)\r\n").await;
    check("* CAPABILITY  IMAP4rev2 IDLE \r\n", "* CAPABILITY IMAP4rev1 IMAP4rev2 IDLE\r\n").await;
    check("* CAPABILITY\r\n", "* CAPABILITY IMAP4rev1\r\n").await;
    check("+ go ahead\r\n", "+ \r\n").await;
    check("A1 NO \0 no\rno\r\n", "A1 NO   no no\r\n").await;
}

#[tokio::test]
async fn lists_without_end_and_lines_without_end_do_not_reach_the_parser() {
    let deep = "(".repeat(100_000);
    let (mut peer, ours) = tokio::io::duplex(1024);
    tokio::io::AsyncWriteExt::write_all(&mut peer, format!("* 1 EXISTS\r\n* 1 FETCH (BODY {}\r\n", "(".repeat(50)).as_bytes())
        .await
        .unwrap();
    let mut came = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut Mended::new(ours, b""), &mut came).await.unwrap_err();
    assert_eq!(came, b"* 1 EXISTS\r\n", "what came before it is read");
    for begin in ["* 1 FETCH (UID 1 BODYSTRUCTURE ", "* 1 FETCH (BODY[] {1}\r\na BODYSTRUCTURE "] {
        assert!(mended(format!("{begin}{deep}\r\n").as_bytes()).await.is_err(), "{begin}");
    }
    check(&format!("* NAMESPACE {deep}\r\n* 2 EXISTS\r\n"), "* 2 EXISTS\r\n").await;
    let refused = mended(format!("* OK {}", "a".repeat(300_000)).as_bytes()).await.unwrap_err();
    assert_eq!(WireError::of(&refused), Some(WireError::TooLarge(LINE_BYTES_MAX)));
}

#[tokio::test]
async fn what_was_read_before_comes_first() {
    use tokio::io::AsyncReadExt as _;

    let (peer, ours) = tokio::io::duplex(64);
    drop(peer);
    let mut came = String::new();
    Mended::new(ours, b"* OK early\r\n* XFOO\r\n* OK ha").read_to_string(&mut came).await.unwrap();
    assert_eq!(came, "* OK early\r\n* OK ha");
}
