# Daily commands. `just --list` prints them; `.ci/run --list` prints the steps of CI.

# Builds everything that ships.
build:
    cargo build --release

# Runs all tests, or those of one crate: `just test -p lb --test proxy`.
test *arguments="--workspace":
    cargo test {{ arguments }}

# Formats, then runs the checks that fail most often.
check:
    cargo fmt --all
    .ci/run clippy
    cargo test -p lb --test tidy

# Starts three replicas behind lb. Arguments go to lb: `just run --strategy consistent_hash`.
run *arguments:
    cargo build --release
    target/release/lb {{ arguments }}

# Runs CI, or some of its steps: `just ci clippy tests`.
ci *steps:
    .ci/run {{ steps }}

# Fuzzes one parser target for ten minutes: `just fuzz request`.
fuzz target:
    mkdir -p fuzz/target/found/{{ target }}
    cargo fuzz run --sanitizer none {{ target }} fuzz/target/found/{{ target }} fuzz/corpus/{{ target }} -- -max_len=4096 -max_total_time=600
