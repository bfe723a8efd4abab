#!/usr/bin/env bash
#
# Makes a container image of one static program, without a registry or a daemon.
#
#     tests/hosts/image.sh NAME:TAG PROGRAM FILE.tar
#
# The result is what `docker save` writes; docker load and ctr images import both take it.
set -euo pipefail

main() {
    local name=$1 program=$2 out=$3 dir diff id
    dir=$(mktemp -d "$out.XXXXXX")
    # shellcheck disable=SC2064 # the value of now is meant
    trap "rm -rf '$dir'" EXIT
    tar -cf "$dir/layer.tar" --owner=0 --group=0 --mtime=@0 --mode=0755 \
        --transform='s,^.*/,usr/local/bin/,' --absolute-names "$program"
    diff=$(sha256sum <"$dir/layer.tar" | cut -d' ' -f1)
    printf '{"architecture":"amd64","os":"linux","config":{"Entrypoint":["%s"],"Env":["PATH=%s"]},%s}' \
        "${program##*/}" /usr/local/bin "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:$diff\"]}" >"$dir/config"
    id=$(sha256sum <"$dir/config" | cut -d' ' -f1)
    mv "$dir/config" "$dir/$id.json"
    printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$id" "$name" >"$dir/manifest.json"
    tar -cf "$out" -C "$dir" manifest.json "$id.json" layer.tar
}

main "$@"
