#!/usr/bin/env bash
#
# The nemesis at length, as root:
#
#     tests/elect/run.sh --runs 1000                      # the real thing
#     tests/elect/run.sh --profile default|fast|plain     # whose times; fast by default
#     tests/elect/run.sh --seed N --runs 1                # replay a run
#     tests/elect/run.sh --against naive|etcdctl          # what others would have done
#     tests/elect/run.sh --workers 6                      # clusters side by side
#     tests/elect/run.sh --minutes 30                     # no new run after that
#     tests/elect/run.sh --binary FILE                    # a hamaster that is built already
#
# Its last line is the result as JSON. It exits 0 when there was never more than one leader and always one again.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
export PATH="$HOME/.cargo/bin:$PATH"
while (($#)); do
    case $1 in
    --runs | --profile | --seed | --against | --workers | --minutes | --binary)
        name=${1#--}
        export "HAMASTER_ELECT_${name^^}=${2:?$1 wants a value}"
        shift 2
        ;;
    *)
        sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
        exit 2
        ;;
    esac
done
export HAMASTER_ELECT_RUNS=${HAMASTER_ELECT_RUNS:-1000} HAMASTER_ELECT_PROFILE=${HAMASTER_ELECT_PROFILE:-fast}
exec cargo test --quiet --release --test elect -- --exact nemesis::nemesis --nocapture
