//! Compiles the .proto files: Rust types, client and server, and the descriptors that JSON needs.

use prost::Message;
use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=lnrpc");
    println!("cargo::rerun-if-changed=fulmenrpc");
    let services = [
        "fulmenrpc/channels.proto",
        "fulmenrpc/towers.proto",
        "lnrpc/lightning.proto",
        "lnrpc/routerrpc/router.proto",
        "lnrpc/stateservice.proto",
        "lnrpc/verrpc/verrpc.proto",
        "lnrpc/walletrpc/walletkit.proto",
        "lnrpc/walletunlocker.proto",
        "lnrpc/watchtowerrpc/watchtower.proto",
        "lnrpc/wtclientrpc/wtclient.proto",
    ];
    let files = protox::compile(services, ["."])?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("descriptors.bin"), files.encode_to_vec())?;
    let mut config = tonic_prost_build::Config::new();
    config.btree_map(["."]);
    config.enable_type_names();
    tonic_prost_build::configure().compile_fds_with_config(files, config)?;
    Ok(())
}
