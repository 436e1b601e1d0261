#!/bin/bash
# roundup.sh DIR PORT VENV [CALLS]: a Roundup tracker with everything below DIR, on loopback. Runs in the foreground, as nobody: the server refuses to be root.
# CALLS: so many REST calls are taken in ten seconds; 0 or none: any number.
set -euo pipefail
DIR=${1:?} PORT=${2:?} VENV=${3:?} CALLS=${4:-0}
roundup-admin() { "$VENV/bin/roundup-admin" "$@" >> "$DIR/init.log" 2>&1 < /dev/null; }
mkdir -p "$DIR"
roundup-admin -i "$DIR/t" install classic sqlite \
  "tracker_web=http://127.0.0.1:$PORT/t/,mail_domain=test.invalid,mail_host=127.0.0.1,mail_debug=$DIR/mail.txt"
roundup-admin -i "$DIR/t" initialise admin
if [ "$CALLS" -gt 0 ]; then
  sed -i -e "s/^#* *api_calls_per_interval *=.*/api_calls_per_interval = $CALLS/" -e 's/^#* *api_interval_in_sec *=.*/api_interval_in_sec = 10/' "$DIR/t/config.ini"
  grep -q "^api_calls_per_interval = $CALLS$" "$DIR/t/config.ini"
fi
chmod 755 "$DIR"
chown -R nobody:nogroup "$DIR"
exec setpriv --reuid=nobody --regid=nogroup --clear-groups "$VENV/bin/roundup-server" -n 127.0.0.1 -p "$PORT" t="$DIR/t"
