//! Before the node runs: create, unlock, changepassword, state. None of them shows a macaroon.

use super::backups::AtCreation;
use crate::connect::{home, Node};
use crate::error::CliError;
use crate::parse::hex_bytes;
use crate::print::line;
use crate::terminal::{ask, ask_hidden, read_line};
use clap::Args;
use fulmen_proto::lnrpc::{
    ChangePasswordRequest, GenSeedRequest, InitWalletRequest, SubscribeStateRequest,
    SubscribeStateResponse, UnlockWalletRequest, WalletState,
};

/// Addresses in a row that may be unused before a search in old blocks ends, unless said.
const LOOK_AHEAD: i32 = 2500;
const SEED_WORDS: usize = 24;
const SHORTEST_PASSWORD: usize = 8;

/// create
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct Create {
    /// Write no macaroon files: this command shows the only macaroon
    #[arg(long)]
    stateless_init: bool,
    /// With --stateless_init, the file to save the admin macaroon in
    #[arg(long)]
    save_to: Option<String>,
    /// Root key of the macaroons, 32 bytes in hex [default: drawn by the daemon]
    #[arg(long)]
    mac_root_key: Option<String>,
    #[command(flatten)]
    backups: AtCreation,
}

impl Create {
    pub(super) async fn run(self, node: &mut Node) -> Result<(), CliError> {
        refuse_save_to(self.stateless_init, self.save_to.as_deref())?;
        let macaroon_root_key = hex_bytes(self.mac_root_key.as_deref(), "mac_root_key")?;
        let channel_backups = self.backups.backups()?;
        let wallet_password = new_password("wallet password")?;
        let mut request = seed(node).await?;
        request.channel_backups = channel_backups;
        request.wallet_password = wallet_password.into_bytes();
        request.stateless_init = self.stateless_init;
        request.macaroon_root_key = macaroon_root_key;
        let made = node.unlocker.init_wallet(request).await?.into_inner();
        if self.stateless_init {
            keep(&made.admin_macaroon, self.save_to.as_deref())?;
        }
        active(node).await?;
        line("\nfulmen successfully initialized!")
    }
}

/// unlock
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct Unlock {
    /// Search old blocks for coins: addresses in a row that may be unused before it ends
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    recovery_window: i32,
    /// Read the password from standard input, without asking
    #[arg(long)]
    stdin: bool,
    /// The wallet was made with --stateless_init: still write no macaroon files
    #[arg(long)]
    stateless_init: bool,
}

impl Unlock {
    pub(super) async fn run(self, node: &mut Node) -> Result<(), CliError> {
        let password = match self.stdin {
            true => read_line()?,
            false => ask_hidden("Input wallet password: ")?,
        };
        let request = UnlockWalletRequest {
            wallet_password: password.into_bytes(),
            recovery_window: self.recovery_window,
            stateless_init: self.stateless_init,
            ..UnlockWalletRequest::default()
        };
        node.unlocker.unlock_wallet(request).await?;
        active(node).await?;
        line("\nfulmen successfully unlocked!")
    }
}

/// changepassword
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct ChangePassword {
    /// The wallet was made with --stateless_init: this command shows the only macaroon
    #[arg(long)]
    stateless_init: bool,
    /// With --stateless_init, the file to save the admin macaroon in
    #[arg(long)]
    save_to: Option<String>,
    /// Draw a new root key, so that all macaroons until now are void
    #[arg(long)]
    new_mac_root_key: bool,
}

impl ChangePassword {
    pub(super) async fn run(self, node: &mut Node) -> Result<(), CliError> {
        refuse_save_to(self.stateless_init, self.save_to.as_deref())?;
        let current = ask_hidden("Input current wallet password: ")?;
        let new = new_password("new wallet password")?;
        let request = ChangePasswordRequest {
            current_password: current.into_bytes(),
            new_password: new.into_bytes(),
            stateless_init: self.stateless_init,
            new_macaroon_root_key: self.new_mac_root_key,
        };
        let changed = node.unlocker.change_password(request).await?.into_inner();
        if self.stateless_init {
            keep(&changed.admin_macaroon, self.save_to.as_deref())?;
        }
        active(node).await?;
        line("\nPassword changed, wallet unlocked.")
    }
}

/// state: the state now.
pub async fn state(node: &mut Node) -> Result<(), CliError> {
    let mut states = node.state.subscribe_state(SubscribeStateRequest {}).await?.into_inner();
    let now: Option<SubscribeStateResponse> = states.message().await?;
    node.format.answer(&now.ok_or_else(|| CliError::text("the daemon told no state"))?)
}

