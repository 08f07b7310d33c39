#!/bin/sh
# Makes the release archive from finished builds: lb-VERSION-ARCH-linux.tar.gz, its SHA-256, and an SBOM of each program.
#
#   cargo build --release && packaging/archive.sh
#   packaging/archive.sh TARGET [GLIBC]      builds with cargo-zigbuild, for example aarch64-unknown-linux-gnu 2.31
#
# Man pages and completions are the same for every machine. They come from target/release, whose programs run here.
# The result is in target/archive. The layout is the one that lb finds by itself: unpack it anywhere and run bin/lb. The
# same inputs give the same bytes: order, owner and time of the files are fixed. SBOMs need cargo-cyclonedx; without it
# the script says so and makes none.
set -eu
cd "$(dirname "$0")/.."

strategies='round_robin least_connections consistent_hash assignment_ring anchor_hash bounded_hash c3 join_idle_queue jump_hash least_time local_rendezvous maglev multi_probe peak_ewma power_of_two prequal random rendezvous sticky_first thompson weighted_by_load zone_aware'
programs='lb loadgen mock-server'
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
target=${1:-}
if [ -n "$target" ]; then
    cargo build --release
    cargo zigbuild --release --target "$target${2:+.$2}"
    built=target/$target/release
    arch=${target%%-*}
else
    built=target/release
    arch=$(uname -m)
fi

name=lb-$version-$arch-linux
out=target/archive
root=$out/$name
rm -rf "$root"
mkdir -p "$root/bin" "$root/lib/lb/strategies" "$root/etc/lb" "$root/share/lb" "$root/share/doc/lb"
for program in $programs; do
    install -m 755 "$built/$program" "$root/bin/"
done
for strategy in $strategies; do
    install -m 644 "$built/lib$strategy.so" "$root/lib/lb/strategies/"
done
install -m 644 config/lb.toml config/assignment.toml config/lb.schema.json "$root/etc/lb/"
packaging/manual.sh
cp -R target/release/manual/. "$root/share/"
install -m 644 packaging/lb.service config/logrotate.conf "$root/share/lb/"
install -m 644 README.md CHANGELOG.md SECURITY.md LICENSE docs/reference.md docs/access-log.md docs/runbooks.md docs/operations.md "$root/share/doc/lb/"

if cargo cyclonedx --version >/dev/null 2>&1; then
    for program in $programs; do
        # written beside the manifest of each crate of the workspace
        cargo cyclonedx --quiet --format json --manifest-path "$program/Cargo.toml" --override-filename "$program.cdx"
        mv "$program/$program.cdx.json" "$out/$name-$program.cdx.json"
    done
    find . -path ./target -prune -o -name '*.cdx.json' -print | xargs -r rm -f
else
    echo "archive.sh: no SBOM: cargo-cyclonedx is not installed (cargo install cargo-cyclonedx)" >&2
fi

time=$(git log -1 --format=%ct 2>/dev/null || echo 0)
tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$time" --directory "$out" "$name" | gzip -9n >"$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
rm -rf "$root"
echo "$out/$name.tar.gz"
