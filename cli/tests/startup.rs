//! create, unlock, changepassword, state: what is asked, what is shown once, what is sent.

use super::mock::{start, Answer, Call, Daemon};
use super::pty::Pty;
use fulmen_proto::lnrpc::{
    ChangePasswordRequest, ChangePasswordResponse, GenSeedResponse, InitWalletRequest,
    InitWalletResponse, SubscribeStateResponse, UnlockWalletRequest, WalletState,
};
use prost::Message;
use tonic::Status;

const MACAROON: [u8; 3] = [0xad, 0x31, 0x17];

fn words() -> Vec<String> {
    (1..=24).map(|number| format!("word{number}")).collect()
}

fn state(state: WalletState) -> Vec<u8> {
    let mut message = SubscribeStateResponse::default();
    message.set_state(state);
    message.encode_to_vec()
}

/// A daemon whose wallet opens at the first password of 8 letters.
fn script(call: &Call) -> Answer {
    let admin_macaroon = MACAROON.to_vec();
    match call.path.as_str() {
        "/lnrpc.WalletUnlocker/GenSeed" => {
            let seed = GenSeedResponse { cipher_seed_mnemonic: words(), ..Default::default() };
            Ok(vec![seed.encode_to_vec()])
        }
        "/lnrpc.WalletUnlocker/InitWallet" => {
            Ok(vec![InitWalletResponse { admin_macaroon }.encode_to_vec()])
        }
        "/lnrpc.WalletUnlocker/ChangePassword" => {
            Ok(vec![ChangePasswordResponse { admin_macaroon }.encode_to_vec()])
        }
        "/lnrpc.WalletUnlocker/UnlockWallet" => {
            match call.request::<UnlockWalletRequest>().wallet_password.as_slice() {
                b"password" => Ok(vec![Vec::new()]),
                _ => Err(Status::unknown("invalid passphrase for master public key")),
            }
        }
        "/lnrpc.State/SubscribeState" => {
            Ok(vec![state(WalletState::Unlocked), state(WalletState::RpcActive)])
        }
        other => Err(Status::unknown(format!("nobody asked for {other}"))),
    }
}

const CREATE: [&str; 3] = [
    "/lnrpc.WalletUnlocker/GenSeed",
    "/lnrpc.WalletUnlocker/InitWallet",
    "/lnrpc.State/SubscribeState",
];

async fn daemon() -> Daemon {
    let daemon = start(script).await;
    // there is no macaroon before there is a wallet
    let macaroon = daemon.directory.path().join("data/chain/bitcoin/regtest/admin.macaroon");
    std::fs::remove_file(macaroon).unwrap();
    daemon
}

#[tokio::test]
async fn create_shows_a_new_seed_once() {
    let daemon = daemon().await;
    let ended = daemon.cli_with_input("create", "password\npassword\nwhat\nn\n").await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("Enter y/x/n").count(), 2);
    assert!(ended.stdout.contains("\n 1. word1      2. word2      3. word3      4. word4\n"));
    assert!(ended.stdout.contains("\n21. word21    22. word22    23. word23    24. word24\n"));
    assert!(ended.stdout.ends_with("successfully initialized!\n"), "{}", ended.stdout);
    assert_eq!(daemon.paths(), CREATE);
    let asked: InitWalletRequest = daemon.call(1).request();
    let expected = InitWalletRequest {
        wallet_password: b"password".to_vec(),
        cipher_seed_mnemonic: words(),
        ..InitWalletRequest::default()
    };
    assert_eq!(asked, expected);
    assert!(daemon.call(1).metadata.get("macaroon").is_none());
}

