//! docs/walkthrough.md, command by command: what the page says is typed here, and what it shows
//! has to come.

mod page;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

use fulmen_itest::bitcoind::Bitcoind;
use fulmen_itest::build;
use fulmen_itest::failure::{Context, Failure, Result};
use fulmen_itest::places;
use fulmen_itest::port::Port;
use fulmen_itest::process::Process;
use fulmen_itest::wait::{self, PATIENCE};
use page::{fits, json, steps, Step};
use tempfile::TempDir;

const PASSWORD: &str = "moonshine";

/// Commands that change nothing are asked again until the page comes true.
const ASKS: [&str; 6] = ["get", "list", "lookup", "pending", "closed", "decode"];

/// One run through the page.
struct Walk {
    bitcoind: Bitcoind,
    aliases: BTreeMap<String, String>,
    /// The page's values and this run's.
    known: Vec<(String, String)>,
    daemons: Vec<Process>,
    _ports: Vec<Port>,
    folder: TempDir,
}

#[test]
fn the_page_is_true() -> Result<()> {
    let text = std::fs::read_to_string(places::workspace().join("docs/walkthrough.md"))?;
    let steps = steps(&text);
    assert!(steps.len() > 30, "the page has lost its commands");
    let mut walk = Walk::start()?;
    for step in &steps {
        walk.take(step).context(format!("$ {}", step.typed))?;
    }
    assert_eq!(walk.daemons.len(), 2);
    Ok(())
}

impl Walk {
    fn start() -> Result<Self> {
        let bitcoind = Bitcoind::start()?;
        bitcoind.mine(101)?;
        let folder = places::temporary("walkthrough")?;
        let mut known = vec![
            ("127.0.0.1:18443".to_owned(), bitcoind.rpc_address()),
            ("tcp://127.0.0.1:28332".to_owned(), bitcoind.zmq_block()),
            ("tcp://127.0.0.1:28333".to_owned(), bitcoind.zmq_tx()),
            ("/tmp/walk".to_owned(), folder.path().display().to_string()),
        ];
        let mut ports = Vec::new();
        for address in ["127.0.0.1:9735", "127.0.0.1:9736", "127.0.0.1:10009", "127.0.0.1:10010"] {
            let port = Port::free()?;
            known.push((address.to_owned(), port.address()));
            ports.push(port);
        }
        let (aliases, daemons) = (BTreeMap::new(), Vec::new());
        Ok(Walk { bitcoind, aliases, known, daemons, _ports: ports, folder })
    }

    fn take(&mut self, step: &Step) -> Result<()> {
        let typed = self.translated(&step.typed);
        if typed.starts_with("mine") {
            let waits = || Ok((!self.bitcoind.mempool()?.is_empty()).then_some(()));
            wait::until("what is to be mined waits", PATIENCE, waits)?;
        }
        if step.at_bitcoind {
            let said = self.bitcoind.obeys(&typed)?;
            return self.learn_words(&step.shown, &said);
        }
        if let Some((name, words)) = typed.strip_prefix("alias ").and_then(|a| a.split_once('=')) {
            self.aliases.insert(name.to_owned(), words.trim_matches('\'').to_owned());
            return Ok(());
        }
        let (first, rest) = typed.split_once(' ').unwrap_or((&typed, ""));
        let line = match self.aliases.get(first) {
            Some(words) => format!("{words} {rest}"),
            None => typed.clone(),
        };
        match line.split_once(' ').context("a command")? {
            ("fulmend", flags) => self.starts_daemon(flags),
            ("fulmen-cli", words) => self.asks(words, rest, &step.shown),
            (other, _) => Err(Failure::new(format!("the page may not type {other}"))),
        }
    }

    /// With this run's values in place of the page's.
    fn translated(&self, text: &str) -> String {
        self.known.iter().fold(text.to_owned(), |text, (page, real)| text.replace(page, real))
    }

