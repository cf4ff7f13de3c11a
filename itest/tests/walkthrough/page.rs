//! Reads the page: what is typed, and what it says comes of it.

use serde_json::Value;

/// Something typed, and what the page shows below it.
#[derive(Debug)]
pub struct Step {
    /// In the terminal of `cargo bitcoind start`, not in the shell.
    pub at_bitcoind: bool,
    /// One line; continued lines are joined.
    pub typed: String,
    /// As the page shows it.
    pub shown: String,
}

/// The steps in the page's `console` blocks: `$` is the shell, `>` is bitcoind's terminal.
pub fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    let mut continued = false;
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
            continue;
        }
        if !inside {
            continue;
        }
        let prompt = line.strip_prefix("$ ").map(|typed| (false, typed));
        let prompt = prompt.or(line.strip_prefix("> ").map(|typed| (true, typed)));
        if let Some(step) = steps.last_mut().filter(|_| continued) {
            step.typed.push_str(line.trim().trim_end_matches('\\'));
        } else if let Some((at_bitcoind, typed)) = prompt {
            let typed = typed.trim_end_matches('\\').to_owned();
            steps.push(Step { at_bitcoind, typed, shown: String::new() });
        } else if let Some(step) = steps.last_mut() {
            step.shown.push_str(line);
            step.shown.push('\n');
        }
        continued = line.ends_with('\\');
    }
    steps
}

/// The JSON that is shown, its left out lines (`…`) taken out; none if it shows something else.
pub fn json(shown: &str) -> Option<Value> {
    let kept: Vec<&str> = shown.lines().filter(|line| line.trim() != "…").collect();
    let mut text = String::new();
    for (line, next) in kept.iter().zip(kept.iter().skip(1).chain([&""])) {
        let last = next.trim_start().starts_with([']', '}']);
        text.push_str(if last { line.trim_end_matches(',') } else { line });
        text.push('\n');
    }
    serde_json::from_str(&text).ok().filter(|value: &Value| !value.is_null())
}

/// Values of this length and above may differ from run to run: keys, hashes, times, addresses.
const VARIES: usize = 9;

/// Whether `real` has all that the page shows. What differs lawfully is learned: the page's value
/// and this run's.
pub fn fits(page: &Value, real: &Value, learned: &mut Vec<(String, String)>) -> Result<(), String> {
    match (page, real) {
        (Value::Object(page), Value::Object(real)) => page.iter().try_for_each(|(key, value)| {
            let real = real.get(key).ok_or_else(|| format!("{key} is missing"))?;
            fits(value, real, learned).map_err(|wrong| format!("{key}: {wrong}"))
        }),
        (Value::Array(page), Value::Array(real)) if page.len() == real.len() => {
            page.iter().zip(real).try_for_each(|(page, real)| fits(page, real, learned))
        }
        (Value::String(page), Value::String(real)) if page != real && page.len() >= VARIES => {
            learned.push((page.clone(), real.clone()));
            Ok(())
        }
        _ if page == real => Ok(()),
        _ => Err(format!("the page shows {page}, the daemon {real}")),
    }
}

#[test]
fn a_page_is_read() {
    let page = "# A\n```console\n$ one \\\n      two\n{\n    \"a\": 1,\n    …\n}\n> mine 6\n```\n\
                ```text\n$ not this\n```\n```console\n$ three\n```\n";
    let steps = steps(page);
    let typed: Vec<_> = steps.iter().map(|step| (step.at_bitcoind, step.typed.as_str())).collect();
    assert_eq!(typed, [(false, "one two"), (true, "mine 6"), (false, "three")]);
    assert_eq!(json(&steps[0].shown), Some(serde_json::json!({"a": 1})));
    assert_eq!(json(&steps[1].shown), None);
}

#[test]
fn what_differs_is_seen_or_learned() {
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let page = value(r#"{"a": [{"amount": "5", "txid": "0123456789"}], "yes": true}"#);
    let real = r#"{"b": 1, "a": [{"amount": "5", "txid": "abcdefghij"}], "yes": true}"#;
    let mut learned = Vec::new();
    assert_eq!(fits(&page, &value(real), &mut learned), Ok(()));
    assert_eq!(learned, [("0123456789".to_owned(), "abcdefghij".to_owned())]);
    for (was, is) in [("\"5\"", "\"6\""), ("true", "false"), ("\"a\"", "\"c\""), ("}]", "}, {}]")] {
        let other = value(&real.replace(was, is));
        assert!(fits(&page, &other, &mut learned).is_err(), "{was} {is}");
    }
}
