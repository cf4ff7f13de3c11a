//! fulmend: a Lightning node. Reads the settings, runs until it is told to stop.

use fulmen_node::config::{help, Config, FirstLook};
use fulmen_node::run;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::sync::watch;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Nobody may hear it: where this goes is perhaps the disk that is full.
            let _ = writeln!(std::io::stderr(), "fulmend: {why}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let text = match Config::first_look(&args, &home).map_err(|e| e.to_string())? {
        FirstLook::Help => {
            print!("{}", help());
            return Ok(());
        }
        FirstLook::Version => {
            println!("fulmend {}", env!("CARGO_PKG_VERSION"));
            return Ok(());
        }
        FirstLook::Run { file, must_exist } => match std::fs::read_to_string(&file) {
            Ok(text) => Some(text),
            Err(error) if must_exist => return Err(format!("{}: {error}", file.display())),
            Err(_) => None,
        },
    };
    let config = Config::parse(&args, text.as_deref(), &home).map_err(|e| e.to_string())?;
    fulmen_node::log::start(&config.levels, &config.log_dir)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    let result = runtime.block_on(async {
        let stop = watch::Sender::new(false);
        tokio::spawn(stop_on_signal(stop.clone()));
        run::run(config, stop).await
    });
    // All that matters is stopped and on disk; a call to a bitcoind that hangs is not waited for.
    runtime.shutdown_background();
    result
}

/// SIGINT and SIGTERM stop the daemon in order.
async fn stop_on_signal(stop: watch::Sender<bool>) {
    use tokio::signal::unix::{signal, SignalKind};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    stop.send_replace(true);
}
