#!/bin/bash
# redmine.sh DIR PORT [KEPT]: Redmine 5 of Debian with everything below DIR, on loopback. KEPT is a folder that keeps what initialising
# gave, for the next start. Runs in the foreground.
set -euo pipefail
DIR=${1:?} PORT=${2:?} KEPT=${3:-}
HERE=$(cd "$(dirname "$0")" && pwd)
# Only Debian's own Bundler finds Debian's gems; newer Rubies bring another beside it.
BUNDLER_VERSION=$(dpkg-query -W -f '${Version}' ruby-bundler | cut -d- -f1)
export BUNDLER_VERSION REDMINE_INSTANCE=test RAILS_ENV=production REDMINE_LANG=en HOME="$DIR"
# The package finds its instance below its own tree, so it gets a tree of its own.
mkdir -p "$DIR/app-root" "$DIR/inst/test"/{config,log,tmp/cache,files}
cp -rL /usr/share/redmine/{app,bin,config.ru,db,lib,public,Rakefile,Gemfile} "$DIR/app-root/"
cp -L /usr/share/redmine/Gemfile.lock "$DIR/app-root/" 2>/dev/null || true
for f in extra templates; do ln -sfn /usr/share/redmine/$f "$DIR/app-root/$f"; done
mkdir -p "$DIR/app-root/config"; cp -r /usr/share/redmine/config/* "$DIR/app-root/config/" 2>/dev/null || true
rm -f "$DIR/app-root/config/database.yml"; ln -sfn "$DIR/inst" "$DIR/app-root/instances"
printf 'production:\n  adapter: sqlite3\n  database: %s/redmine.sqlite3\n  timeout: 5000\n' "$DIR" | tee "$DIR/inst/test/config/database.yml" > "$DIR/app-root/config/database.yml"
head -c 64 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$DIR/inst/test/config/secret_key.txt"
cd "$DIR/app-root"
initialise() {
  # Two processes: in one, the roles fail for want of columns the other has just made.
  bundle exec rake db:migrate > "$DIR/init.log" 2>&1
  bundle exec rake redmine:load_default_data >> "$DIR/init.log" 2>&1
  bin/rails runner "$HERE/redmine-seed.rb" >> "$DIR/init.log" 2>&1
}
if [ -n "$KEPT" ]; then
  mkdir -p "$KEPT"
  exec 9> "$KEPT/lock"
  flock 9
  if [ ! -s "$KEPT/redmine.sqlite3" ]; then
    initialise
    cp "$DIR/redmine.sqlite3" "$KEPT/new" && mv "$KEPT/new" "$KEPT/redmine.sqlite3"
  fi
  flock -u 9
  exec 9>&-
  cp "$KEPT/redmine.sqlite3" "$DIR/"
elif [ ! -s "$DIR/redmine.sqlite3" ]; then
  initialise
fi
RUBYLIB=$(dirname "$(dpkg -L ruby-webrick | grep '/webrick.rb$')")
export RUBYLIB
exec rackup -s webrick -E production -o 127.0.0.1 -p "$PORT" config.ru
