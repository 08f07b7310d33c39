#!/bin/sh
# Writes man pages and shell completions of the three programs, made by the programs themselves.
#
#   packaging/manual.sh [FOLDER]      FOLDER has programs that run here; default: target/release
#
# The result is in FOLDER/manual, with the layout below /usr/share. The package and the archive take it from there.
set -eu
cd "$(dirname "$0")/.."

folder=${1:-target/release}
out=$folder/manual
rm -rf "$out"
mkdir -p "$out/man/man1" "$out/bash-completion/completions" "$out/zsh/vendor-completions" "$out/fish/vendor_completions.d"
for program in lb loadgen mock-server; do
    "$folder/$program" man --out "$out/man/man1" >/dev/null
    "$folder/$program" completions bash >"$out/bash-completion/completions/$program"
    "$folder/$program" completions zsh >"$out/zsh/vendor-completions/_$program"
    "$folder/$program" completions fish >"$out/fish/vendor_completions.d/$program.fish"
done
gzip -9n "$out/man/man1/"*.1
