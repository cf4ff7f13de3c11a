//! Flags, the file, defaults, and what is refused with which words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use bitcoin::Network;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_node::chain::RpcAuth;
use fulmen_node::config::{self, Config, FirstLook, FLAGS};
use fulmen_node::log::Levels;
use fulmen_node::peer::features::Protocol;
use std::path::{Path, PathBuf};
use std::time::Duration;

const HOME: &str = "/home/alice";

fn parse(args: &[&str], file: Option<&str>) -> Result<Config, String> {
    Config::parse(args, file, Path::new(HOME)).map_err(|error| error.to_string())
}

fn refused(args: &[&str]) -> String {
    let args = [&["--bitcoin.regtest"], args].concat();
    parse(&args, None).expect_err(&args.join(" "))
}

#[test]
fn the_walkthrough_is_understood() {
    let args = "--bitcoin.active --bitcoin.regtest --debuglevel=debug --bitcoin.node=bitcoind \
        --bitcoind.rpchost=127.0.0.1:20001 --bitcoind.rpcuser=u --bitcoind.rpcpass=p=q \
        --bitcoind.zmqpubrawblock=tcp://127.0.0.1:20002 \
        --bitcoind.zmqpubrawtx=tcp://127.0.0.1:20003 --fulmendir=/tmp/alice \
        --listen=127.0.0.1:20004 --rpclisten=127.0.0.1:20005 --noseedbackup --alias alice";
    let config = parse(&args.split_whitespace().collect::<Vec<_>>(), None).unwrap();
    assert_eq!(config.network, Network::Regtest);
    assert_eq!(config.levels, Levels::parse("debug").unwrap());
    assert_eq!(config.bitcoind.host, "127.0.0.1:20001");
    let auth = RpcAuth::UserPass { user: "u".into(), password: "p=q".into() };
    assert_eq!(config.bitcoind.auth, auth);
    assert_eq!(config.bitcoind.zmq_raw_block.as_deref(), Some("tcp://127.0.0.1:20002"));
    assert_eq!(config.bitcoind.zmq_hash_block, None);
    assert_eq!(config.bitcoind.zmq_raw_tx.as_deref(), Some("tcp://127.0.0.1:20003"));
    assert_eq!(config.listen, ["127.0.0.1:20004".parse().unwrap()]);
    assert_eq!(config.rpc_listen, ["127.0.0.1:20005".parse().unwrap()]);
    assert_eq!(config.alias.as_deref(), Some("alice"));
    assert!(config.no_seed_backup);
    let here = Path::new("/tmp/alice");
    assert_eq!(config.tls_cert_path(), here.join("tls.cert"));
    assert_eq!(config.tls_key_path(), here.join("tls.key"));
    assert_eq!(config.network_dir(), here.join("data/chain/bitcoin/regtest"));
    assert_eq!(config.log_dir, here.join("logs/bitcoin/regtest"));
    assert!(!format!("{config:?}").contains("p=q"), "a password is shown");
}

#[test]
fn defaults_are_lnds() {
    let config = parse(&["--bitcoin.signet"], None).unwrap();
    assert_eq!(config.base_dir, Path::new("/home/alice/.fulmen"));
    assert_eq!(config.network_dir(), config.base_dir.join("data/chain/bitcoin/signet"));
    assert_eq!(config.listen, ["0.0.0.0:9735".parse().unwrap()]);
    assert_eq!(config.rpc_listen, ["127.0.0.1:10009".parse().unwrap()]);
    assert_eq!(config.external_ips, []);
    assert_eq!(config.bitcoind.host, "localhost:38332");
    let cookie = PathBuf::from("/home/alice/.bitcoin/signet/.cookie");
    assert_eq!(config.bitcoind.auth, RpcAuth::Cookie(cookie));
    assert_eq!((config.alias, config.color), (None, [0x33, 0x99, 0xff]));
    assert_eq!(
        (config.min_chan_size, config.max_chan_size),
        (Sat::new(20_000), Sat::new(16_777_215))
    );
    assert_eq!((config.max_pending_channels, config.default_chan_confs), (1, None));
    assert_eq!((config.policy.base_fee, config.policy.fee_rate_ppm), (Msat::new(1_000), 1));
    assert_eq!((config.policy.time_lock_delta, config.policy.min_htlc), (80, Msat::new(1)));
    assert_eq!(config.trickle_delay, Duration::from_secs(90));
    assert!(!config.random_coins);
    assert!(!config.no_seed_backup);
}

