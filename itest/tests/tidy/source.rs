//! Reading source files: their lines, the code in them without comments and strings, and which
//! of those lines are tests.

use std::fs;
use std::path::{Path, PathBuf};

use fulmen_itest::places;

/// One Rust file.
pub struct Source {
    /// Relative to the workspace.
    pub path: PathBuf,
    /// As it stands.
    pub text: String,
    /// The same lines with comments, strings and characters blanked out.
    pub code: Vec<String>,
    /// For each line, whether it is test code.
    pub is_test: Vec<bool>,
}

/// A function: its name, first line and number of lines.
#[derive(Debug, PartialEq)]
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

impl Source {
    /// All files of the workspace and of the packages beside it.
    pub fn all() -> Vec<Source> {
        files("rs").into_iter().map(|(path, text)| Source::new(path, text)).collect()
    }

    pub fn new(path: PathBuf, text: String) -> Self {
        let code: Vec<String> = blank(&text).lines().map(str::to_owned).collect();
        let is_test = test_lines(&path, &code);
        Source { path, text, code, is_test }
    }

    /// Lines of code with their numbers from 1, and whether they are tests.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str, bool)> {
        let both = self.code.iter().zip(&self.is_test);
        both.enumerate().map(|(at, (line, test))| (at + 1, line.as_str(), *test))
    }

    /// Every function with a body.
    pub fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (at, line) in self.code.iter().enumerate() {
            let Some((before, after)) = line.split_once("fn ") else { continue };
            let word = |c: char| c.is_alphanumeric() || c == '_';
            if before.ends_with(word) || !after.starts_with(word) {
                continue;
            }
            let name = after.split(|c| !word(c)).next().unwrap_or_default();
            if let Some(end) = end_of_block(&self.code[at..]) {
                found.push(Function { name: name.into(), line: at + 1, lines: end + 1 });
            }
        }
        found
    }

    /// `path:line`, for messages.
    pub fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

/// Files of the repository whose name ends in `.ending`, with their text.
pub fn files(ending: &str) -> Vec<(PathBuf, String)> {
    let root = places::workspace();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == ending) {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(&root).unwrap().to_path_buf(), text));
            }
        }
    }
    found.sort();
    found
}

/// The line on which the first `{` closes, or nothing where a `;` comes first.
fn end_of_block(lines: &[String]) -> Option<usize> {
    let (mut depth, mut brackets) = (0_usize, 0_usize);
    for (at, line) in lines.iter().enumerate() {
        for c in line.chars() {
            match c {
                '[' | '(' => brackets += 1,
                ']' | ')' => brackets = brackets.saturating_sub(1),
                ';' if depth == 0 && brackets == 0 => return None,
                '{' => depth += 1,
                '}' if depth == 1 => return Some(at),
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
    None
}

/// Test code: everything in `tests` and `benches` folders and files, and `#[cfg(test)]` blocks.
fn test_lines(path: &Path, code: &[String]) -> Vec<bool> {
    let whole = path.iter().any(|part| {
        let part = part.to_string_lossy();
        part == "tests" || part == "benches" || part.ends_with("tests.rs")
    });
    let mut lines = vec![whole; code.len()];
    for at in 0..code.len() {
        if code[at].trim() == "#[cfg(test)]" {
            let end = end_of_block(&code[at..]).unwrap_or(1);
            lines[at..].iter_mut().take(end + 1).for_each(|line| *line = true);
        }
    }
    lines
}

/// Blanks out comments, strings and characters, keeping the lines.
pub fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = opaque_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    out
}

/// Where the comment, string or character that begins at `at` ends; `at` itself for code.
fn opaque_end(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied().unwrap_or(' ');
    match chars[at] {
        '/' if next == '/' => find(chars, at, "\n"),
        '/' if next == '*' => find(chars, at, "*/") + 2,
        '"' => string_end(chars, at + 1),
        'r' if !follows_word(chars, at) => raw_string_end(chars, at),
        '\'' if next == '\\' => find(chars, at + 3, "'") + 1,
        '\'' if chars.get(at + 2) == Some(&'\'') => at + 3,
        _ => at,
    }
    .min(chars.len())
}

/// Whether the character before belongs to a word; the `b` and `c` of `br""`, `cr""` do not.
fn follows_word(chars: &[char], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|at| chars[at]);
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let prefix = matches!(before(1), Some('b' | 'c')) && !word(before(2));
    word(before(1)) && !prefix
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

fn raw_string_end(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return at;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    find(chars, at + hashes + 2, &close) + 1 + hashes
}

/// Where `what` begins at or after `from`, or the end.
fn find(chars: &[char], from: usize, what: &str) -> usize {
    let what: Vec<char> = what.chars().collect();
    let here = |at: &usize| chars[*at..].starts_with(&what);
    (from..chars.len()).find(here).unwrap_or(chars.len())
}
