//! One target under libFuzzer: `HERENOW_FUZZ_TARGET` names it, and its seeds are first written to
//! the folder `HERENOW_FUZZ_SEEDS`. `cargo xtask fuzz` builds and runs this; in any other build
//! there is no libFuzzer, and this says so.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod guided {
    use std::path::Path;
    use std::sync::LazyLock;

    use fuzz::{Target, brief, target};

    static TARGET: LazyLock<&Target> = LazyLock::new(|| {
        let name = std::env::var("HERENOW_FUZZ_TARGET").unwrap_or_default();
        target(&name).unwrap_or_else(|| panic!("no target is named {name:?}"))
    });

    fn write_seeds() {
        if let Some(folder) = std::env::var_os("HERENOW_FUZZ_SEEDS") {
            let written = brief::write_seeds(&TARGET, Path::new(&folder));
            written.expect("the folder for seeds can be written");
        }
    }

    libfuzzer_sys::fuzz_target!(init: write_seeds(), |input: &[u8]| {
        if let Err(finding) = TARGET.check(input) {
            eprintln!("{}: {}", TARGET.name, finding.what);
            std::process::abort();
        }
    });
}

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("this build has no libFuzzer: run `cargo xtask fuzz`");
    std::process::exit(2);
}
