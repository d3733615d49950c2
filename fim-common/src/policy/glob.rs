//! Path globs on bytes.
//!
//! Own code, not globset: there `?` and `[é]` match single bytes, `[!a]` matches `/`, and `a**`
//! silently means `a*`. Names on disk are bytes, mostly UTF-8: here `?` is one character, or one
//! byte where the name is not UTF-8; nothing but `**` crosses `/`; and what has no meaning is an
//! error that says where. globset is the oracle of the property test.

use thiserror::Error;

/// What a pattern may hold at most; `PATH_MAX` of Linux.
const LENGTH_MAX: usize = 4096;
/// Alternatives that `{a,b}` may expand to.
const ALTERNATIVES_MAX: usize = 256;

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{kind}")]
pub struct PatternError {
    /// What is wrong.
    pub kind: PatternErrorKind,
    /// Byte in the text at which it was found.
    pub at: usize,
}

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PatternErrorKind {
    /// No character.
    #[error("the pattern is empty")]
    Empty,
    /// Longer than any path.
    #[error("the pattern is longer than {LENGTH_MAX} bytes")]
    TooLong,
    /// It does not begin with `/`.
    #[error(
        "the path is not absolute; it must begin with '/' (\"/**/NAME\" matches NAME anywhere)"
    )]
    Relative,
    /// A component `..`.
    #[error("'..' is not allowed; write the path that is meant")]
    Parent,
    /// A NUL byte.
    #[error("a path cannot contain a NUL byte")]
    Nul,
    /// `**` beside other characters.
    #[error("'**' must stand alone between slashes, as in \"/a/**/b\" or \"/a/**\"")]
    Recursive,
    /// `/etc/*/`.
    #[error("a pattern with wildcards must not end with '/'")]
    TrailingSlash,
    /// `[` without `]`.
    #[error("'[' is not closed by ']' (a literal bracket is written '\\[')")]
    UnclosedClass,
    /// `/` in brackets.
    #[error("'/' is never matched by '[...]'")]
    SeparatorInClass,
    /// `[z-a]`.
    #[error("the range '{0}-{1}' is backwards")]
    InvalidRange(char, char),
    /// `{` without `}`.
    #[error("'{{' is not closed by '}}' (a literal brace is written '\\{{')")]
    UnclosedAlternatives,
    /// `}` without `{`.
    #[error("'}}' without '{{' (a literal brace is written '\\}}')")]
    UnopenedAlternatives,
    /// `\` at the end.
    #[error("'\\' at the end escapes nothing (a literal backslash is written '\\\\')")]
    DanglingEscape,
    /// Too many alternatives.
    #[error("the braces expand to more than {ALTERNATIVES_MAX} patterns; use several patterns")]
    TooManyAlternatives,
}

/// A part of the text.
#[derive(Clone, Debug)]
enum Node {
    Char(char),
    Separator,
    Any,
    /// That many asterisks in a row.
    Stars(usize),
    Class(Class),
    Alternatives(Vec<Vec<(Node, usize)>>),
}

/// `[...]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    /// `None` is a byte that is not part of a character: no class names it, each negated one has it.
    fn contains(&self, c: Option<char>) -> bool {
        let named = c.is_some_and(|c| self.ranges.iter().any(|&(low, high)| low <= c && c <= high));
        named != self.negated
    }
}

/// A part of a component.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Token {
    Literal(Vec<u8>),
    Any,
    Star,
    Class(Class),
}

/// A component of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Component {
    /// `**`: any number of components, also none.
    Recursive,
    /// One component that matches these.
    Name(Vec<Token>),
}

/// A pattern, as far as it is text: a literal directory, and what must match below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    /// Begins with `/`, does not end with it except for the root.
    pub(super) base: String,
    /// Empty: the pattern has no wildcards.
    pub(super) tail: Vec<Component>,
}

