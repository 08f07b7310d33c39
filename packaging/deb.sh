#!/bin/sh
# Makes the Debian package: target/debian/lb_VERSION_ARCH.deb. Needs cargo-deb (cargo install cargo-deb).
#
#   packaging/deb.sh
set -eu
cd "$(dirname "$0")/.."

cargo build --release
packaging/manual.sh
cargo deb -p lb --no-build "$@"
