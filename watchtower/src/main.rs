//! fulmen-tower: a watchtower. Reads the settings, runs until it is told to stop.

use clap::Parser;
use fulmen_watchtower::config::{key, Flags};
use fulmen_watchtower::tower::{Setup, Tower};
use fulmen_watchtower::{api, carrier};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{signal, SignalKind};
use tokio::sync::watch;

fn main() -> ExitCode {
    let flags = Flags::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let ran =
        tokio::runtime::Runtime::new().map_err(|error| error.to_string()).and_then(|runtime| {
            let ran = runtime.block_on(run(flags));
            // A call to a bitcoind that hangs is not waited for.
            runtime.shutdown_background();
            ran
        });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("fulmen-tower: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> Result<(), String> {
    let directory = flags.directory()?;
    let setup = Setup {
        secret: key(&directory)?,
        chain: flags.chain()?,
        private_clients: flags.privateclient.iter().copied().collect(),
        limits: flags.limits(),
    };
    let tower = Tower::open(&directory.join("tower.db"), setup).map_err(|e| e.to_string())?;
    let tower = Arc::new(tower);
    let rpc = flags.rpc()?;
    let listener = TcpListener::bind(&flags.listen).await;
    let listener = listener.map_err(|error| format!("cannot listen on {}: {error}", flags.listen));
    let listener = listener?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let summary = tower.summary().map_err(|error| error.to_string())?;
    tracing::info!(
        "{} sessions, {} states, {} channels, {} breaches",
        summary.sessions,
        summary.states,
        summary.channels,
        summary.breaches
    );
    // Whoever starts the tower reads who and where it is from this line.
    println!("{}@{address}", tower.id());
    let stop = watch::Sender::new(false);
    let door = tokio::spawn(api::serve(tower.clone(), listener, stop.subscribe()));
    let chain = tokio::spawn(carrier::follow(tower, rpc, stop.subscribe()));
    let (mut interrupt, mut terminate) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let ended = tokio::select! {
        ended = chain => ended.map_err(|died| died.to_string())?.map_err(|error| error.to_string()),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    stop.send_replace(true);
    door.await.map_err(|died| died.to_string())?;
    ended
}

fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal, String> {
    signal(kind).map_err(|error| error.to_string())
}