/// Parses `text`; braces give several results.
pub(super) fn parse(text: &str) -> Result<Vec<Parsed>, PatternError> {
    let error = |kind, at| Err(PatternError { kind, at });
    if text.is_empty() {
        return error(PatternErrorKind::Empty, 0);
    }
    if text.len() > LENGTH_MAX {
        return error(PatternErrorKind::TooLong, LENGTH_MAX);
    }
    let mut parser = Parser { text, at: 0 };
    let nodes = parser.sequence(false)?;
    let mut flat = vec![Vec::new()];
    expand(&nodes, &mut flat)?;
    flat.iter().map(|nodes| components(nodes)).collect()
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at..).and_then(|rest| rest.chars().next())
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Until the end, or in braces until `,` or `}`, which is left to the caller.
    fn sequence(&mut self, in_braces: bool) -> Result<Vec<(Node, usize)>, PatternError> {
        let mut nodes = Vec::new();
        while let Some(c) = self.peek() {
            let at = self.at;
            let error = |kind| Err(PatternError { kind, at });
            if in_braces && matches!(c, ',' | '}') {
                break;
            }
            self.at += c.len_utf8();
            let node = match c {
                '\0' => return error(PatternErrorKind::Nul),
                '/' => Node::Separator,
                '?' => Node::Any,
                '*' => {
                    let mut count = 1;
                    while self.peek() == Some('*') {
                        self.at += 1;
                        count += 1;
                    }
                    Node::Stars(count)
                }
                '[' => self.class(at)?,
                '{' => self.alternatives(at)?,
                '}' => return error(PatternErrorKind::UnopenedAlternatives),
                '\\' => match self.next() {
                    Some('/') => Node::Separator,
                    Some('\0') => return error(PatternErrorKind::Nul),
                    Some(c) => Node::Char(c),
                    None => return error(PatternErrorKind::DanglingEscape),
                },
                c => Node::Char(c),
            };
            nodes.push((node, at));
        }
        Ok(nodes)
    }

    /// After `{`, which stood at `open`.
    fn alternatives(&mut self, open: usize) -> Result<Node, PatternError> {
        let mut branches = Vec::new();
        loop {
            branches.push(self.sequence(true)?);
            match self.next() {
                Some(',') => {}
                Some('}') => return Ok(Node::Alternatives(branches)),
                _ => {
                    let kind = PatternErrorKind::UnclosedAlternatives;
                    return Err(PatternError { kind, at: open });
                }
            }
        }
    }

    /// After `[`, which stood at `open`.
    fn class(&mut self, open: usize) -> Result<Node, PatternError> {
        let negated = matches!(self.peek(), Some('!' | '^'));
        if negated {
            self.at += 1;
        }
        let mut ranges = Vec::new();
        loop {
            // A `]` right at the beginning is a member, as in POSIX.
            match self.peek() {
                None => {
                    let kind = PatternErrorKind::UnclosedClass;
                    return Err(PatternError { kind, at: open });
                }
                Some(']') if !ranges.is_empty() => {
                    self.at += 1;
                    break;
                }
                Some(_) => {}
            }
            let at = self.at;
            let low = self.class_member(open)?;
            let rest = self.text.get(self.at..).unwrap_or_default();
            let high = if rest.starts_with('-') && !rest.starts_with("-]") && rest.len() > 1 {
                self.at += 1;
                self.class_member(open)?
            } else {
                low
            };
            if low > high {
                return Err(PatternError { kind: PatternErrorKind::InvalidRange(low, high), at });
            }
            ranges.push((low, high));
        }
        match ranges.as_slice() {
            // `[*]` is the other way to write a literal asterisk.
            &[(low, high)] if low == high && !negated => Ok(Node::Char(low)),
            _ => Ok(Node::Class(Class { negated, ranges })),
        }
    }

    fn class_member(&mut self, open: usize) -> Result<char, PatternError> {
        let at = self.at;
        let unclosed = PatternError { kind: PatternErrorKind::UnclosedClass, at: open };
        match self.next().ok_or_else(|| unclosed.clone())? {
            '/' => Err(PatternError { kind: PatternErrorKind::SeparatorInClass, at }),
            '\0' => Err(PatternError { kind: PatternErrorKind::Nul, at }),
            '\\' => match self.next().ok_or(unclosed)? {
                '/' => Err(PatternError { kind: PatternErrorKind::SeparatorInClass, at }),
                c => Ok(c),
            },
            c => Ok(c),
        }
    }
}

/// Appends `nodes` to each sequence in `flat`, with braces multiplied out.
fn expand(nodes: &[(Node, usize)], flat: &mut Vec<Vec<(Node, usize)>>) -> Result<(), PatternError> {
    for (node, at) in nodes {
        let Node::Alternatives(branches) = node else {
            flat.iter_mut().for_each(|sequence| sequence.push((node.clone(), *at)));
            continue;
        };
        let mut product = Vec::new();
        for branch in branches {
            let mut sequences = flat.clone();
            expand(branch, &mut sequences)?;
            product.append(&mut sequences);
            if product.len() > ALTERNATIVES_MAX {
                return Err(PatternError { kind: PatternErrorKind::TooManyAlternatives, at: *at });
            }
        }
        *flat = product;
    }
    Ok(())
}

/// Splits a sequence without braces at its slashes.
fn components(nodes: &[(Node, usize)]) -> Result<Parsed, PatternError> {
    let error = |kind, at| Err(PatternError { kind, at });
    if !matches!(nodes.first(), Some((Node::Separator, _))) {
        return error(PatternErrorKind::Relative, nodes.first().map_or(0, |(_, at)| *at));
    }
    let mut base = String::new();
    let mut tail: Vec<Component> = Vec::new();
    for part in nodes.split(|(node, _)| matches!(node, Node::Separator)) {
        let at = part.first().map_or(0, |(_, at)| *at);
        if let Some(name) = literal(part) {
            match name.as_str() {
                "" | "." => {}
                ".." => return error(PatternErrorKind::Parent, at),
                name if tail.is_empty() => {
                    base.push('/');
                    base.push_str(name);
                }
                name => tail.push(Component::Name(vec![Token::Literal(name.into())])),
            }
        } else if let [(Node::Stars(2), _)] = part {
            if tail.last() != Some(&Component::Recursive) {
                tail.push(Component::Recursive);
            }
        } else {
            tail.push(Component::Name(tokens(part)?));
        }
    }
    if let (false, Some((Node::Separator, at))) = (tail.is_empty(), nodes.last()) {
        return error(PatternErrorKind::TrailingSlash, *at);
    }
    // `/a/**` is what is below `/a`, not `/a`.
    if tail.last() == Some(&Component::Recursive) {
        tail.push(Component::Name(vec![Token::Star]));
    }
    if base.is_empty() {
        base.push('/');
    }
    Ok(Parsed { base, tail })
}

