//! A path in a rule: a literal directory and, perhaps, a glob below it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::glob::{self, Component, PatternError, Token};

/// What a pattern matches of what lies at and below its base.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Extent {
    /// The base and everything below it: a literal path.
    Tree,
    /// The base alone: a symbolic link that a literal path named.
    Object,
    /// What matches below the base: a glob.
    Glob(Vec<Component>),
}

/// A path as a rule has it.
///
/// A literal path matches the object itself and, when it is a directory, everything below. A glob
/// matches exactly the objects whose whole path matches: `/etc/*.conf` is the `.conf` directly in
/// `/etc`, `/srv/*/key` is that file or directory alone, `/srv/**` is everything below `/srv`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    source: Arc<str>,
    base: PathBuf,
    extent: Extent,
    folds_case: bool,
}

impl Pattern {
    /// Parses the text of a pattern: an absolute path, in which `*`, `?`, `[...]`, `{a,b}` and
    /// `**` are wildcards and `\` takes the meaning from the character after it. Braces give one
    /// pattern for each alternative.
    ///
    /// # Errors
    /// When the text is no such pattern; the error says what is wrong, and where.
    pub fn parse(text: &str) -> Result<Vec<Self>, PatternError> {
        let source: Arc<str> = text.into();
        let patterns = glob::parse(text)?.into_iter().map(|parsed| Self {
            source: Arc::clone(&source),
            base: parsed.base.into(),
            folds_case: false,
            extent: match parsed.tail.is_empty() {
                true => Extent::Tree,
                false => Extent::Glob(parsed.tail),
            },
        });
        Ok(patterns.collect())
    }

    /// Parses the text of a pattern for Windows paths: as [`Pattern::parse`], but that upper and
    /// lower case are the same, that `\\` separates components as `/` does, and that registry keys
    /// (`HKLM\\SOFTWARE`) and shares (`\\\\server\\share`) can be meant.
    ///
    /// # Errors
    /// When the text is no such pattern.
    pub fn parse_windows(text: &str) -> Result<Vec<Self>, PatternError> {
        let source: Arc<str> = text.into();
        let parsed = Self::parse(&super::windows::key(text))?;
        Ok(parsed
            .into_iter()
            .map(|pattern| Self { source: Arc::clone(&source), folds_case: true, ..pattern })
            .collect())
    }

    /// Whatever there is.
    pub fn everything() -> Self {
        Self::literal(PathBuf::from("/"))
    }

