#!/bin/sh
# Whole processes beside each other: openssl making as many P-256 keys and certificates as one bundle holds, and
# `hamaster certs generate`. Prints CPU seconds and peak resident memory of both.
#   benches/bundle.sh target/release/hamaster
set -eu
hamaster=${1:?usage: benches/bundle.sh PATH-OF-HAMASTER}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
measure() {
    name=$1
    shift
    /usr/bin/time -f "$name: %U user + %S system CPU seconds, %e s elapsed, peak %M KiB" "$@" >/dev/null
}

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
