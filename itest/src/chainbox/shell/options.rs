//! bitcoind's flags, those that have a meaning for a box.

use std::path::PathBuf;

use crate::failure::{Context, Failure, Result};

/// What the flags say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// `DATADIR/regtest`.
    pub folder: PathBuf,
    pub rpc_port: u16,
    /// `USER:PASSWORD`; without them there is a cookie.
    pub login: Option<String>,
    /// Topics and where they are published.
    pub publish: Vec<(String, String)>,
}

const TOPICS: [&str; 4] = ["rawblock", "hashblock", "rawtx", "hashtx"];
/// Flags that say what is so anyway.
const IGNORED: [&str; 13] = [
    "regtest",
    "server",
    "listen",
    "connect",
    "txindex",
    "printtoconsole",
    "fallbackfee",
    "dbcache",
    "rpcbind",
    "rpcallowip",
    "rpcworkqueue",
    "corepolicy",
    "dnsseed",
];

impl Options {
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let (mut folder, mut rpc_port) = (None, 18_443);
        let (mut user, mut password) = (None, None);
        let mut publish = Vec::new();
        for argument in arguments {
            let flag = argument.trim_start_matches('-');
            let (name, value) = flag.split_once('=').unwrap_or((flag, "1"));
            match name {
                "datadir" => folder = Some(PathBuf::from(value).join("regtest")),
                "rpcport" => rpc_port = value.parse().context(argument)?,
                "rpcuser" => user = Some(value),
                "rpcpassword" => password = Some(value),
                "chain" if value == "regtest" => {}
                _ if IGNORED.contains(&name) => {}
                _ => match name.strip_prefix("zmqpub").filter(|topic| TOPICS.contains(topic)) {
                    Some(topic) => publish.push((topic.to_owned(), value.to_owned())),
                    None => {
                        let what = format!("the chain in a box does not know {argument}");
                        return Err(Failure::new(what));
                    }
                },
            }
        }
        let folder = folder.context("say -datadir=FOLDER")?;
        let login = user.zip(password).map(|(user, password)| format!("{user}:{password}"));
        Ok(Options { folder, rpc_port, login, publish })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_meaning_is_refused() {
        let parse = |arguments: &[&str]| {
            Options::parse(&arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
        };
        let all = [
            "-datadir=/d",
            "-chain=regtest",
            "-regtest",
            "-rpcuser=u",
            "-rpcpassword=p:",
            "-rpcport=7",
        ];
        let options = parse(&[&all[..], &["-zmqpubrawtx=tcp://127.0.0.1:9"]].concat()).unwrap();
        assert_eq!(options.folder, PathBuf::from("/d/regtest"));
        assert_eq!((options.rpc_port, options.login.as_deref()), (7, Some("u:p:")));
        assert_eq!(options.publish, [("rawtx".to_owned(), "tcp://127.0.0.1:9".to_owned())]);
        parse(&["-datadir=/d", "-chain=regtest", "-dnsseed=0"]).unwrap();
        parse(&["-datadir=/d", "-chain=main"]).unwrap_err();
        assert_eq!(parse(&["-datadir=/d", "-rpcuser=u"]).unwrap().login, None);
        for wrong in [&[][..], &["-datadir=/d", "-prune=550"], &["-datadir=/d", "-zmqpubraw=x"]] {
            parse(wrong).unwrap_err();
        }
    }
}
