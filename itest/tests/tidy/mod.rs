//! The house rules as tests: layers, sizes, captions, words. Each rule is also shown a planted
//! fault, so that a rule that sees nothing is noticed.

mod layering;
mod pages;
mod planted;
mod reach;
mod shape;
mod source;

use source::Source;

fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn packages_build_on_lower_ones_only() {
    assert_none(layering::packages());
}

#[test]
fn the_channels_folders_point_down_only_and_are_pure() {
    assert_none(Source::all().iter().flat_map(layering::channel).collect());
}

#[test]
fn files_and_functions_are_short_and_captioned() {
    assert_none(Source::all().iter().flat_map(shape::sizes).collect());
}

#[test]
fn certain_words_stay_out() {
    assert_none(Source::all().iter().flat_map(shape::words).collect());
}

#[test]
fn every_file_is_reached() {
    let sources = Source::all();
    assert!(sources.len() > 50, "only {} files found", sources.len());
    assert_none(reach::unreached(&sources));
}

#[test]
fn pages_lead_somewhere() {
    assert_none([pages::dead_links(), pages::unknown_commands(), pages::missing_files()].concat());
}
