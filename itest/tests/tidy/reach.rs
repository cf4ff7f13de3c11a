//! Every Rust file is part of some target: a `mod` leads to it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::source::Source;

/// Files that no `mod` leads to, given all files.
pub fn unreached(sources: &[Source]) -> Vec<String> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Source> = sources.iter().filter(|source| is_root(&source.path)).collect();
    while let Some(source) = next.pop() {
        if reached.insert(&source.path) {
            let modules = modules(source);
            next.extend(sources.iter().filter(|other| modules.contains(&other.path)));
        }
    }
    let lost = sources.iter().filter(|source| !reached.contains(&source.path));
    lost.map(|source| format!("{}: no mod leads here", source.path.display())).collect()
}

/// What cargo compiles by itself: lib.rs, main.rs, bin/*.rs, tests/main.rs, benches, build.rs.
fn is_root(path: &Path) -> bool {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = name(path.parent().unwrap_or(path));
    match name(path).as_str() {
        "build.rs" => true,
        "lib.rs" | "main.rs" => folder == "src" || folder == "tests",
        _ => folder == "bin" || folder == "benches" || folder == "examples",
    }
}

/// The paths that a file's `mod name;` lines may mean.
fn modules(source: &Source) -> BTreeSet<PathBuf> {
    let folder = source.path.parent().unwrap_or(Path::new(""));
    let stem = source.path.file_stem().unwrap_or_default().to_string_lossy();
    let owns_its_folder = stem == "mod" || is_root(&source.path);
    let base = if owns_its_folder { folder.to_path_buf() } else { folder.join(&*stem) };
    let mut paths = BTreeSet::new();
    // Paths are strings, which the code is without.
    for line in source.text.lines() {
        let path = line.trim().strip_prefix("#[path = \"").and_then(|path| path.split('"').next());
        paths.extend(path.map(|path| folder.join(path)));
    }
    for line in &source.code {
        let Some((_, rest)) = line.split_once("mod ") else { continue };
        let Some(name) = rest.trim().strip_suffix(';') else { continue };
        paths.insert(base.join(format!("{name}.rs")));
        paths.insert(base.join(name).join("mod.rs"));
    }
    paths
}
