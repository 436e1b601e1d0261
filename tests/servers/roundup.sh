#!/bin/bash
# roundup.sh DIR PORT VENV: a Roundup tracker with everything below DIR, on loopback. Runs in the foreground, as nobody: the server refuses to be root.
set -euo pipefail
DIR=${1:?} PORT=${2:?} VENV=${3:?}
roundup-admin() { "$VENV/bin/roundup-admin" "$@" >> "$DIR/init.log" 2>&1 < /dev/null; }
mkdir -p "$DIR"
roundup-admin -i "$DIR/t" install classic sqlite \
  "tracker_web=http://127.0.0.1:$PORT/t/,mail_domain=test.invalid,mail_host=127.0.0.1,mail_debug=$DIR/mail.txt"
roundup-admin -i "$DIR/t" initialise admin
chmod 755 "$DIR"
chown -R nobody:nogroup "$DIR"
exec setpriv --reuid=nobody --regid=nogroup --clear-groups "$VENV/bin/roundup-server" -n 127.0.0.1 -p "$PORT" t="$DIR/t"
