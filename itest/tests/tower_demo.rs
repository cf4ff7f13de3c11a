//! docs/tower-demo.sh tells the truth.

use std::process::Command;

use fulmen_itest::failure::Result;
use fulmen_itest::places;

#[test]
fn the_demo_of_the_tower_runs_to_its_end() -> Result<()> {
    let script = places::workspace().join("docs/tower-demo.sh");
    // Built with this test: cargo need not be asked again.
    let output =
        Command::new(script).env("TOWER_DEMO", env!("CARGO_BIN_EXE_tower_demo")).output()?;
    let (said, failed) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    assert!(output.status.success(), "{said}\n{failed}");
    for part in
        ["the cheater's balance", "is a breach", "is published", "came home to alice", "Done in"]
    {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }
    Ok(())
}
