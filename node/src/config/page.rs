//! The page `docs/configuration.md`, made of the table of flags.

use super::flags::{Flag, Kind, FLAGS, NOT_BUILT, SHORT};

const HEAD: &str = "\
# Configuration

<!-- Made of node/src/config by a test; see its end for how to make it again. -->

fulmend takes lnd's flags for what it has: on the command line as `--NAME=VALUE`, `--NAME VALUE`,
or `--NAME` for a switch; in the configuration file as `NAME=VALUE`. The command line wins; a list
given there replaces the file's. A flag that fulmend does not have is refused by name, in the file
with its line.

## The file

`fulmen.conf` in `--fulmendir` is read if it is there; `--configfile` names another, which must be
there. It is written as lnd.conf: `[sections]` are for the reader, comments begin with `;` or `#`,
switches take `1`, `true`, `0` or `false`.

```ini
";

/// A file that fulmend takes.
pub const SAMPLE: &str = "\
[Application Options]
alias=lightning strikes
; for peers: every interface
listen=:9735
; for clients: this machine only
rpclisten=localhost:10009
debuglevel=info,PEER=debug

[Bitcoin]
bitcoin.active=1
bitcoin.signet=1
bitcoin.node=bitcoind

[Bitcoind]
bitcoind.rpchost=127.0.0.1:38332
bitcoind.rpccookie=~/.bitcoin/signet/.cookie
; as in bitcoin.conf
bitcoind.zmqpubrawblock=tcp://127.0.0.1:28332
bitcoind.zmqpubrawtx=tcp://127.0.0.1:28333
";

const TAIL: &str = "
## Environment

| variable | what for |
|---|---|
| `HOME` | what `~` stands for in paths, and where `~/.fulmen` is |

fulmend reads no other variable. bitcoin.conf is not read: give `--bitcoind.…`.

## This page

The test `configuration_page_is_up_to_date` compares it with the code. After a change of flags, make
it again with

    UPDATE=1 cargo test -p fulmen-node --test main configuration_page
";

/// The page.
pub fn page() -> String {
    let mut page = format!("{HEAD}{SAMPLE}```\n");
    let mut sections: Vec<&str> = Vec::new();
    for flag in FLAGS {
        if !sections.contains(&section(flag)) {
            sections.push(section(flag));
        }
    }
    for name in sections {
        let title = if name.is_empty() { "Application Options" } else { name };
        page.push_str(&format!("\n## {title}\n\n| flag | default | meaning |\n|---|---|---|\n"));
        for flag in FLAGS.iter().filter(|flag| section(flag) == name) {
            page.push_str(&row(flag));
        }
    }
    page.push_str("\n## Of lnd, but not built\n\nRefused by name:\n\n");
    for (name, what) in NOT_BUILT {
        page.push_str(&format!("- `--{name}`: {what}\n"));
    }
    page.push_str(TAIL);
    page
}

/// lnd's section: what stands before the dot.
fn section(flag: &Flag) -> &'static str {
    flag.name.split_once('.').map_or("", |(section, _)| section)
}

fn row(flag: &Flag) -> String {
    let value = if flag.kind == Kind::Switch { "" } else { "=" };
    let short = SHORT.iter().find(|(_, long)| *long == flag.name);
    let short = short.map(|(short, _)| format!(", `-{short}`")).unwrap_or_default();
    let default = match (flag.default, flag.kind) {
        ("", Kind::Switch) => "off".into(),
        ("true", Kind::Switch) => "on".into(),
        ("", _) => String::new(),
        (default, _) => format!("`{default}`"),
    };
    let again = if flag.kind == Kind::List { "; may be repeated" } else { "" };
    let help = flag.help.replace('|', "\\|");
    format!("| `--{}{value}`{short} | {default} | {help}{again} |\n", flag.name)
}
