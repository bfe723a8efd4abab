#!/usr/bin/env bash
#
# Makes the root file system that every test host starts from, and keeps it in
# a cache outside the checkout. Prints its path, the only line on standard output.
#
#     tests/hosts/base.sh
#
# HAMASTER_CACHE moves the cache (/var/cache/hamaster-e2e by default).
#
# It is a plain Debian 12 with systemd, etcd and containerd, nothing started.
# Hosts mount it read-only below an overlay, so it never changes once made; its
# name carries the digest of this very script, so whoever changes it gets a new one.
set -euo pipefail

readonly SUITE=bookworm
readonly PACKAGES=(
    systemd systemd-sysv dbus iproute2 iptables conntrack kmod procps openssl ca-certificates
    etcd-server etcd-client containerd runc containernetworking-plugins
)
# Wake up by themselves and write below /var/lib while a test compares it.
readonly NOISE=(
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer
    e2scrub_reap.service fstrim.timer systemd-networkd-wait-online.service
)

# Debian's archives as apt on this machine knows them: mirrors and all.
sources() {
    # shellcheck disable=SC2016 # apt expands these, not the shell
    apt-get indextargets --format '$(CREATED_BY) $(RELEASE) $(COMPONENT) $(REPO_URI) $(ORIGIN)' |
        awk -v suite="$SUITE" '$1 == "Packages" && $2 ~ "^" suite && $3 == "main" && $5 == "Debian" {
            print "deb", $4, $2, $3 }' | sort -u
}

# make DIRECTORY: the tree, finished, or a failure.
make() {
    local dir=$1 include
    include=$(IFS=,; echo "${PACKAGES[*]}")
    [[ -n $(sources) ]] || apt-get -q update
    sources | mmdebstrap --quiet --variant=minbase --include="$include" \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "3"' "$SUITE" "$dir" -
    # Debian starts what it installs. Disabled, not masked: a mask is a file at the very path where hamaster
    # puts its own unit.
    systemctl --quiet --root="$dir" disable etcd.service containerd.service
    systemctl --quiet --root="$dir" mask "${NOISE[@]}"
    # Empty, so that each host gets its own at boot. "uninitialized" would make it a first boot, which enables
    # every service again.
    : >"$dir/etc/machine-id"
    # The machine's resolver is out of a host's reach, and every look-up would wait 15 s for it.
    rm -f "$dir/etc/resolv.conf"
    : >"$dir/etc/resolv.conf"
}

main() {
    local cache base
    exec 3>&1 1>&2
    export LC_ALL=C DEBIAN_FRONTEND=noninteractive
    umask 022
    cache=${HAMASTER_CACHE:-/var/cache/hamaster-e2e}
    base=$cache/rootfs-$(sha256sum <"$(realpath -- "${BASH_SOURCE[0]}")" | cut -c1-12)
    if [[ ! -d $base ]]; then
        mkdir -p -- "$cache"
        exec 9>"$cache/rootfs.lock"
        flock 9
        if [[ ! -d $base ]]; then
            echo "hosts: making the root file system, about two minutes" >&2
            rm -rf -- "$cache/rootfs-new"
            make "$cache/rootfs-new" 9>&-
            # A rename: whoever sees the directory sees all of it.
            mv -- "$cache/rootfs-new" "$base"
        fi
    fi
    printf '%s\n' "$base" >&3
}

main "$@"
exit
