#!/usr/bin/env bash
# Put pgbouncer, which the tests of poolers run, into a folder: nothing is installed, and root is not needed.
# Where there is none to be had (no apt, no network), says so and ends well: those tests are then skipped.
set -uo pipefail
folder=$1
if command -v pgbouncer >/dev/null 2>&1; then exit 0; fi
mkdir -p "$folder/packages" && cd "$folder/packages" || exit 0
fetch() {
  local libraries
  libraries=$(apt-cache depends pgbouncer 2>/dev/null | sed -n 's/^ *Depends: \(libc-\?ares2[^ ]*\|libevent-[^ ]*\)$/\1/p')
  # shellcheck disable=SC2086
  timeout 60 apt-get download pgbouncer $libraries >/dev/null 2>&1
}
if command -v apt-get >/dev/null 2>&1 && command -v dpkg >/dev/null 2>&1; then
  fetch || { timeout 60 apt-get update >/dev/null 2>&1 && fetch; }
fi
for package in *.deb; do
  [ -e "$package" ] && dpkg -x "$package" ..
done
cd .. && rm -rf packages
if [ -x usr/sbin/pgbouncer ]; then touch .ready; else echo "no pgbouncer could be got: the tests of poolers are skipped"; fi
exit 0