const FILE: &str = "
    ; a comment
    # another
    [Application Options]
    alias=\"from the file\"
    listen=:1
    listen=:2
    noseedbackup=1
    maxchansize = 100000

    [Bitcoin]
    bitcoin.active=true
    bitcoin.regtest=true
    bitcoin.basefee=7
    [Bitcoind]
    bitcoind.rpccookie=~/cookie
";

#[test]
fn the_command_line_wins_over_the_file() {
    let config = parse(&[], Some(FILE)).unwrap();
    assert_eq!(config.alias.as_deref(), Some("from the file"));
    assert_eq!(config.listen.len(), 2);
    assert!(config.no_seed_backup);
    assert_eq!(config.max_chan_size, Sat::new(100_000));
    assert_eq!(config.policy.base_fee, Msat::new(7));
    assert_eq!(config.bitcoind.auth, RpcAuth::Cookie("/home/alice/cookie".into()));

    let args = [
        "--alias=mine",
        "--listen",
        ":3",
        "--noseedbackup=false",
        "--bitcoin.basefee=1",
        "--bitcoin.basefee=2",
    ];
    let config = parse(&args, Some(FILE)).unwrap();
    assert_eq!(config.alias.as_deref(), Some("mine"));
    assert_eq!(config.listen, ["0.0.0.0:3".parse().unwrap()]);
    assert!(!config.no_seed_backup);
    assert_eq!(config.policy.base_fee, Msat::new(2));
    assert_eq!(config.max_chan_size, Sat::new(100_000));
}

#[test]
fn the_file_is_looked_for_where_the_command_line_says() {
    let look = |args: &[&str]| Config::first_look(args, Path::new(HOME)).unwrap();
    let run = |file: &str, must_exist| FirstLook::Run { file: file.into(), must_exist };
    assert_eq!(look(&[]), run("/home/alice/.fulmen/fulmen.conf", false));
    assert_eq!(look(&["--lnddir=/d"]), run("/d/fulmen.conf", false));
    assert_eq!(look(&["--fulmendir", "~/f"]), run("/home/alice/f/fulmen.conf", false));
    assert_eq!(look(&["-C", "/etc/f.conf"]), run("/etc/f.conf", true));
    assert_eq!(look(&["--help"]), FirstLook::Help);
    assert_eq!(look(&["-h"]), FirstLook::Help);
    assert_eq!(look(&["-V", "--bitcoin.regtest"]), FirstLook::Version);
}