    /// The literal `path` and everything below it; no character of it is a wildcard.
    pub fn literal(path: PathBuf) -> Self {
        let mut source = String::new();
        for c in path.to_string_lossy().chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\') {
                source.push('\\');
            }
            source.push(c);
        }
        Self { source: source.into(), base: path, extent: Extent::Tree, folds_case: false }
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The literal path of Windows and everything below it.
    pub fn literal_windows(path: &Path) -> Self {
        let text = path.to_string_lossy();
        let base = PathBuf::from(super::windows::key(&text));
        Self { source: text.into(), base, extent: Extent::Tree, folds_case: true }
    }

    /// The literal directory or object with which it begins; symbolic links are resolved in a
    /// [resolved](super::Policy::resolved) policy.
    pub fn base(&self) -> &Path {
        &self.base
    }

    pub(super) fn extent(&self) -> &Extent {
        &self.extent
    }

    /// It is of Windows: upper and lower case are the same, and so are `/` and `\\`.
    pub(crate) fn folds_case(&self) -> bool {
        self.folds_case
    }

    /// It has no wildcards and matches all that is below it.
    pub fn is_tree(&self) -> bool {
        self.extent == Extent::Tree
    }

    /// It matches one object alone: the symbolic link that a literal path named.
    pub fn is_object(&self) -> bool {
        self.extent == Extent::Object
    }

    /// It matches everything below its base, and perhaps the base.
    pub(super) fn is_whole_below(&self) -> bool {
        match &self.extent {
            Extent::Tree => true,
            Extent::Object => false,
            Extent::Glob(tail) => {
                matches!(tail.as_slice(), [Component::Recursive, Component::Name(tokens)]
                    if matches!(tokens.as_slice(), [Token::Star]))
            }
        }
    }

    /// What stands at the end of every path that matches a glob: its last component, if that has no
    /// wildcard. `None`: it has one, or there is no glob.
    pub(crate) fn last_name(&self) -> Option<&[u8]> {
        let Extent::Glob(tail) = &self.extent else { return None };
        match tail.last()? {
            Component::Name(tokens) => match tokens.as_slice() {
                [Token::Literal(name)] => Some(name),
                _ => None,
            },
            Component::Recursive => None,
        }
    }

    /// Literal texts with which the last component of every path that matches a glob begins and ends.
    pub(crate) fn last_ends(&self) -> Option<(&[u8], &[u8])> {
        let Extent::Glob(tail) = &self.extent else { return None };
        let Component::Name(tokens) = tail.last()? else { return None };
        fn text(token: Option<&Token>) -> &[u8] {
            match token {
                Some(Token::Literal(text)) => text,
                _ => &[],
            }
        }
        Some((text(tokens.first()), text(tokens.last())))
    }

    /// The longest text that stands in every path that matches a glob.
    pub(crate) fn longest_text(&self) -> Option<&[u8]> {
        let Extent::Glob(tail) = &self.extent else { return None };
        let names = tail.iter().filter_map(|component| match component {
            Component::Name(tokens) => Some(tokens),
            Component::Recursive => None,
        });
        let texts = names.flatten().filter_map(|token| match token {
            Token::Literal(text) => Some(text.as_slice()),
            _ => None,
        });
        texts.max_by_key(|text| text.len())
    }

    /// How many components below the base can match; `None`: any number.
    pub fn depth(&self) -> Option<u32> {
        match &self.extent {
            Extent::Tree => None,
            Extent::Object => Some(0),
            Extent::Glob(tail) if tail.contains(&Component::Recursive) => None,
            Extent::Glob(tail) => Some(u32::try_from(tail.len()).unwrap_or(u32::MAX)),
        }
    }

    /// Whether the absolute, normalised `path` matches.
    pub fn matches(&self, path: &Path) -> bool {
        self.matches_bytes(&super::windows::subject(path))
    }

    pub(super) fn matches_bytes(&self, path: &[u8]) -> bool {
        below(bytes(&self.base), path).is_some_and(|rest| self.matches_below(rest))
    }

    /// Whether what lies at `rest` below the base matches; the base itself when that is empty.
    pub(super) fn matches_below(&self, rest: &[u8]) -> bool {
        match &self.extent {
            Extent::Tree => true,
            Extent::Object => rest.is_empty(),
            Extent::Glob(tail) => !rest.is_empty() && glob::matches(tail, rest),
        }
    }

    /// Whether something below the directory `path` can match.
    pub(super) fn can_match_below(&self, path: &Path) -> bool {
        let (base, path) = (bytes(&self.base), trimmed(path));
        if let Some(rest) = below(path, base)
            && !rest.is_empty()
        {
            return true;
        }
        match (below(base, path), &self.extent) {
            (None, _) | (Some(_), Extent::Object) => false,
            (Some(_), Extent::Tree) => true,
            (Some(rest), Extent::Glob(tail)) => {
                let names: Vec<&[u8]> =
                    rest.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
                glob::can_match_below(tail, &names)
            }
        }
    }

    /// Bytes of literal text at the beginning: the more, the more specific.
    pub(super) fn specificity(&self) -> usize {
        let leading = match &self.extent {
            Extent::Tree | Extent::Object => 0,
            Extent::Glob(tail) => match tail.first() {
                Some(Component::Name(tokens)) => match tokens.first() {
                    Some(Token::Literal(text)) => text.len() + 1,
                    _ => 1,
                },
                _ => 1,
            },
        };
        bytes(&self.base).len() + leading
    }

    /// The pattern with its base resolved and, when the base itself is a symbolic link, one that
    /// matches the link.
    pub(super) fn resolved(&self, canonicalize: &dyn Fn(&Path) -> PathBuf) -> Vec<Self> {
        // The object at the base: only what leads to it is resolved.
        let object = match (self.base.parent(), self.base.file_name()) {
            (Some(parent), Some(name)) => canonicalize(parent).join(name),
            _ => self.base.clone(),
        };
        if self.is_object() {
            return vec![self.with(object, Extent::Object)];
        }
        let target = canonicalize(&self.base);
        let link = (object != target).then(|| self.with(object, Extent::Object));
        std::iter::once(self.at(target)).chain(link).collect()
    }

    /// The same pattern with another base.
    pub(super) fn at(&self, base: PathBuf) -> Self {
        self.with(base, self.extent.clone())
    }

    /// What the same text means elsewhere.
    pub(super) fn with(&self, base: PathBuf, extent: Extent) -> Self {
        Self { source: Arc::clone(&self.source), base, extent, folds_case: self.folds_case }
    }

    /// The same extent: it matches the same, whatever it was written as.
    pub(super) fn same_extent(&self, other: &Self) -> bool {
        self.base == other.base && self.extent == other.extent
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// The bytes of a path. On Unix they are those on disk.
pub(super) fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

/// The bytes of a path without slashes at its end.
pub(super) fn trimmed(path: &Path) -> &[u8] {
    let mut bytes = bytes(path);
    while let [rest @ .., b'/'] = bytes
        && !rest.is_empty()
    {
        bytes = rest;
    }
    bytes
}

/// What remains of `path` below the directory `base`, empty when it is `base`; `None` when it
/// lies elsewhere.
pub(super) fn below<'p>(base: &[u8], path: &'p [u8]) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(base)?;
    match rest {
        [] => Some(rest),
        [b'/', rest @ ..] => Some(rest),
        // The root ends with the slash that the others have after them.
        _ if base == b"/" => Some(rest),
        _ => None,
    }
}