/// Waits until the daemon serves the other calls.
async fn active(node: &mut Node) -> Result<(), CliError> {
    let mut states = node.state.subscribe_state(SubscribeStateRequest {}).await?.into_inner();
    while let Some(now) = states.message().await? {
        if matches!(now.state(), WalletState::RpcActive | WalletState::ServerActive) {
            return Ok(());
        }
    }
    Err(CliError::text("the daemon ended before it served calls: see its log"))
}

/// Where the wallet's keys come from: asked, and for a new seed shown.
async fn seed(node: &mut Node) -> Result<InitWalletRequest, CliError> {
    let question = "\nIs there a seed or an extended master key to restore the wallet from?\n\
                    'y' for 24 words, 'x' for an extended master root key,\n\
                    'n' for a new seed (Enter y/x/n): ";
    let mut request = InitWalletRequest::default();
    loop {
        match ask(question)?.trim() {
            "y" => {
                request.cipher_seed_mnemonic = known_words()?;
                request.recovery_window = look_ahead()?;
                return Ok(request);
            }
            "x" => {
                request.extended_master_key = ask_hidden("\nInput your extended master key: ")?;
                let birthday = ask("\nInput the wallet's birthday in seconds since 1970, if you \
                                    know it (default 0): ")?;
                request.extended_master_key_birthday_timestamp = or_default(&birthday, 0)?;
                request.recovery_window = look_ahead()?;
                return Ok(request);
            }
            "n" => {
                let seed = node.unlocker.gen_seed(GenSeedRequest::default()).await?.into_inner();
                line(&shown(&seed.cipher_seed_mnemonic))?;
                request.cipher_seed_mnemonic = seed.cipher_seed_mnemonic;
                return Ok(request);
            }
            _ => {}
        }
    }
}

fn known_words() -> Result<Vec<String>, CliError> {
    let typed = ask("\nInput your 24-word mnemonic separated by spaces: ")?;
    let words: Vec<String> = typed.to_lowercase().split_whitespace().map(str::to_owned).collect();
    match words.len() {
        SEED_WORDS => Ok(words),
        other => Err(CliError::text(format!("a seed has {SEED_WORDS} words, not {other}"))),
    }
}

fn look_ahead() -> Result<i32, CliError> {
    let typed = ask(&format!(
        "\nInput the address look-ahead of the search for used keys, 0 for no search \
         (default {LOOK_AHEAD}): "
    ))?;
    or_default(&typed, LOOK_AHEAD)
}

fn or_default<T: std::str::FromStr>(typed: &str, default: T) -> Result<T, CliError> {
    match typed.trim() {
        "" => Ok(default),
        text => text.parse().map_err(|_| CliError::text(format!("{text} is no such number"))),
    }
}

/// The seed as it is shown once: 24 words in 4 columns.
pub(super) fn shown(words: &[String]) -> String {
    let mut out = String::from(
        "\nWrite this seed down: without it the wallet cannot be restored.\n\n\
         ---------------BEGIN FULMEN SEED---------------\n",
    );
    let numbered: Vec<String> =
        words.iter().zip(1..).map(|(word, number)| format!("{number:2}. {word:<9}")).collect();
    for row in numbered.chunks(4) {
        out.push_str(row.join(" ").trim_end());
        out.push('\n');
    }
    out.push_str("---------------END FULMEN SEED-----------------");
    out
}

/// Asks twice.
fn new_password(what: &str) -> Result<String, CliError> {
    let password = ask_hidden(&format!("Input {what}: "))?;
    if password.len() < SHORTEST_PASSWORD {
        return Err(CliError::text("password must have at least 8 characters"));
    }
    if ask_hidden("Confirm password: ")? != password {
        return Err(CliError::text("passwords don't match"));
    }
    Ok(password)
}

fn refuse_save_to(stateless: bool, save_to: Option<&str>) -> Result<(), CliError> {
    match (stateless, save_to) {
        (false, Some(_)) => Err(CliError::text("--save_to goes with --stateless_init only")),
        _ => Ok(()),
    }
}

/// The only macaroon there is: into a file, or shown.
pub(super) fn keep(macaroon: &[u8], save_to: Option<&str>) -> Result<(), CliError> {
    match save_to {
        None => line(&format!("Admin macaroon: {}", hex::encode(macaroon))),
        Some(path) => {
            save(macaroon, path)?;
            line(&format!("Admin macaroon saved to {path}"))
        }
    }
}

/// Writes a macaroon to a file that only its owner can read.
///
/// # Errors
/// The file cannot be written.
pub(super) fn save(macaroon: &[u8], path: &str) -> Result<(), CliError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = home(path);
    let mut options = std::fs::File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&path).and_then(|mut file| file.write_all(macaroon));
    written.map_err(|e| CliError::text(format!("cannot write {}: {e}", path.display())))
}
