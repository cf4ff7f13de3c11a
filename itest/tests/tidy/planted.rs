//! Faults planted in made-up files: each rule must see its own, and nothing in good code.

use super::source::{blank, Function, Source};
use super::{layering, reach, shape};

fn file(path: &str, text: &str) -> Source {
    Source::new(path.into(), text.into())
}

#[test]
fn good_code_passes() {
    let good = r##"//! A caption that may say unwrap() and todo!.
use crate::amount::Msat;

/// Says "it's" and r#"raw"#.
fn name<'a>(text: &'a str) -> char {
    let _ = ("todo!() \" .unwrap()", r#"dbg!(") "#, '"', '\'', b'{', br"{");
    /* .expect( */
    text.chars().next().unwrap_or('}')
}

#[cfg(test)]
mod tests {
    use crate::protocol::Opening;
    fn f() {
        g().unwrap();
    }
}
"##;
    let good = file("channel/src/contract/htlc.rs", good);
    assert_eq!(shape::sizes(&good), [""; 0]);
    assert_eq!(shape::words(&good), [""; 0]);
    assert_eq!(layering::channel(&good), [""; 0]);
    let function = |name: &str, line, lines| Function { name: name.into(), line, lines };
    assert_eq!(good.functions(), [function("name", 5, 5), function("f", 14, 3)]);
}

#[test]
fn blanking_keeps_code_and_lines() {
    assert_eq!(blank("a // b\n\"c\nd\" e"), "a     \n  \n   e");
    assert_eq!(blank("for 'x: &'static r#type /* { */ '{'"), "for 'x: &'static r#type            ");
}

#[test]
fn sizes_are_seen() {
    let long = format!("// no caption\nfn f() {{\n{}}}\n", "    g();\n".repeat(700));
    let wrong = shape::sizes(&file("a/src/lib.rs", &long));
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    let wide = format!("//! c\n// {}\n", "é".repeat(98));
    assert_eq!(
        shape::sizes(&file("a/src/lib.rs", &wide)),
        ["a/src/lib.rs:2: 101 columns, more than 100"]
    );
    let enough = format!("//! c\nfn f(a: [u8; 3]) {{\n{}}}\n", "    g();\n".repeat(68));
    assert_eq!(shape::sizes(&file("a/src/lib.rs", &enough)), [""; 0]);
}

#[test]
fn words_are_seen() {
    let words = |path, line: &str| shape::words(&file(path, &format!("//! c\n{line}\n"))).len();
    for line in ["x.unwrap();", "todo!()", "unimplemented!()", "#[allow(a)]", "#![allow(a)]"] {
        assert_eq!(words("node/src/peer.rs", line), 1, "{line}");
    }
    for line in ["std::thread::sleep(d)", "tokio::time::sleep(d)", "#[ignore]", "todo!()"] {
        assert_eq!(words("node/tests/peer.rs", line), 1, "{line}");
    }
    assert_eq!(words("node/tests/peer.rs", "x.unwrap();"), 0);
    assert_eq!(words("node/src/peer.rs", "#[allow(a, reason = \"b\")]"), 0);
    assert_eq!(words("node/src/peer.rs", "#[allow(clippy::expect_used)]"), 0);
    assert_eq!(words("node/src/peer.rs", "// Checked above.\n#[allow(a)]"), 0);
}

#[test]
fn arrows_up_are_seen() {
    let wrong = |path, line: &str| layering::channel(&file(path, line)).len();
    assert_eq!(wrong("channel/src/contract/htlc.rs", "use crate::protocol::Opening;"), 1);
    assert_eq!(wrong("channel/src/keys/derive.rs", "use crate::{amount::Msat, script};"), 1);
    assert_eq!(wrong("channel/src/script/anchor.rs", "fn f(t: crate::transactions::Tx) {}"), 1);
    assert_eq!(wrong("channel/src/onchain/identify.rs", "use crate::protocol::Opening;"), 1);
    assert_eq!(wrong("channel/src/protocol/failing.rs", "use crate::onchain::identify;"), 0);
    assert_eq!(wrong("channel/src/strange.rs", ""), 1);
    assert_eq!(wrong("channel/src/amount.rs", "use std::collections::HashMap;"), 1);
    assert_eq!(wrong("channel/src/protocol/opening.rs", "use crate::{contract, keys};"), 0);
    assert_eq!(wrong("node/src/main.rs", "use crate::protocol::Opening;"), 0);
}

#[test]
fn lost_files_are_seen() {
    let sources = [
        file("a/src/lib.rs", "pub mod one;\nmod two;\n#[path = \"three_tests.rs\"]\nmod t;"),
        file("a/src/one.rs", "mod deep;"),
        file("a/src/one/deep.rs", ""),
        file("a/src/two/mod.rs", "// mod lost;"),
        file("a/src/three_tests.rs", ""),
        file("a/src/two/lost.rs", ""),
        file("a/tests/lost.rs", ""),
    ];
    assert_eq!(
        reach::unreached(&sources),
        ["a/src/two/lost.rs: no mod leads here", "a/tests/lost.rs: no mod leads here"]
    );
}
