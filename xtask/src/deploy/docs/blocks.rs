//! Blocks of commands in pages of Markdown.

use anyhow::{Result, bail, ensure};

/// What becomes of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is run.
    Run,
    /// Another test does what it says: a file of the repository, and a text in it that shows it.
    Elsewhere(String, String),
    /// It is not run, and why.
    Not(String),
}

/// A block, and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) page: String,
    pub(super) line: usize,
    /// `sh`, `toml`.
    pub(super) language: String,
    pub(super) fate: Fate,
    pub(super) text: String,
}

impl Block {
    /// For people.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }

    /// The commands of a shell's block: lines that go on are one, comments are left out.
    ///
    /// # Errors
    /// When a quote is not closed.
    pub(super) fn commands(&self) -> Result<Vec<String>> {
        let (mut commands, mut open) = (Vec::new(), String::new());
        for line in self.text.lines() {
            open.push_str(line);
            let (code, whole) = code(&open);
            if !whole {
                open.push('\n');
                continue;
            }
            let code = code.trim_end().to_string();
            match code.strip_suffix('\\') {
                Some(more) => open = more.to_string(),
                None => {
                    open.clear();
                    let code = code.trim();
                    if !code.is_empty() {
                        commands.push(code.to_string());
                    }
                }
            }
        }
        ensure!(open.is_empty(), "{}: something is not closed: {open}", self.place());
        Ok(commands)
    }
}

/// A line without its comment, and whether all quotes are closed.
fn code(line: &str) -> (&str, bool) {
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open && before != '\\' => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if before != '\\' => quote = Some(c),
            (None, '#') if before.is_whitespace() => return (&line[..at], true),
            (None, _) => {}
        }
        before = c;
    }
    (line, quote.is_none())
}

/// All blocks of a page. A comment right before one says that it is not run, or where:
/// `<!-- not run: WHY -->`, `<!-- run by: FILE: TEXT -->`.
///
/// # Errors
/// When such a comment is before no block, or a block has no end.
pub(super) fn of(page: &str, text: &str) -> Result<Vec<Block>> {
    let (mut blocks, mut mark): (Vec<Block>, Option<Fate>) = (Vec::new(), None);
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        if let Some(language) = line.strip_prefix("```") {
            let mut block = Block {
                page: page.to_string(),
                line: number + 1,
                language: language.to_string(),
                fate: mark.take().unwrap_or(Fate::Run),
                text: String::new(),
            };
            loop {
                match lines.next() {
                    Some((_, line)) if line.trim() == "```" => break,
                    Some((_, line)) => block.text.extend([line, "\n"]),
                    None => bail!("{}: it has no end", block.place()),
                }
            }
            blocks.push(block);
        } else if let Some(fate) = fate(line) {
            mark = Some(fate);
        } else if !line.is_empty() {
            ensure!(mark.is_none(), "{page}:{number}: a mark stands before no block");
        }
    }
    Ok(blocks)
}

fn fate(line: &str) -> Option<Fate> {
    let mark = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
    if let Some(why) = mark.strip_prefix("not run: ") {
        return Some(Fate::Not(why.to_string()));
    }
    let (file, text) = mark.strip_prefix("run by: ")?.split_once(": ")?;
    Some(Fate::Elsewhere(file.to_string(), text.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Page\n\n```sh\na --b   # what\nc \\\n  --d '#1' \\\n  e\n\n# only\n\
        f --data '{\n  \"x\": 1 # in it\n}'\n```\n\ntext\n\n<!-- not run: it is slow -->\n```sh\ng\n```\n\
        <!-- run by: x/y.rs: cargo: z -->\n\n```sh\nh\n```\n\n```toml\nk = 1\n```\n";

    #[test]
    fn blocks_marks_and_commands() {
        let blocks = of("page.md", PAGE).unwrap();
        let fates: Vec<&Fate> = blocks.iter().map(|block| &block.fate).collect();
        let elsewhere = Fate::Elsewhere("x/y.rs".to_string(), "cargo: z".to_string());
        let slow = Fate::Not("it is slow".to_string());
        assert_eq!(fates, [&Fate::Run, &slow, &elsewhere, &Fate::Run]);
        assert_eq!(blocks[0].place(), "page.md:3");
        assert_eq!((blocks[3].language.as_str(), blocks[3].text.as_str()), ("toml", "k = 1\n"));
        assert_eq!(
            blocks[0].commands().unwrap(),
            ["a --b", "c   --d '#1'   e", "f --data '{\n  \"x\": 1 # in it\n}'"]
        );
    }

    #[test]
    fn what_is_not_right_is_said() {
        for text in ["```sh\na\n", "<!-- not run: x -->\ntext\n```sh\n```\n"] {
            assert!(of("page.md", text).is_err(), "{text}");
        }
        let blocks = of("page.md", "```sh\necho 'x\n```\n").unwrap();
        assert!(blocks[0].commands().is_err());
    }
}
