//! The flags of the course's script, which this program replaces: `--scenario A1` and `--compare`.

use std::ffi::OsString;

/// The arguments with a subcommand in place of these flags.
pub(super) fn translated(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let first = arguments.get(1).and_then(|it| it.to_str()).unwrap_or_default().to_owned();
    if first == "--compare" {
        arguments[1] = "b".into();
    } else if let Some(name) = first.strip_prefix("--scenario=") {
        arguments[1] = name.to_ascii_lowercase().into();
    } else if first == "--scenario" && arguments.len() > 2 {
        let name = arguments.remove(2).to_string_lossy().to_ascii_lowercase();
        arguments[1] = name.into();
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_flags_are_subcommands() {
        let of = |line: &str| {
            let words = translated(line.split(' ').map(OsString::from));
            words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("loadgen --scenario A1 --seed 3"), "loadgen a1 --seed 3");
        assert_eq!(of("loadgen --scenario=A2"), "loadgen a2");
        assert_eq!(of("loadgen --compare --budget 1m"), "loadgen b --budget 1m");
        assert_eq!(of("loadgen a1 --scenario x"), "loadgen a1 --scenario x");
    }
}
