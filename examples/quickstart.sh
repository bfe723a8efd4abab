#!/usr/bin/env bash
#
# From a fresh Debian 12 to three Kubernetes masters with a healthy TLS etcd, on loopback, in one command:
#
#     ./examples/quickstart.sh
#
# Nothing of this machine's /etc is touched: all of it lives in one directory, and `hamaster lab down` ends it.
# It can be run again at any time; what is done already is not done twice.
set -euo pipefail

export PATH="$HOME/.cargo/bin:$PATH"
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

step() { printf '\n==> %s\n' "$*"; }

step "1/4 Installing what is missing: etcd, protoc, a C compiler and Rust (with sudo, unless you are root)"
.ci/setup build

step "2/4 Building hamaster (some minutes the first time)"
cargo build --locked --release
hamaster=${CARGO_TARGET_DIR:-target}/release/hamaster

step "3/4 Starting three masters: one makes the cluster, the others join it with a token"
"$hamaster" lab up --masters 3

step "4/4 Looking at it"
"$hamaster" lab status

cat <<NEXT

There it is. What to try next:

    $hamaster lab status                the masters at a glance
    $hamaster lab up                    again: nothing to do
    $hamaster lab kill m1               a power cut: who leads now? $hamaster lab watch
    $hamaster lab add                   a fourth
    $hamaster lab down                  end it

    $hamaster render --node m1 --advertise-ip 192.0.2.11 --out out     every file of a real master, to read
    $hamaster init --name m1 --advertise-ip 192.0.2.11 --dry-run       what init would do to this very host
NEXT
