//! Finds source files and cuts Rust text into tokens, as far as our checks need it.
//!
//! Comments, strings and characters are dropped, so that a word in one of them is never taken
//! for code. This is not a parser: what it cannot know, the compiler checks anyway.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A piece of Rust text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A name or a keyword.
    Ident(&'a str),
    /// One character of punctuation.
    Punct(char),
    /// A string, a character or a number.
    Literal,
}

/// A token and the line, from 1, that it starts on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spanned<'a> {
    pub(crate) token: Token<'a>,
    pub(crate) line: usize,
}

impl<'a> Spanned<'a> {
    /// Returns whether this is the punctuation character `wanted`.
    pub(crate) fn is(self, wanted: char) -> bool {
        self.token == Token::Punct(wanted)
    }

    /// Returns the name, if this is one.
    pub(crate) fn ident(self) -> Option<&'a str> {
        match self.token {
            Token::Ident(name) => Some(name),
            Token::Punct(_) | Token::Literal => None,
        }
    }
}

/// Returns every file below `folder` with this ending, in order of their names.
///
/// Hidden folders, `target` and `node_modules` are left out; a folder that does not exist is empty.
pub(crate) fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if folder.is_dir() {
        collect(folder, ending, &mut found)?;
    }
    found.sort();
    Ok(found)
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn collect(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || name == "target" || name == "node_modules" {
            continue;
        }
        if path.is_dir() {
            collect(&path, ending, found)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == ending)
        {
            found.push(path);
        }
    }
    Ok(())
}

/// Cuts Rust text into tokens.
pub(crate) fn tokens(text: &str) -> Vec<Spanned<'_>> {
    let mut lexer = Lexer {
        text,
        at: 0,
        line: 1,
    };
    let mut tokens = Vec::new();
    while let Some(spanned) = lexer.next_token() {
        tokens.push(spanned);
    }
    tokens
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Lexer<'a> {
    fn next_token(&mut self) -> Option<Spanned<'a>> {
        self.skip_blank();
        let line = self.line;
        let first = self.peek(0)?;
        let token = if let Some(n_hashes) = self.raw_string() {
            self.end_raw_string(n_hashes);
            Token::Literal
        } else if first.is_alphabetic() || first == '_' {
            self.word()
        } else if first.is_ascii_digit() {
            self.take_while(|c| c.is_alphanumeric() || c == '_');
            Token::Literal
        } else if first == '"' {
            self.end_string('"');
            Token::Literal
        } else if first == '\'' {
            return self.after_quote(line);
        } else {
            self.bump();
            Token::Punct(first)
        };
        Some(Spanned { token, line })
    }

    /// A name, or a string with a letter before it.
    fn word(&mut self) -> Token<'a> {
        let name = self.take_while(|c| c.is_alphanumeric() || c == '_');
        match (name, self.peek(0)) {
            ("b" | "c", Some('"')) => {
                self.end_string('"');
                Token::Literal
            }
            ("b", Some('\'')) => {
                self.end_string('\'');
                Token::Literal
            }
            ("r", Some('#')) => {
                self.bump();
                Token::Ident(self.take_while(|c| c.is_alphanumeric() || c == '_'))
            }
            _ => Token::Ident(name),
        }
    }

    /// A character, or a lifetime, which is dropped.
    fn after_quote(&mut self, line: usize) -> Option<Spanned<'a>> {
        if self.peek(1) == Some('\\') || self.peek(2) == Some('\'') {
            self.end_string('\'');
            return Some(Spanned {
                token: Token::Literal,
                line,
            });
        }
        self.bump();
        self.take_while(|c| c.is_alphanumeric() || c == '_');
        self.next_token()
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            if rest.starts_with("//") {
                self.take_while(|c| c != '\n');
            } else if rest.starts_with("/*") {
                self.skip_block_comment();
            } else if rest.starts_with(char::is_whitespace) {
                self.bump();
            } else {
                return;
            }
        }
    }

    fn skip_block_comment(&mut self) {
        let mut depth = 0_usize;
        while let Some(c) = self.bump() {
            if c == '/' && self.peek(0) == Some('*') {
                self.bump();
                depth += 1;
            } else if c == '*' && self.peek(0) == Some('/') {
                self.bump();
                depth -= 1;
                if depth == 0 {
                    return;
                }
            }
        }
    }

    /// Returns the number of hashes if a raw string starts here.
    fn raw_string(&self) -> Option<usize> {
        let rest = &self.text[self.at..];
        let rest = rest.strip_prefix(['b', 'c']).unwrap_or(rest);
        let rest = rest.strip_prefix('r')?;
        let n_hashes = rest.bytes().take_while(|&byte| byte == b'#').count();
        rest[n_hashes..].starts_with('"').then_some(n_hashes)
    }

    fn end_raw_string(&mut self, n_hashes: usize) {
        let end = format!("\"{}", "#".repeat(n_hashes));
        self.take_while(|c| c != '"');
        self.bump();
        while self.at < self.text.len() && !self.text[self.at..].starts_with(&end) {
            self.bump();
        }
        for _ in 0..end.len() {
            self.bump();
        }
    }

    fn end_string(&mut self, quote: char) {
        self.bump();
        while let Some(c) = self.bump() {
            if c == '\\' {
                self.bump();
            } else if c == quote {
                return;
            }
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let start = self.at;
        while self.peek(0).is_some_and(&wanted) {
            self.bump();
        }
        &self.text[start..self.at]
    }

    fn peek(&self, n: usize) -> Option<char> {
        self.text[self.at..].chars().nth(n)
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += c.len_utf8();
        self.line += usize::from(c == '\n');
        Some(c)
    }
}

