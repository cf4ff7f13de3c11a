//! Arrows go down only: between the packages, and between the folders of `channel`.

use super::source::{files, Source};

/// Which of our packages a package may build on (tests aside).
const PACKAGES: [(&str, &[&str]); 6] = [
    ("fulmen-channel", &[]),
    ("fulmen-proto", &[]),
    ("fulmen-watchtower", &["fulmen-channel"]),
    ("fulmen-node", &["fulmen-channel", "fulmen-proto", "fulmen-watchtower"]),
    ("fulmen-cli", &["fulmen-channel", "fulmen-proto"]),
    ("fulmen-itest", &["fulmen-channel", "fulmen-proto", "fulmen-watchtower", "fulmen-node"]),
];

/// What `channel` may use from outside: types and codecs, nothing that touches the world.
const CHANNEL_USES: [&str; 6] =
    ["bitcoin", "lightning", "lightning-types", "postcard", "serde", "thiserror"];

/// Names that mean time, disk, network, threads, chance or an order that changes between runs.
const IMPURE: [&str; 9] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::time",
    "std::env",
    "SystemTime",
    "HashMap",
    "HashSet",
    "thread_rng",
];

/// `channel`'s modules from the bottom up. A module uses its own and lower rows only.
const CHANNEL: [&[&str]; 9] = [
    &["amount", "error", "message", "params", "payment"],
    &["keys"],
    &["script"],
    &["transactions"],
    &["changeset", "contract"],
    &["input", "outbox", "output"],
    &["onchain"],
    &["protocol"],
    &["channel"],
];

/// Packages that build on what lies above them, and test files that cargo would build twice.
pub fn packages() -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, text) in files("toml") {
        let Some(name) = quoted_after(&text, "\nname = ") else { continue };
        let known = PACKAGES.iter().find(|(package, _)| *package == name);
        let (Some((_, below)), true) = (known, path.ends_with("Cargo.toml")) else { continue };
        for used in dependencies(&text) {
            let ours = used.starts_with("fulmen-");
            let pure = name != "fulmen-channel" || CHANNEL_USES.contains(&used.as_str());
            if (ours && !below.contains(&used.as_str())) || !pure {
                wrong.push(format!("{}: {name} may not build on {used}", path.display()));
            }
        }
        if text.contains("[[test]]") && !text.contains("autotests = false") {
            wrong.push(format!("{}: say autotests = false beside [[test]]", path.display()));
        }
    }
    wrong
}

/// Names under `[dependencies]` and `[build-dependencies]`; dev-dependencies are free.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut counts = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            counts = line == "[dependencies]" || line == "[build-dependencies]";
        } else if counts {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            names.extend(Some(name.to_owned()).filter(|name| !name.is_empty()));
        }
    }
    names
}

fn quoted_after<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split('"').nth(1)
}

/// What a file of `channel` uses that lies above it, or that is not pure.
pub fn channel(source: &Source) -> Vec<String> {
    let Ok(inside) = source.path.strip_prefix("channel/src") else { return Vec::new() };
    let first = inside.iter().next().unwrap_or_default().to_string_lossy();
    let module = first.trim_end_matches(".rs");
    let mut wrong = Vec::new();
    let own = row(module);
    if own.is_none() && module != "lib" {
        wrong.push(format!("{}: which layer is {module}? see CHANNEL", source.path.display()));
    }
    for (number, line, _) in source.lines().filter(|(_, _, is_test)| !is_test) {
        for name in IMPURE.iter().filter(|name| line.contains(**name)) {
            wrong.push(format!("{}: `{name}` in the pure part", source.at(number)));
        }
    }
    for (number, used) in uses(source).into_iter().filter(|_| module != "lib") {
        if row(&used).is_some_and(|row| own.is_some_and(|own| row > own)) {
            wrong.push(format!("{}: {module} may not use {used}", source.at(number)));
        }
    }
    wrong
}

fn row(module: &str) -> Option<usize> {
    CHANNEL.iter().position(|row| row.contains(&module))
}

/// The modules named in `crate::module` and `crate::{module::…, module}`, outside tests.
fn uses(source: &Source) -> Vec<(usize, String)> {
    let text: String = source
        .lines()
        .map(|(_, line, is_test)| if is_test { "\n".into() } else { format!("{line}\n") })
        .collect();
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let number = text[..at].lines().count().max(1);
        match rest.strip_prefix('{') {
            None => found.push((number, word(rest))),
            Some(group) => found.extend(top_names(group).into_iter().map(|name| (number, name))),
        }
    }
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first name of each item of a use group, up to its closing brace.
fn top_names(group: &str) -> Vec<String> {
    let (mut depth, mut item, mut names) = (0, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => names.push(word(std::mem::take(&mut item).trim())),
            '{' => depth += 1,
            '}' => depth -= 1,
            _ if depth == 0 => item.push(c),
            _ => {}
        }
    }
    names.push(word(item.trim()));
    names.retain(|name| !name.is_empty());
    names
}
