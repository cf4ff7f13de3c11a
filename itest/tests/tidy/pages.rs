//! The documentation: every page is in the summary, and no link or command in it is dead.

use std::collections::BTreeSet;
use std::path::Path;

use fulmen_itest::places;

use super::source::files;

/// Relative links of all pages that lead nowhere, and pages that the summary leaves out.
pub fn dead_links() -> Vec<String> {
    let mut wrong = Vec::new();
    let mut summary = BTreeSet::new();
    let pages = files("md");
    for (page, text) in &pages {
        let folder = page.parent().unwrap_or(Path::new(""));
        for link in links(text).filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let to = folder.join(link.split('#').next().unwrap_or_default());
            if !places::workspace().join(&to).exists() {
                wrong.push(format!("{}: the link to {link} is dead", page.display()));
            }
            if page.ends_with("docs/SUMMARY.md") {
                summary.insert(to);
            }
        }
    }
    let in_book = pages.iter().filter(|(page, _)| page.starts_with("docs"));
    for (page, _) in in_book.filter(|(page, _)| !page.ends_with("SUMMARY.md")) {
        if !summary.contains(page) {
            wrong.push(format!("{}: not in docs/SUMMARY.md", page.display()));
        }
    }
    wrong
}

/// `cargo WORD` lines of the pages whose word is neither cargo's own nor an alias.
pub fn unknown_commands() -> Vec<String> {
    let aliases = std::fs::read_to_string(places::workspace().join(".cargo/config.toml")).unwrap();
    let mut wrong = Vec::new();
    for (page, text) in files("md") {
        for line in text.lines().filter_map(|line| line.strip_prefix("    cargo ")) {
            let word = line.split_whitespace().next().unwrap_or_default();
            let alias = aliases.lines().any(|line| line.starts_with(&format!("{word} = ")));
            if !alias && !["test", "bench", "build", "run", "install"].contains(&word) {
                wrong.push(format!("{}: there is no cargo {word}", page.display()));
            }
        }
    }
    wrong
}

/// Files and folders of ours that the pages name and that are not there.
pub fn missing_files() -> Vec<String> {
    let mut wrong = Vec::new();
    for (page, text) in files("md") {
        for path in paths(&text).filter(|path| !places::workspace().join(path).exists()) {
            wrong.push(format!("{}: there is no {path}", page.display()));
        }
    }
    wrong
}

/// Words that start with one of our packages' folders and go on to its code or to a file.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    const FOLDERS: [&str; 7] =
        ["channel/", "node/", "cli/", "proto/", "watchtower/", "itest/", "docs/"];
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c)));
    let ours = words.filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)));
    let ours = ours.map(|word| word.trim_end_matches(['.', '/', '-']));
    ours.filter(|path| path.contains("/src") || path.contains("/tests") || path.contains('.'))
}

#[test]
fn paths_are_seen() {
    let found: Vec<&str> =
        paths("`node/src/a.rs`, cli/tests/. /x/node/src |itest/z.md| node/wallet").collect();
    assert_eq!(found, ["node/src/a.rs", "cli/tests", "itest/z.md"]);
}

/// The targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[test]
fn links_are_seen() {
    let found: Vec<&str> = links("a [b](c.md) and [d](e/f.md#g), (no) [no]").collect();
    assert_eq!(found, ["c.md", "e/f.md#g"]);
}