/// Returns the ranges of tokens that stand under a `#[cfg(test)]`, attribute included.
pub(crate) fn test_ranges(tokens: &[Spanned<'_>]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let end = attribute_end(tokens, at);
        match end {
            Some(end) if is_cfg_test(&tokens[at..end]) => {
                let item_end = item_end(tokens, end);
                ranges.push(at..item_end);
                at = item_end;
            }
            Some(end) => at = end,
            None => at += 1,
        }
    }
    ranges
}

/// Returns the index after the attribute that starts at `at`, if one does.
pub(crate) fn attribute_end(tokens: &[Spanned<'_>], at: usize) -> Option<usize> {
    let starts = tokens.get(at)?.is('#') && tokens.get(at + 1)?.is('[');
    starts.then(|| closing(tokens, at + 1) + 1)
}

/// Returns the index of the bracket that closes the one at `open`, or the last index.
pub(crate) fn closing(tokens: &[Spanned<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, spanned) in tokens.iter().enumerate().skip(open) {
        match spanned.token {
            Token::Punct('(' | '[' | '{') => depth += 1,
            Token::Punct(')' | ']' | '}') => depth = depth.saturating_sub(1),
            Token::Punct(_) | Token::Ident(_) | Token::Literal => {}
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len().saturating_sub(1)
}

fn is_cfg_test(attribute: &[Spanned<'_>]) -> bool {
    let names: Vec<&str> = attribute.iter().filter_map(|token| token.ident()).collect();
    names.first() == Some(&"cfg") && names.contains(&"test") && !names.contains(&"not")
}

/// Returns the index after the item that starts at `at`: its block, or its semicolon.
fn item_end(tokens: &[Spanned<'_>], mut at: usize) -> usize {
    while let Some(end) = attribute_end(tokens, at) {
        at = end;
    }
    while let Some(spanned) = tokens.get(at) {
        match spanned.token {
            Token::Punct(';') => return at + 1,
            // Braces of `use a::{b}` end with a semicolon, those of a body with themselves.
            Token::Punct('{') => {
                let end = closing(tokens, at) + 1;
                let more = tokens.get(end).is_some_and(|next| next.is(';'));
                return end + usize::from(more);
            }
            Token::Punct('(' | '[') => at = closing(tokens, at) + 1,
            Token::Punct(_) | Token::Ident(_) | Token::Literal => at += 1,
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<&str> {
        tokens(text)
            .iter()
            .filter_map(|token| token.ident())
            .collect()
    }

    #[test]
    fn comments_strings_characters_and_lifetimes_are_no_names() {
        let text = r##"
            // crate::a
            /* crate /* nested */ b */
            fn f<'life>(x: &'life str) -> char { let _ = "crate::c \" d"; let _ = r#"e "f" g"#; '"' }
            const B: &[u8] = b"h"; const C: u8 = b'\''; r#type
        "##;
        let expected = [
            "fn", "f", "x", "str", "char", "let", "_", "let", "_", "const", "B", "u8", "const",
            "C", "u8", "type",
        ];
        assert_eq!(names(text), expected);
    }

    #[test]
    fn lines_are_counted_through_everything_that_is_dropped() {
        let text = "/*\n*/ \"\n\" r#\"\n\"#\nlast";
        let tokens = tokens(text);
        assert_eq!(tokens.last().map(|token| token.line), Some(5));
    }

    #[test]
    fn test_code_is_found_with_its_attribute() {
        let text = "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests { fn b() { [1; 2]; } }\nfn c() {}\n\
                    #[cfg(test)] use x::{y, z};\n#[cfg(not(test))] fn d() {}\n#[cfg(test)] mod e;";
        let tokens = tokens(text);
        let kept: Vec<&str> = {
            let ranges = test_ranges(&tokens);
            (0..tokens.len())
                .filter(|index| !ranges.iter().any(|range| range.contains(index)))
                .filter_map(|index| tokens[index].ident())
                .collect()
        };
        assert_eq!(
            kept,
            ["fn", "a", "fn", "c", "cfg", "not", "test", "fn", "d"]
        );
    }
}
