#!/usr/bin/env bash
# Everything that must hold before a push, and the one script CI runs.
#
#   tests/run.sh         installs the servers and clients the tests talk to, then: format, lints, tests, docs
#   tests/run.sh fast    the same without installing anything; tests that need a missing server say SKIPPED
#
# Runs as root on a fresh Debian 12 with Rust, from any folder, without a terminal. A second run installs nothing.
# Every step runs even if an earlier one failed (but no test runs when nothing compiles); the exit code says whether all
# passed. OMNIGATE_KILLS=n asks for more rounds of the kill test than the default 100.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
mode=${1:-full}
servers="$root/target/test-servers"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
export OMNIGATE_TEST_SERVERS="$servers"

case "$mode" in
    full) export OMNIGATE_REQUIRE_SERVERS=1 ;;
    fast) ;;
    *) echo "usage: tests/run.sh [full|fast]" >&2; exit 2 ;;
esac

summary=""
failed=0
last=0
started=$(date +%s)

# step NAME COMMAND…: runs one step, notes how long it took and whether it passed.
step() {
    local name=$1 from code=0
    shift
    from=$(date +%s)
    printf '\n=== %s\n' "$name"
    # Not `"$@" || code=$?`: that would switch `set -e` off inside the step.
    set +e
    (set -e; "$@" </dev/null)
    code=$?
    set -e
    local span=$(($(date +%s) - from))
    if [ "$code" -eq 0 ]; then
        summary+=$(printf '\n  %-10s %4d s  %s' ok "$span" "$name")
    else
        summary+=$(printf '\n  %-10s %4d s  %s (exit %d)' FAILED "$span" "$name" "$code")
        failed=1
    fi
    last=$code
}

