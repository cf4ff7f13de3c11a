//! fulmen-cli on a pseudo terminal: it is answered as its questions come.

use super::mock::Daemon;
use rustix::pty::{grantpt, openpt, ptsname, unlockpt, OpenptFlags};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// A run of fulmen-cli on a terminal.
pub struct Pty;

impl Pty {
    /// Runs a command line; `answers` are questions waited for, and what is typed then. How it
    /// ended, and all that the terminal showed.
    pub async fn run(
        daemon: &Daemon,
        line: &str,
        answers: &[(&str, &str)],
    ) -> (Option<i32>, String) {
        let answers: Vec<(String, String)> =
            answers.iter().map(|(asked, typed)| ((*asked).into(), (*typed).into())).collect();
        let words = daemon.words(line);
        tokio::task::spawn_blocking(move || session(&words, &answers)).await.unwrap()
    }
}

fn session(words: &[String], answers: &[(String, String)]) -> (Option<i32>, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let end = File::options().read(true).write(true).open(path).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fulmen-cli"));
    command.args(words).stdin(Stdio::from(end.try_clone().unwrap()));
    command.stdout(Stdio::from(end.try_clone().unwrap())).stderr(Stdio::from(end));
    let mut child = command.spawn().unwrap();
    drop(command); // or the terminal would never end

    let mut master = File::from(master);
    let mut shown = String::new();
    let mut answers = answers.iter();
    let mut next = answers.next();
    let mut from = 0;
    let mut buffer = [0; 1024];
    // reading fails once nobody has the other end
    while let Ok(length @ 1..) = master.read(&mut buffer) {
        shown.push_str(&String::from_utf8_lossy(&buffer[..length]));
        while let Some((asked, typed)) = next {
            let Some(at) = shown[from..].find(asked.as_str()) else { break };
            from += at + asked.len();
            master.write_all(typed.as_bytes()).unwrap();
            next = answers.next();
        }
    }
    (child.wait().unwrap().code(), shown)
}