#[test]
fn addresses_are_read_as_lnd_reads_them() {
    for (text, address) in [
        ("1.2.3.4", "1.2.3.4:9735"),
        ("1.2.3.4:5", "1.2.3.4:5"),
        ("localhost", "127.0.0.1:9735"),
        ("localhost:6", "127.0.0.1:6"),
        (":7", "0.0.0.0:7"),
        ("8", "127.0.0.1:8"),
        ("[::1]", "[::1]:9735"),
        ("::1", "[::1]:9735"),
        ("[::]:9", "[::]:9"),
    ] {
        let config = parse(&["--bitcoin.regtest", "--listen", text], None).unwrap();
        assert_eq!(config.listen, [address.parse().unwrap()], "{text}");
    }
    for text in ["", ":", "example.org:1", "1.2.3.4:99999", "70000", "unix:///x"] {
        let error = refused(&[&format!("--listen={text}")]);
        assert!(error.starts_with(&format!("--listen={text}: ")), "{error}");
    }
    for (text, host) in [
        ("localhost", "localhost:18443"),
        ("node.example:1", "node.example:1"),
        ("http://10.0.0.1:2/", "10.0.0.1:2"),
        ("::1", "[::1]:18443"),
        ("[::1]:3", "[::1]:3"),
    ] {
        let rpchost = format!("--bitcoind.rpchost={text}");
        assert_eq!(parse(&["--bitcoin.regtest", &rpchost], None).unwrap().bitcoind.host, host);
    }
    for text in ["", "host:port", "a b", "user@host", "http://"] {
        refused(&[&format!("--bitcoind.rpchost={text}")]);
    }
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    for (args, answer) in [
        (&["--nope"][..], "there is no flag --nope; fulmend --help lists all"),
        (&["-x"], "there is no flag --x"),
        (&["start"], "\"start\" is not a flag"),
        (&["-"], "\"-\" is not a flag"),
        (&["--alias"], "--alias needs a value"),
        (&["--alias", "--noseedbackup"], "--alias needs a value"),
        (&["--restlisten=:8080"], "--restlisten: the REST interface is not built into fulmen yet"),
        (&["--noseedbackup=maybe"], "--noseedbackup=maybe: must be true or false"),
        (
            &["--wallet-unlock-allow-create"],
            "--wallet-unlock-allow-create needs --wallet-unlock-password-file",
        ),
        (
            &["--noseedbackup", "--wallet-unlock-password-file=p"],
            "--noseedbackup and --wallet-unlock-password-file exclude each other",
        ),
        (&["--color=red"], "--color=red: must be #RRGGBB"),
        (&["--debuglevel=loud"], "--debuglevel=loud: \"loud\" is not a level"),
        (&["--alias=123456789012345678901234567890123"], "--alias=12345678901234"),
        (&["--minchansize=19999"], "--minchansize=19999: must be from 20000 to 16777215"),
        (&["--maxchansize=16777216"], "--maxchansize=16777216: must be from 20000"),
        (
            &["--minchansize=50000", "--maxchansize=40000"],
            "--maxchansize=40000: must be from 50000",
        ),
        (&["--dust-threshold=1", "--channel-max-fee-exposure=2"], "cannot set both dust-threshold"),
        (&["--protocol.zero-conf"], "--protocol.zero-conf needs --protocol.option-scid-alias"),
        (&["--zeroconfpeer=02"], "--zeroconfpeer=02: must be a public key"),
        (&[TRUSTED], "--zeroconfpeer needs --protocol.zero-conf"),
        (&["--maxpendingchannels=-1"], "--maxpendingchannels=-1: must be a whole number from 1"),
        (&["--bitcoin.timelockdelta=17"], "--bitcoin.timelockdelta=17: must be from 18"),
        (&["--bitcoin.feerate=1.5"], "--bitcoin.feerate=1.5: must be a whole number"),
        (&["--bitcoin.node=neutrino"], "--bitcoin.node=neutrino: blocks come from bitcoind only"),
        (&["--bitcoin.active=false"], "--bitcoin.active=false: there is no other chain"),
        (&["--bitcoin.signet"], "--bitcoin.signet and --bitcoin.regtest exclude each other"),
        (&["--bitcoind.rpcuser=u"], "--bitcoind.rpcuser and --bitcoind.rpcpass go together"),
        (&["--bitcoind.zmqpubrawtx=1:2"], "--bitcoind.zmqpubrawtx=1:2: must be tcp://HOST:PORT"),
        (&["--tlsextraip=x"], "--tlsextraip=x: must be an IP address"),
        (&["--tlsextradomain=a b"], "--tlsextradomain=a b: must be a domain name"),
        (&["--fulmendir=/a", "--lnddir=/b"], "--fulmendir and --lnddir differ"),
        (&["--fulmendir="], "--fulmendir is empty"),
    ] {
        let error = refused(args);
        assert!(error.starts_with(answer), "{args:?}: {error}");
    }
    let error = parse(&["--bitcoin.mainnet"], None).unwrap_err();
    assert!(error.starts_with("--bitcoin.mainnet is refused: "), "{error}");
    let both = parse(&["--bitcoin.mainnet", "--mainnet-at-own-risk"], None).unwrap();
    assert_eq!(both.network, Network::Bitcoin);
    let error = parse(&[], None).unwrap_err();
    assert!(error.starts_with("no network is chosen"), "{error}");
}

