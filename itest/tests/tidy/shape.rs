//! The shape of a file: how long, how wide, with a caption, and without certain words.

use super::source::Source;

const FILE: usize = 600;
const FUNCTION: usize = 70;
const COLUMNS: usize = 100;

/// Words that may stand nowhere.
const NOWHERE: [&str; 4] = ["todo!", "unimplemented!", "dbg!", "#[ignore"];
/// Words that may stand in tests only. An `expect` clippy keeps out where no allow stands above.
const TESTS_ONLY: [&str; 2] = [".unwrap()", ".unwrap_err()"];
/// Words that may not stand in tests: they wait for events.
const NOT_IN_TESTS: [&str; 2] = ["thread::sleep", "time::sleep"];

/// A file's caption, length and width, and its functions' length.
pub fn sizes(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE {
        wrong.push(format!("{}: {lines} lines, more than {FILE}", source.path.display()));
    }
    if !source.text.starts_with("//! ") {
        wrong.push(format!("{}: the first line is no `//!` caption", source.path.display()));
    }
    for (at, line) in source.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS {
            let place = source.at(at + 1);
            wrong.push(format!("{place}: {columns} columns, more than {COLUMNS}"));
        }
    }
    for function in source.functions() {
        if function.lines > FUNCTION {
            let (place, name) = (source.at(function.line), function.name);
            wrong.push(format!("{place}: {name} has {} lines, over {FUNCTION}", function.lines));
        }
    }
    wrong
}

/// Words that stand where they may not.
pub fn words(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, line, is_test) in source.lines() {
        let here: &[&str] = if is_test { &NOT_IN_TESTS } else { &TESTS_ONLY };
        for word in NOWHERE.iter().chain(here).filter(|word| line.contains(**word)) {
            wrong.push(format!("{}: `{word}` may not stand here", source.at(number)));
        }
        let allows = line.contains("#[allow(") || line.contains("#![allow(");
        if !is_test && allows && !says_why(source, number) {
            wrong.push(format!("{}: an allow without its reason", source.at(number)));
        }
    }
    wrong
}

/// An allow says why: in its `reason`, in a comment on the line or above it, or, for an `expect`,
/// in the words that the expect itself holds.
fn says_why(source: &Source, number: usize) -> bool {
    let mut lines = source.text.lines().skip(number.saturating_sub(2));
    let above = if number > 1 { lines.next().unwrap_or_default() } else { "" };
    let attribute: String = lines.take(8).collect::<Vec<_>>().join("\n");
    let attribute = attribute.split(']').next().unwrap_or_default();
    above.trim_start().starts_with("// ")
        || above.trim_start().starts_with("/// ")
        || source.text.lines().nth(number - 1).is_some_and(|line| line.contains("//"))
        || attribute.trim() == "#[allow(clippy::expect_used)"
        || attribute.contains("reason = ")
}