# The programs the tests start, each with the Debian package that has it.
apt_packages() {
    local need=()
    command -v cc >/dev/null || need+=(gcc libc6-dev)
    command -v dovecot >/dev/null || need+=(dovecot-imapd)
    command -v mbsync >/dev/null || need+=(isync)
    command -v prosody >/dev/null || need+=(prosody)
    [ -x /usr/sbin/ngircd ] || need+=(ngircd)
    [ -x /usr/sbin/inspircd ] || need+=(inspircd)
    command -v openssl >/dev/null || need+=(openssl)
    command -v strace >/dev/null || need+=(strace)
    # The program, not the shell's own word: tests send signals by it.
    [ -n "$(type -P kill)" ] || need+=(procps)
    command -v python3 >/dev/null || need+=(python3)
    python3 -c 'import venv, ensurepip' 2>/dev/null || need+=(python3-venv)
    command -v npm >/dev/null || need+=(nodejs npm)
    # Bluesky's servers: two databases, and what a native module of theirs is built with.
    command -v redis-server >/dev/null || need+=(redis-server)
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || need+=(postgresql)
    command -v g++ >/dev/null || need+=(g++)
    command -v make >/dev/null || need+=(make)
    [ -e /usr/include/node/node.h ] || ! apt-cache show libnode-dev >/dev/null 2>&1 || need+=(libnode-dev)
    # Ticket servers: no Apache, no database server, no mail server. `dbconfig-no-thanks` keeps the packages from setting databases up.
    [ -e /usr/share/request-tracker5/libexec/rt-server ] || need+=(request-tracker5 rt5-db-sqlite rt5-standalone dbconfig-no-thanks msmtp-mta)
    [ -e /usr/share/redmine/Gemfile.lock ] || need+=(redmine redmine-sqlite ruby-webrick dbconfig-no-thanks)
    if [ "${#need[@]}" -eq 0 ]; then
        echo "all there"
        return 0
    fi
    echo "installing ${need[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # Packages that start a daemon when they are installed must not: the tests start their own.
    local policy=/usr/sbin/policy-rc.d made=0
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made=1
    fi
    local code=0
    apt-get update -qq >"$servers/apt.log" 2>&1 || code=$?
    # Redmine is set up by Debian's own Bundler, which alone finds Debian's gems; newer Rubies bring another beside it.
    local bundler
    bundler=$(apt-cache policy ruby-bundler | sed -n 's/.*Candidate: \([0-9.]*\).*/\1/p')
    [ -z "$bundler" ] || export BUNDLER_VERSION=$bundler
    { [ "$code" -eq 0 ] && apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${need[@]}"; } >>"$servers/apt.log" 2>&1 || code=$?
    [ "$made" -eq 0 ] || rm -f "$policy"
    [ "$code" -eq 0 ] || tail -n 30 "$servers/apt.log"
    return "$code"
}

# unpacked FOLDER PROGRAM PACKAGE…: these packages, unpacked below $servers and not installed: installed they would start daemons and
# replace files.
unpacked() {
    local at="$servers/$1" work="$servers/$1.debs" program="$2" package
    if [ -x "$at/$program" ]; then
        echo "all there"
        return 0
    fi
    rm -rf "$at" "$work"
    mkdir -p "$work"
    apt-get update -qq
    (cd "$work" && apt-get download -qq "${@:3}") >"$servers/$1.log" 2>&1 || { tail -n 30 "$servers/$1.log"; return 1; }
    for package in "$work"/*.deb; do
        dpkg -x "$package" "$at"
    done
    rm -rf "$work"
}

# Two IMAP servers beside the installed one, with the libraries that are not on every machine.
courier_server() {
    unpacked courier usr/bin/imapd courier-imap courier-base courier-authlib libcourier-unicode4 libgamin0 libgdbm6 libidn12 libpcre3
}

cyrus_server() {
    unpacked cyrus usr/lib/cyrus/bin/master cyrus-common cyrus-imapd libical3 libpcre3 libxapian30 libzephyr4 libwrap0
}

# python_packages FOLDER PACKAGE…: a virtual environment of its own below $servers with these packages of Python's registry. `build_with`
# names what is put there first, for packages that need it to be built and do not say so.
python_packages() {
    local at="$servers/$1" want="${*:2}"
    if [ "$(cat "$at/.installed" 2>/dev/null)" = "$want" ]; then
        echo "all there"
        return 0
    fi
    python3 -m venv --clear "$at"
    [ -z "${build_with:-}" ] || "$at/bin/python" -m pip install --quiet --disable-pip-version-check $build_with
    "$at/bin/python" -m pip install --quiet --disable-pip-version-check "${@:2}"
    echo "$want" >"$at/.installed"
}

# node_packages FOLDER PACKAGE…: a `node_modules` below $servers with these packages of npm's registry. No scripts of theirs run: one of
# them would fetch a tunnel that nobody needs.
node_packages() {
    local at="$servers/$1" want="${*:2}"
    if [ "$(cat "$at/node_modules/.installed" 2>/dev/null)" = "$want" ]; then
        echo "all there"
        return 0
    fi
    mkdir -p "$at"
    [ -e "$at/package.json" ] || echo '{"private": true}' >"$at/package.json"
    npm install --prefix "$at" --ignore-scripts --no-audit --no-fund --no-progress --silent "${@:2}"
    echo "$want" >"$at/node_modules/.installed"
}

# Published verifiers in two languages: what a CRM developer would use on our deliveries. And a receiver of mails with a judge of DKIM.
python_clients() { python_packages venv standardwebhooks==1.1.0 jsonschema==4.25.1 aiosmtpd==1.4.6 dkimpy==1.1.8; }
node_clients() { node_packages . standardwebhooks@1.1.1; }

# A Matrix homeserver.
matrix_server() { python_packages synapse matrix-synapse==1.163.2; }

# A server of Mastodon's API, and a client of it.
mastodon_server() { python_packages mastodon mastodon-mock==0.6.1 Mastodon.py==2.3.3; }

# Bluesky's own servers and client. One module of theirs is native, and its script would fetch it ready-made from elsewhere: it is built here.
bluesky_servers() {
    node_packages bluesky @atproto/dev-env@0.3.215
    local sqlite="$servers/bluesky/node_modules/better-sqlite3"
    [ ! -e "$sqlite/build/Release/better_sqlite3.node" ] || return 0
    # Not optimised: that takes minutes, and the tests do not ask much of it.
    CFLAGS=-O0 CXXFLAGS=-O0 JOBS=2 npm_config_build_from_source=true npm_config_nodedir=/usr \
        npm rebuild --prefix "$servers/bluesky" --foreground-scripts better-sqlite3 >"$servers/bluesky.log" 2>&1 ||
        { tail -n 30 "$servers/bluesky.log"; return 1; }
}

# Ticket servers of Python's registry. Roundup runs as nobody, who must be able to read it.
ticket_servers() {
    python_packages desks-venv roundup==2.6.0
    build_with="setuptools==80.9.0 wheel==0.45.1 packaging==25.0" \
        python_packages helpdesk-venv django-helpdesk==2.6.1 django-bootstrap4-form==4.0.2 packaging==25.0
}

# SDKs of platforms, which sign requests and judge signatures: the other side of our hooks.
python_sdks() {
    python_packages sdks-python twilio==9.13.0 slack_sdk==3.47.0 line-bot-sdk==3.27.0 discord-interactions==0.4.0 svix==2.9.1 \
        messagebird==2.2.0 plivo==4.63.0 vonage-jwt==1.1.5 sendgrid==6.12.5 viberbot==1.0.12 wechatpy==1.8.18 gidgethub==6.0.0 \
        pywa==4.5.0 telnyx==4.189.0 google-auth==2.62.2 PyJWT==2.15.1 PyNaCl==1.6.2 cryptography==50.0.2 pycryptodome==4.4.0
}
node_sdks() {
    node_packages sdks-node @octokit/webhooks@14.2.0 svix@2.5.0 standardwebhooks@1.1.1 twilio@6.2.0 @line/bot-sdk@11.2.0 \
        discord-interactions@4.4.0 messagebird@4.0.1 plivo@4.79.0 @vonage/jwt@1.12.1 @sendgrid/eventwebhook@8.0.0 \
        @slack/events-api@3.0.1 mailgun-js@0.22.0 twitter-autohook@1.7.2
}

# The closing line of the runner comes last of this step: nextest if it is there (a process and a time limit per test).
run_tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --no-fail-fast --status-level slow --final-status-level fail --show-progress none
    else
        cargo test --no-fail-fast -- --quiet
    fi
}

mkdir -p "$servers"
if [ "$mode" = full ]; then
    step "servers: apt" apt_packages
    step "servers: courier" courier_server
    step "servers: cyrus" cyrus_server
    step "servers: matrix" matrix_server
    step "servers: mastodon" mastodon_server
    step "servers: bluesky" bluesky_servers
    step "servers: tickets" ticket_servers
    step "clients: python" python_clients
    step "clients: node" node_clients
    step "sdks: python" python_sdks
    step "sdks: node" node_sdks
fi
step "format" cargo fmt --check
step "lints" cargo clippy --quiet --all-targets --no-deps -- -D warnings
step "docs" env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps
step "compile" cargo build --quiet --bins --tests
[ "$last" -ne 0 ] || step "tests" run_tests

printf '\n=== summary (%d s in all)%s\n' "$(($(date +%s) - started))" "$summary"
[ "$failed" -eq 0 ] || { echo "NOT GREEN"; exit 1; }
echo "GREEN"