#[test]
fn mistakes_in_the_file_are_found_by_line() {
    for (file, answer) in [
        ("\n\nnope=1", "fulmen.conf line 3: there is no flag --nope"),
        ("alias", "fulmen.conf line 1: \"alias\" is not NAME=VALUE"),
        ("\nminchansize=x", "fulmen.conf line 2: minchansize=x: must be a whole number"),
    ] {
        let error = parse(&["--bitcoin.regtest"], Some(file)).unwrap_err();
        assert!(error.starts_with(answer), "{error}");
    }
}

/// A key from BOLT 3's vectors.
const TRUSTED: &str =
    "--zeroconfpeer=023da092f6980e58d2c037173180e9a465476026ee50f96695963e8efe436f54eb";

#[test]
fn kinds_of_channels_are_switched_on_and_off() {
    let read = |args: &[&str]| parse(&[&["--bitcoin.regtest"], args].concat(), None).unwrap();
    let config = read(&[]);
    let Protocol { anchors, scid_alias, zero_conf } = config.protocol;
    assert!(anchors && !scid_alias && !zero_conf && config.zero_conf_peers.is_empty());
    assert_eq!(config.max_fee_exposure, Sat::new(500_000));
    assert_eq!(read(&["--dust-threshold=7"]).max_fee_exposure, Sat::new(7));
    assert_eq!(read(&["--channel-max-fee-exposure=8"]).max_fee_exposure, Sat::new(8));
    assert!(!read(&["--protocol.no-anchors"]).protocol.anchors);
    let trusts = ["--protocol.option-scid-alias", "--protocol.zero-conf", TRUSTED, TRUSTED];
    let config = read(&trusts);
    assert!(config.protocol.scid_alias && config.protocol.zero_conf);
    assert_eq!(config.zero_conf_peers.len(), 1);
}

#[test]
fn help_names_every_flag_once() {
    let help = config::help();
    for flag in FLAGS {
        assert!(help.contains(&format!("  --{}", flag.name)), "{}", flag.name);
        assert_eq!(FLAGS.iter().filter(|other| other.name == flag.name).count(), 1);
    }
    assert!(help.lines().all(|line| line.chars().count() <= 110), "{help}");
}

#[test]
fn configuration_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, config::page()).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == config::page(),
        "docs/configuration.md is out of date: make it again with\n    \
         UPDATE=1 cargo test -p fulmen-node --test main configuration_page"
    );
    let sample = parse(&[], Some(config::SAMPLE)).unwrap();
    assert_eq!(sample.alias.as_deref(), Some("lightning strikes"));
    assert_eq!(sample.network, Network::Signet);
}

/// What lnd's users have in their files.
#[test]
fn flags_of_lnd_that_are_not_built_are_refused_with_their_line() {
    for name in ["tor.active", "accept-keysend", "restlisten", "bitcoin.testnet4"] {
        let file = format!("[Application Options]\nalias=a\n\n{name}=1\n");
        let error = parse(&["--bitcoin.regtest"], Some(&file)).unwrap_err();
        assert!(error.starts_with(&format!("fulmen.conf line 4: --{name}: ")), "{error}");
        assert!(error.ends_with("is not built into fulmen yet"), "{error}");
    }
}
