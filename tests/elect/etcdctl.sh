#!/usr/bin/env bash
#
# etcdctl.sh GROUP ID SOURCE MANIFEST: what is usually written around `etcdctl elect`. It prints the key and the value
# when it leads and ends when its session does.
set -u
readonly group=$1 id=$2 source=$3 manifest=$4

rm -f "$manifest"
trap 'kill "$elect" 2>/dev/null; wait "$elect"; rm -f "$manifest"; exit 0' TERM
while true; do
    exec 3< <(exec etcdctl elect "/etcdctl/$group" "$id" 2>/dev/null)
    elect=$!
    if read -r -u 3 _ && read -r -u 3 _; then
        cp "$source" "${manifest%/*}/.new" && mv "${manifest%/*}/.new" "$manifest"
        wait "$elect"
        rm -f "$manifest"
    fi
    exec 3<&-
    sleep 1 &
    wait $!
done
