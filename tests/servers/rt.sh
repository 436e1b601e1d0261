#!/bin/bash
# rt.sh DIR PORT [KEPT]: Request Tracker 5 with everything below DIR, on loopback. KEPT is a folder that keeps what initialising gave,
# for the next start. Runs in the foreground; SIGTERM ends it with its workers.
set -euo pipefail
DIR=${1:?} PORT=${2:?} KEPT=${3:-}
HERE=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$DIR"/{conf.d,mason,sess,log,tmp}
cat > "$DIR/RT_SiteConfig.pm" <<C
Set(\$rtname, 'test.invalid'); Set(\$Organization, 'test.invalid');
Set(\$WebDomain, '127.0.0.1'); Set(\$WebPort, $PORT); Set(\$WebPath, '');
Set(\$DatabaseType, 'SQLite'); Set(\$DatabaseName, '$DIR/rt.sqlite');
Set(\$MailCommand, 'testfile'); Set(\$Timezone, 'UTC');
Set(\$BcryptCost, 4);
Set(\$LogToSyslog, undef); Set(\$LogToSTDERR, 'error');
\$RT::VarPath = '$DIR'; \$RT::MasonDataDir = '$DIR/mason'; \$RT::MasonSessionDir = '$DIR/sess';
1;
C
export RT_SITE_CONFIG="$DIR/RT_SiteConfig.pm" RT_SITE_CONFIG_DIR="$DIR/conf.d" RT_TOKEN_FILE="$DIR/token" TMPDIR="$DIR/tmp"
initialise() {
  rt-setup-database-5 --action init --skip-create > "$DIR/log/init.log" 2>&1
  rt-setup-database-5 --action insert --skip-create --datafile "$HERE/rt-seed.pl" >> "$DIR/log/init.log" 2>&1
}
if [ -n "$KEPT" ]; then
  mkdir -p "$KEPT"
  exec 9> "$KEPT/lock"
  flock 9
  # What another seed gave is no longer good.
  seed=$(cksum < "$HERE/rt-seed.pl")
  if [ ! -s "$KEPT/token" ] || [ "$(cat "$KEPT/seed" 2>/dev/null)" != "$seed" ]; then
    initialise
    echo "$seed" > "$KEPT/seed"
    cp "$DIR/rt.sqlite" "$KEPT/rt.sqlite"
    cp "$DIR/token" "$KEPT/token"
  fi
  flock -u 9
  exec 9>&-
  cp "$KEPT/rt.sqlite" "$KEPT/token" "$DIR/"
elif [ ! -s "$DIR/rt.sqlite" ]; then
  initialise
fi
exec /usr/share/request-tracker5/libexec/rt-server --server Starlet --host 127.0.0.1 --port "$PORT" --max-workers 3