#[tokio::test]
async fn create_restores_from_words_or_from_a_key() {
    let daemon = daemon().await;
    let typed = format!("password\npassword\ny\n  {}\n\n", words().join("  ").to_uppercase());
    let ended = daemon.cli_with_input("create", &typed).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stdout.contains("word1"), "{}", ended.stdout);
    let asked: InitWalletRequest = daemon.call(0).request();
    assert_eq!((asked.cipher_seed_mnemonic, asked.recovery_window), (words(), 2500));

    let typed = "password\npassword\nx\ntprv8x\n1700000000\n0\n";
    let ended = daemon.cli_with_input("create", typed).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let asked: InitWalletRequest = daemon.call(2).request();
    assert_eq!((asked.extended_master_key.as_str(), asked.recovery_window), ("tprv8x", 0));
    assert_eq!(asked.extended_master_key_birthday_timestamp, 1_700_000_000);
}

#[tokio::test]
async fn create_restores_channels_from_their_backup() {
    let daemon = daemon().await;
    let file = daemon.directory.path().join("channel.backup");
    std::fs::write(&file, [0xbe, 0xef]).unwrap();
    let line = format!("create --multi_file {}", file.display());
    let typed = format!("password\npassword\ny\n{}\n\n", words().join(" "));
    let ended = daemon.cli_with_input(&line, &typed).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let asked: InitWalletRequest = daemon.call(0).request();
    let multi = asked.channel_backups.unwrap().multi_chan_backup.unwrap();
    assert_eq!(multi.multi_chan_backup, [0xbe, 0xef]);
    std::fs::remove_file(&file).unwrap();
    let ended = daemon.cli_with_input(&line, &typed).await;
    assert!(ended.stderr.contains("cannot read the backup"), "{}", ended.stderr);
}

#[tokio::test]
async fn create_without_files_gives_the_only_macaroon() {
    let daemon = daemon().await;
    let key = "11".repeat(32);
    let line = format!("create --stateless_init --mac_root_key {key}");
    let ended = daemon.cli_with_input(&line, "password\npassword\nn\n").await;
    assert!(ended.stdout.contains("Admin macaroon: ad3117\n"), "{}", ended.stdout);
    let asked: InitWalletRequest = daemon.call(1).request();
    assert!(asked.stateless_init);
    assert_eq!(asked.macaroon_root_key, [0x11; 32]);
    let file = daemon.directory.path().join("my.macaroon");
    let line = format!("create --stateless_init --save_to {}", file.display());
    let ended = daemon.cli_with_input(&line, "password\npassword\nn\n").await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stdout.contains("ad3117"), "{}", ended.stdout);
    assert_eq!(std::fs::read(&file).unwrap(), MACAROON);
}

#[tokio::test]
async fn a_slip_of_the_finger_makes_no_wallet() {
    let daemon = daemon().await;
    for (line, typed, text) in [
        ("create", "short\n", "password must have at least 8 characters"),
        ("create", "password\npassw0rd\n", "passwords don't match"),
        ("create", "password\npassword\ny\none two\n", "a seed has 24 words, not 2"),
        ("create", "password\npassword\nwhat\n", "the input ended before"),
        ("create", "", "the input ended before"),
        ("create --save_to x", "", "--save_to goes with --stateless_init only"),
        ("create --mac_root_key xx", "", "unable to decode mac_root_key"),
        ("changepassword", "password\nother678\nother679\n", "passwords don't match"),
    ] {
        let ended = daemon.cli_with_input(line, typed).await;
        assert_eq!(ended.code, Some(1), "{line} {typed:?}");
        assert!(ended.stderr.contains(text), "{line} {typed:?}: {}", ended.stderr);
    }
    assert_eq!(daemon.paths().len(), 0);
}

#[tokio::test]
async fn unlock_waits_until_calls_are_served() {
    let daemon = daemon().await;
    let ended = daemon.cli_with_input("unlock --stdin --recovery_window=100", "password\n").await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout.contains("successfully unlocked!"), "{}", ended.stdout);
    let asked: UnlockWalletRequest = daemon.call(0).request();
    assert_eq!(asked.recovery_window, 100);
    let paths = ["/lnrpc.WalletUnlocker/UnlockWallet", "/lnrpc.State/SubscribeState"];
    assert_eq!(daemon.paths(), paths);
    let ended = daemon.cli_with_input("unlock", "wrong\n").await;
    assert!(ended.stderr.ends_with("desc = invalid passphrase for master public key\n"));
}

