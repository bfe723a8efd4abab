#!/usr/bin/env bash
#
# naive.sh GROUP ID SOURCE MANIFEST: a fair attempt at an election by compare-and-swap on a leased key, as podmaster and
# many a script do it. Whoever creates the key leads and keeps the lease alive; whoever reads that another has it
# removes its manifest. What it lacks is the whole point: it does not fence by its own clock, so while it is frozen or
# cut off its manifest stays, and etcd gives the key to the next.
set -u
readonly key=/naive/$1 id=$2 source=$3 manifest=$4 ttl=5
lease=''

ask() { etcdctl --command-timeout=1s --dial-timeout=1s "$@" 2>/dev/null; }

install_manifest() { [[ -e $manifest ]] || { cp "$source" "${manifest%/*}/.new" && mv "${manifest%/*}/.new" "$manifest"; }; }

lead() {
    [[ -n $lease ]] && ask lease keep-alive --once "$lease" | grep -q keepalived || lease=''
    if [[ -z $lease ]]; then
        lease=$(ask lease grant "$ttl" | sed -n 's/^lease \([0-9a-f]*\) .*/\1/p')
        [[ -n $lease ]] || return 0
    fi
    ask txn <<EOF >/dev/null
create("$key") = "0"

put $key $id --lease=$lease


EOF
    case $(ask get --print-value-only "$key" || echo unknown) in
    "$id") install_manifest ;;
    unknown) ;; # etcd does not answer: what was true a moment ago is the best guess
    *) rm -f "$manifest" ;;
    esac
}

rm -f "$manifest"
trap 'rm -f "$manifest"; [[ -z $lease ]] || ask lease revoke "$lease" >/dev/null; exit 0' TERM
while true; do
    lead
    sleep 1
done
