# Every suite's `run` sources this file first, with the tools that the suite needs as arguments.
#
# A suite works from any folder, and does not depend on the caller's settings for AWS, Python and proxies. This file
# sets `root` (the repository) and `suite` (the suite's folder), and changes to `root`, because cargo reads its
# configuration from the current folder, and resolves a relative CARGO_TARGET_DIR there.
set -euo pipefail
# With CDPATH, `cd` prints the folder's name.
unset CDPATH PYTHONHOME PYTHONPATH "${!AWS_@}"

suite=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
for tool in "$@"; do
    command -v "$tool" >/dev/null || { echo "${suite##*/}: $tool is missing" >&2; exit 2; }
done

# No suite uses an AWS account. Tools want a region all the same.
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true
export AWS_DEFAULT_REGION=us-east-1
# Everything listens on the loopback interface, and packages may still come through the caller's proxy.
direct=${NO_PROXY:-${no_proxy:-}}
direct=127.0.0.1${direct:+,$direct}
export NO_PROXY=$direct no_proxy=$direct
export PYTHONDONTWRITEBYTECODE=1 PYTHONUTF8=1
cd "$root"

# Installs the npm packages of a folder, unless it has those of the same pins. No package's script runs, except those of
# the packages that are named after the folder: they install programs for this machine.
install_packages() {
    local folder=$1
    shift
    if ! cmp -s "$folder/package-lock.json" "$folder/node_modules/.pins"; then
        (
            cd "$folder"
            npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
            [ $# = 0 ] || npm rebuild "$@" --loglevel=error
        )
        cp "$folder/package-lock.json" "$folder/node_modules/.pins"
    fi
}

# Starts `cargo local`, and sets STACK to the line of JSON that it prints when it is ready. It ends with the suite.
start_stack() {
    cargo build --quiet --locked --package local
    scratch=$(mktemp -d)
    stack=
    trap stop_stack EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkfifo "$scratch/output"
    cargo --quiet local --port 0 --json >"$scratch/output" &
    stack=$!
    exec 3<"$scratch/output"
    IFS= read -r -t 120 -u 3 STACK || { echo "${suite##*/}: cargo local did not start" >&2; exit 1; }
    export STACK
}

stop_stack() {
    if [ -n "$stack" ]; then
        kill "$stack" 2>/dev/null || true
        wait "$stack" || true
    fi
    rm -rf "$scratch"
}