    /// `txid …`, told in words.
    fn learn_words(&mut self, shown: &str, said: &str) -> Result<()> {
        let (shown, said): (Vec<_>, Vec<_>) =
            (shown.split_whitespace().collect(), said.split_whitespace().collect());
        if shown.len() != said.len() || shown.first() != said.first() {
            return Err(Failure::new(format!("the page shows {shown:?}, bitcoind says {said:?}")));
        }
        let pairs = shown.into_iter().zip(said).filter(|(shown, said)| shown != said);
        self.known.extend(pairs.map(|(shown, said)| (shown.to_owned(), said.to_owned())));
        Ok(())
    }

    fn starts_daemon(&mut self, flags: &str) -> Result<()> {
        let number = self.daemons.len();
        let output = File::create(self.folder.path().join(format!("output{number}")))?;
        let mut command = Command::new(build::fulmend()?);
        command.args(flags.split_whitespace()).stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        self.daemons.push(Process::spawn("fulmend", command)?);
        let dir = flags.split_whitespace().find_map(|flag| flag.strip_prefix("--fulmendir="));
        let rpc = flags.split_whitespace().find_map(|flag| flag.strip_prefix("--rpclisten="));
        let (dir, rpc) = (dir.context("--fulmendir")?, rpc.context("--rpclisten")?);
        let state = format!("--network=regtest --fulmendir={dir} --rpcserver={rpc} state");
        wait::until("the daemon answers", PATIENCE, || Ok(run(&state, "")?.ok()))?;
        Ok(())
    }

    fn asks(&mut self, words: &str, command: &str, shown: &str) -> Result<()> {
        let shown = self.translated(shown);
        let typed = match command.split_whitespace().next() {
            Some("create") => format!("{PASSWORD}\n{PASSWORD}\nn\n"),
            Some("unlock") => format!("{PASSWORD}\n"),
            _ if shown.contains("(yes/no): yes") => "yes\n".to_owned(),
            _ => String::new(),
        };
        let Some(expected) = json(&shown) else {
            let said = run(words, &typed)?.map_err(Failure::new)?;
            // without --format it would be JSON here, since this is no terminal
            let is_table = command.contains("--format=table");
            return match columns(&shown).filter(|_| is_table) {
                Some(columns_shown) if Some(&columns_shown) != columns(&said).as_ref() => {
                    Err(Failure::new(format!("it prints\n{said}")))
                }
                _ => Ok(()),
            };
        };
        let once =
            !ASKS.iter().any(|verb| command.starts_with(verb)) && !command.contains("balance");
        let mut wrong = String::new();
        let mut once_more = || -> Result<Option<Vec<(String, String)>>> {
            let said = match run(words, &typed)? {
                Ok(said) => said,
                Err(refused) if once => return Err(Failure::new(refused)),
                Err(refused) => {
                    wrong = refused;
                    return Ok(None);
                }
            };
            let real = serde_json::from_str(&said).context(&said)?;
            let mut learned = Vec::new();
            match fits(&expected, &real, &mut learned) {
                Ok(()) => Ok(Some(learned)),
                Err(other) if once => Err(Failure::new(format!("{other}\n{said}"))),
                Err(other) => {
                    wrong = format!("{other}\n{said}");
                    Ok(None)
                }
            }
        };
        let learned = wait::until("the page comes true", PATIENCE, &mut once_more);
        self.known.extend(learned.map_err(|late| Failure::new(format!("{late}: {wrong}")))?);
        Ok(())
    }
}

/// The headers of a table; none if `text` starts with something else.
fn columns(text: &str) -> Option<Vec<String>> {
    let header = text.lines().next()?;
    let is_header = header.contains("  ") && !header.contains(char::is_lowercase);
    is_header.then(|| header.split_whitespace().map(str::to_owned).collect())
}

/// What fulmen-cli prints, or its error.
fn run(words: &str, typed: &str) -> Result<std::result::Result<String, String>> {
    let mut command = Command::new(build::fulmen_cli()?);
    command.args(words.split_whitespace());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("stdin")?;
    let _ = stdin.write_all(typed.as_bytes()); // it may have ended without reading
    drop(stdin);
    let output = child.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(Ok(text(&output.stdout))),
        false => Ok(Err(text(&output.stderr))),
    }
}
