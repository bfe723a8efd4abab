#!/bin/sh
# Puts an address on a device, takes it away, or says whether it is gone. Each can be said twice.
set -eu
usage='usage: vip.sh up|down|gone FILE'
verb=${1:?$usage}
. "${2:?$usage}"
present() { [ -n "$(ip -o addr show dev "$DEVICE" to "${ADDRESS%/*}")" ]; }
case $verb in
up)
    ip addr replace "$ADDRESS" dev "$DEVICE"
    # Neighbours remember the old host's MAC; without arping they ask again when their entry is stale.
    if command -v arping >/dev/null; then
        arping -U -q -c 3 -w 1 -I "$DEVICE" "${ADDRESS%/*}" &
    fi
    ;;
down) if present; then ip addr del "$ADDRESS" dev "$DEVICE"; fi ;;
gone) ! present ;;
*) echo "$usage" >&2 && exit 2 ;;
esac
