#!/bin/sh
# Whole processes: the size of the binary, the time of `--version`, and `hamaster certs generate` beside openssl making
# as many P-256 keys and certificates as one bundle holds, with CPU seconds and peak resident memory of both.
#   benches/process.sh target/release/hamaster
set -eu
hamaster=${1:?usage: benches/process.sh PATH-OF-HAMASTER}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
measure() {
    name=$1
    shift
    /usr/bin/time -f "$name: %U user + %S system CPU seconds, %e s elapsed, peak %M KiB" "$@" >/dev/null
}

echo "binary: $(($(stat -Lc %s "$hamaster") / 1024)) KiB"
begin=$(date +%s%N)
for _ in $(seq 200); do "$hamaster" --version >/dev/null; done
version=$(($(date +%s%N) - begin))
begin=$(date +%s%N)
for _ in $(seq 200); do /bin/true; done
nothing=$(($(date +%s%N) - begin))
echo "--version: $((version / 200000)) us a run, /bin/true: $((nothing / 200000)) us, over 200 runs each"

cat >"$dir/openssl.sh" <<'SCRIPT'
cd "$1"
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
for ca in 1 2 3; do
    key ca$ca
    openssl req -x509 -new -key ca$ca.key -subj "/CN=ca$ca" -days 3650 -out ca$ca.crt
done
for leaf in $(seq 16); do
    key leaf$leaf
    openssl req -new -key leaf$leaf.key -subj "/CN=leaf$leaf" -out leaf.csr
    openssl x509 -req -in leaf.csr -CA ca1.crt -CAkey ca1.key -days 365 -out leaf$leaf.crt 2>/dev/null
done
key sa
SCRIPT
mkdir "$dir/openssl"
measure "openssl " sh "$dir/openssl.sh" "$dir/openssl"
measure "hamaster" "$hamaster" -q certs generate --out "$dir/hamaster" --name m1 --advertise-ip 10.0.0.11
