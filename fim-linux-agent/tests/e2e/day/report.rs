//! What the report says of the day.

/// The text of each element of this name, without markup and with single spaces.
pub(super) fn elements(page: &str, name: &str) -> Vec<String> {
    let (begin, end) = (format!("<{name}"), format!("</{name}>"));
    let parts = page.split(&*begin).skip(1);
    parts
        .filter(|part| part.starts_with(['>', ' ']))
        .map(|part| text(part.split(&*end).next().unwrap_or_default()))
        .collect()
}

/// The section with this anchor.
pub(super) fn section<'a>(page: &'a str, anchor: &str) -> &'a str {
    let from = page.find(&format!("<section id=\"{anchor}\"")).unwrap_or(page.len());
    let length = page[from..].find("</section>").unwrap_or(0);
    &page[from..from + length]
}

/// What stands between `<` and `>` is no text; the beginning is in the middle of a tag.
fn text(part: &str) -> String {
    let mut text = String::new();
    let mut is_inside = true;
    for letter in part.chars() {
        match letter {
            '<' => {
                is_inside = true;
                text.push(' ');
            }
            '>' if is_inside => is_inside = false,
            _ if is_inside => {}
            _ => text.push(letter),
        }
    }
    let text = text.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