/// The text of a component without wildcards.
fn literal(part: &[(Node, usize)]) -> Option<String> {
    part.iter().map(|(node, _)| if let Node::Char(c) = node { Some(*c) } else { None }).collect()
}

fn tokens(part: &[(Node, usize)]) -> Result<Vec<Token>, PatternError> {
    let mut tokens = Vec::new();
    for (node, at) in part {
        match node {
            Node::Char(c) => {
                let mut buffer = [0; 4];
                let bytes = c.encode_utf8(&mut buffer).as_bytes();
                if let Some(Token::Literal(text)) = tokens.last_mut() {
                    text.extend_from_slice(bytes);
                } else {
                    tokens.push(Token::Literal(bytes.to_vec()));
                }
            }
            Node::Any => tokens.push(Token::Any),
            Node::Stars(1) => {
                // `{a*,*}*` expands to two in a row, which mean no more than one.
                if tokens.last() != Some(&Token::Star) {
                    tokens.push(Token::Star);
                }
            }
            Node::Stars(_) => {
                return Err(PatternError { kind: PatternErrorKind::Recursive, at: *at });
            }
            Node::Class(class) => tokens.push(Token::Class(class.clone())),
            // Both are consumed before; there is nothing of them to match.
            Node::Separator | Node::Alternatives(_) => {}
        }
    }
    Ok(tokens)
}

/// Whether `rest`, components joined by `/` and not empty, matches all of `tail`.
pub(super) fn matches(tail: &[Component], rest: &[u8]) -> bool {
    let (mut next, mut rest) = (0, rest);
    let mut retry: Option<(usize, &[u8])> = None;
    loop {
        match tail.get(next) {
            Some(Component::Recursive) => {
                next += 1;
                retry = Some((next, rest));
                continue;
            }
            Some(Component::Name(tokens)) if !rest.is_empty() => {
                let (name, below) = split(rest);
                if name_matches(tokens, name) {
                    next += 1;
                    rest = below;
                    continue;
                }
            }
            None if rest.is_empty() => return true,
            Some(Component::Name(_)) | None => {}
        }
        // The last `**` takes one component more. Earlier ones need not be tried again: whatever
        // they could give, the last one can take.
        match retry {
            Some((after, from)) if !from.is_empty() => {
                rest = split(from).1;
                next = after;
                retry = Some((after, rest));
            }
            _ => return false,
        }
    }
}

/// Whether `tail` can match something of which `names` are the first components and which has
/// more.
pub(super) fn can_match_below(tail: &[Component], names: &[&[u8]]) -> bool {
    match (tail.first(), names) {
        (Some(Component::Recursive), _) => true,
        (Some(_), []) => true,
        (Some(Component::Name(tokens)), [name, rest @ ..]) => {
            name_matches(tokens, name) && can_match_below(&tail[1..], rest)
        }
        (None, _) => false,
    }
}

/// The first component, and the rest.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().position(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, &[]),
    }
}

fn name_matches(tokens: &[Token], name: &[u8]) -> bool {
    let (mut next, mut rest) = (0, name);
    let mut retry: Option<(usize, &[u8])> = None;
    loop {
        let taken = match tokens.get(next) {
            Some(Token::Star) => {
                next += 1;
                retry = Some((next, rest));
                // Nothing is after it: it takes the rest.
                if next == tokens.len() {
                    return true;
                }
                continue;
            }
            Some(Token::Literal(text)) => rest.starts_with(text).then_some(text.len()),
            Some(Token::Any) => character(rest).map(|(_, len)| len),
            Some(Token::Class(class)) => {
                character(rest).filter(|&(c, _)| class.contains(c)).map(|(_, len)| len)
            }
            None if rest.is_empty() => return true,
            None => None,
        };
        if let Some(len) = taken {
            rest = &rest[len..];
            next += 1;
            continue;
        }
        match retry {
            Some((after, from)) if let Some((_, len)) = character(from) => {
                rest = &from[len..];
                next = after;
                retry = Some((after, rest));
            }
            _ => return false,
        }
    }
}

/// The first character and its length; a byte that belongs to none is `None` and 1 long.
fn character(bytes: &[u8]) -> Option<(Option<char>, usize)> {
    let first = *bytes.first()?;
    let len = match first {
        0..0x80 => return Some((Some(char::from(first)), 1)),
        0xC0..0xE0 => 2,
        0xE0..0xF0 => 3,
        0xF0.. => 4,
        0x80..0xC0 => 1,
    };
    let c = bytes.get(..len).and_then(|bytes| std::str::from_utf8(bytes).ok());
    Some(c.and_then(|text| text.chars().next()).map_or((None, 1), |c| (Some(c), len)))
}