#[tokio::test]
async fn a_daemon_that_ends_while_it_starts_is_no_success() {
    let daemon = start(|call| match call.path.as_str() {
        "/lnrpc.State/SubscribeState" => Ok(vec![state(WalletState::Unlocked)]),
        _ => Ok(vec![Vec::new()]),
    })
    .await;
    let ended = daemon.cli_with_input("unlock --stdin", "password\n").await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("ended before it served calls"), "{}", ended.stderr);
}

#[tokio::test]
async fn changepassword_and_state() {
    let daemon = daemon().await;
    let typed = "password\nother678\nother678\n";
    let ended = daemon.cli_with_input("changepassword --new_mac_root_key", typed).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let asked: ChangePasswordRequest = daemon.call(0).request();
    assert_eq!(
        (asked.current_password, asked.new_password),
        (b"password".into(), b"other678".into())
    );
    assert!(asked.new_macaroon_root_key && !asked.stateless_init);
    let ended = daemon.cli("state").await;
    assert_eq!(ended.stdout, "{\n    \"state\": \"UNLOCKED\"\n}\n");
}

#[tokio::test]
async fn passwords_are_not_shown_on_a_terminal() {
    let daemon = daemon().await;
    let typed = ["hunter22\n", "hunter22\n", "n\n"];
    let answers = [("Input wallet password: ", typed[0]), ("Confirm password: ", typed[1])];
    let question = ("(Enter y/x/n): ", typed[2]);
    let (code, shown) = Pty::run(&daemon, "create", &[answers[0], answers[1], question]).await;
    assert_eq!(code, Some(0), "{shown}");
    assert!(!shown.contains("hunter22"), "{shown}");
    assert!(shown.contains("24. word24") && shown.contains("successfully initialized!"), "{shown}");
    let asked: InitWalletRequest = daemon.call(1).request();
    assert_eq!(asked.wallet_password, b"hunter22");
}

#[tokio::test]
async fn what_stands_between_is_explained() {
    let daemon = start(|call| {
        Err(Status::unknown(match call.path.as_str() {
            "/lnrpc.Lightning/GetInfo" => "wallet locked, unlock it to enable full RPC access",
            "/lnrpc.Lightning/ListPeers" => {
                "wallet not created, create one to enable full RPC access"
            }
            "/lnrpc.Lightning/StopDaemon" => {
                "the RPC server is in the process of starting up, but not yet ready to accept calls"
            }
            _ => "verification failed: signature mismatch after caveat verification",
        }))
    })
    .await;
    for (line, hint) in [
        ("getinfo", "\nOpen the wallet with `fulmen-cli unlock`.\n"),
        ("listpeers", "\nMake a wallet with `fulmen-cli create`.\n"),
        ("listchannels", "\nThe macaroon is another daemon's"),
        ("stop", "\nTry again in a moment"),
    ] {
        let ended = daemon.cli(line).await;
        assert!(ended.stderr.contains(hint), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_missing_macaroon_or_certificate_is_explained() {
    let daemon = daemon().await;
    let ended = daemon.cli("getinfo").await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("cannot read the macaroon"), "{}", ended.stderr);
    assert!(ended.stderr.contains("Is --network the daemon's"), "{}", ended.stderr);
    std::fs::remove_file(daemon.directory.path().join("tls.cert")).unwrap();
    let ended = daemon.cli("state").await;
    assert!(ended.stderr.contains("cannot read the certificate"), "{}", ended.stderr);
    assert!(ended.stderr.contains("Has fulmend run with this --fulmendir?"), "{}", ended.stderr);
}
