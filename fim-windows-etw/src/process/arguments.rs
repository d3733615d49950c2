//! The arguments in a command line. Windows hands over one text, and each program takes it apart by
//! itself: nearly all do it as `CommandLineToArgvW` does, and so do we.

/// The program's name, and what follows.
///
/// The name ends at a blank, or at the next quote if it begins with one. Behind it, quotes keep blanks
/// in an argument and are left out; `\"` is a quote, and of backslashes that stand before a quote each
/// second one is left out. Of three quotes in a row one stays, as of two within quotes, which end
/// there.
pub(super) fn split(line: &str) -> Vec<String> {
    if line.is_empty() {
        return Vec::new();
    }
    let (name, rest) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
        None => line.split_at(line.find(is_blank).unwrap_or(line.len())),
    };
    let mut arguments = vec![name.to_owned()];
    let mut rest = rest.trim_start_matches(is_blank).chars().peekable();
    while rest.peek().is_some() {
        let mut argument = String::new();
        // Backslashes at its end, and quotes: 1, we are within them.
        let (mut slashes, mut quotes) = (0_usize, 0_u8);
        while let Some(next) = rest.next_if(|&next| quotes > 0 || !is_blank(next)) {
            match next {
                '\\' => slashes += 1,
                '"' => {
                    argument.truncate(argument.len() - slashes.div_ceil(2));
                    if slashes % 2 == 1 {
                        argument.push('"');
                    } else {
                        quotes += 1;
                    }
                    while rest.next_if_eq(&'"').is_some() {
                        quotes += 1;
                        if quotes == 3 {
                            argument.push('"');
                            quotes = 0;
                        }
                    }
                    if quotes == 2 {
                        quotes = 0;
                    }
                    slashes = 0;
                    continue;
                }
                _ => slashes = 0,
            }
            argument.push(next);
        }
        arguments.push(argument);
        while rest.next_if(|&next| is_blank(next)).is_some() {}
    }
    arguments
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_command_line_to_argv_does() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("a.exe", &["a.exe"]),
            (
                r#""C:\Program Files\a b.exe" one  two"#,
                &[r"C:\Program Files\a b.exe", "one", "two"],
            ),
            // The name knows no backslashes, and what touches it is an argument.
            (r#""C:\x\"one" two"#, &[r"C:\x\", r"one two"]),
            (r#"a"b c"#, &[r#"a"b"#, "c"]),
            ("a \t", &["a"]),
            (" a b", &["", "a", "b"]),
            // What Microsoft's page has as examples.
            (r#"x "abc" d e"#, &["x", "abc", "d", "e"]),
            (r#"x a\\\b d"e f"g h"#, &["x", r"a\\\b", "de fg", "h"]),
            (r#"x a\\\"b c d"#, &["x", r#"a\"b"#, "c", "d"]),
            (r#"x a\\\\"b c" d e"#, &["x", r"a\\b c", "d", "e"]),
            // Here programs made with newer compilers go on to be within quotes.
            (r#"x a"b"" c d"#, &["x", r#"ab""#, "c", "d"]),
            // Nothing is an argument, too.
            (r#"x "" y"#, &["x", "", "y"]),
            (r#"x """ y"#, &["x", r#"""#, "y"]),
            (r#"x "open and"#, &["x", "open and"]),
            (r"x C:\dir\ y", &["x", r"C:\dir\", "y"]),
            ("x é\u{1F600} ü", &["x", "é\u{1F600}", "ü"]),
        ];
        for (line, arguments) in cases {
            assert_eq!(split(line), *arguments, "{line}");
        }
    }
}
