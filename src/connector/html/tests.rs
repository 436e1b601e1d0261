//! Facts about HTML in, text and safe HTML out.

use crate::connector::html::{sanitise, to_text};

#[track_caller]
fn check_text(html: &str, expected: &str) {
    assert_eq!(to_text(html), expected);
}

#[track_caller]
fn check_clean(html: &str, expected: &str) {
    assert_eq!(sanitise(html, 64 * 1024), (expected.to_owned(), false));
}

#[test]
fn text_keeps_lines_lists_and_quotes() {
    check_text(
        "<html><head><title>x</title><style>p{}</style></head><body><p>Hello&nbsp;&amp; <b>good</b>\n day</p><div>one</div><div>two<br>three</div>\
             <ul><li>a<li>b</ul><blockquote>old<br>text</blockquote>end",
        "Hello & good day\n\none\ntwo\nthree\n\n- a\n- b\n\n> old\n> text\nend",
    );
}

#[test]
fn text_of_broken_html_is_what_can_be_seen() {
    check_text("a < b <3 &unknown; &#8364; &", "a < b <3 &unknown; € &");
    check_text("<!-- never closed", "");
    check_text("x<style>p{}", "xp{}");
    check_text("<a title=\"a > b\" href=x>link</a>", "link");
}

#[test]
fn hidden_elements_are_not_in_the_text() {
    check_text("<div style=\"display:none;max-height:0\">Preview <b>words</b></div><p>Hello</p>", "Hello");
    check_text("a<span style='display:none'>b<br>c</span>d<img style=\"display:none\" alt=x>e", "ade");
    check_text("<p style=display:none>one<p>two", "two");
    check_text("<td><div style='display:none'>x</td><td>y</td>", "y");
    check_text("<div style='display:none'><div>x</div>y</div>z", "z");
    check_text("<blockquote style='display:none'>x</blockquote>y", "y");
    check_text("<p hidden>x</p>y", "y");
}

#[test]
fn what_is_hidden_in_doubt_is_in_the_text() {
    check_text("a<div style='display:none'>never closed", "a\nnever closed");
    check_text("<div style='display:none'>All of it.</div>", "All of it.");
    check_text("<td style='font-size:0'><div style='font-size:13px'>x</div></td>", "x");
    check_text(&format!("a<i style='display:none'>{}b</i>", "<b>".repeat(300)), "ab");
}

#[test]
fn scripts_styles_forms_and_handlers_go() {
    check_clean("<p onclick=\"x()\">a<script>alert(1)</script></p>", "<p>a</p>");
    check_clean("<form action=\"http://example.org\"><input name=x>b</form>", "b");
    check_clean("<a href=\"javascript:alert(1)\">c</a>", "<a rel=\"noopener noreferrer\">c</a>");
    check_clean("<svg><style><img src=x onerror=alert(1)></style></svg>", "");
    check_clean("<p style=\"position:fixed\">d</p>", "<p>d</p>");
}

#[test]
fn remote_and_embedded_images_stay() {
    check_clean("<img src=\"https://example.org/a.png\" alt=\"A\">", "<img src=\"https://example.org/a.png\" alt=\"A\">");
    check_clean("<img src='cid:logo@example.org'>", "<img src=\"cid:logo@example.org\">");
    check_clean("<img src=\"data:image/png;base64,AAAA\">", "<img>");
}

#[test]
fn text_that_looks_like_markup_stays_text() {
    check_clean("1 < 2 &lt;script&gt;", "1 &lt; 2 &lt;script&gt;");
}

#[test]
fn hostile_nesting_takes_linear_time() {
    let begun = std::time::Instant::now();
    let hostiles = [
        "<div>",
        "<b>",
        "<font color=1><p>",
        "<a><p>",
        "<table><tr><td>",
        "<b></i><i></b><p>",
        "</p>",
        "<script",
        "<title>",
        "&#",
        "&amp;",
        "&",
        "<a href=\"&#\">",
        "\"",
        "x<br>",
        "§",
        "<",
        "<a b=\"",
        "<p>",
        "<p style=display:none>",
        "<b style=display:none>",
        "<b style=display:none></i>",
    ];
    for hostile in hostiles {
        let html = hostile.repeat(5 * 1024 * 1024 / hostile.len());
        to_text(&html);
        assert!(sanitise(&html, 64 * 1024).0.len() <= 64 * 1024);
    }
    assert!(begun.elapsed().as_secs() < 40, "took {:?}", begun.elapsed());
}

#[test]
fn long_html_is_cut_between_tags() {
    let (html, cut) = sanitise(&"<p><a href=\"http://example.org/\">link</a></p>".repeat(1000), 1000);
    assert!(cut && html.len() <= 1000 && html.ends_with("</p>"), "{html}");
}
