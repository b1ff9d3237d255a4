#!/usr/bin/env bash
# Prints a line for each Python from 3.11 to 3.14 that is on this machine and works: its version and its path.
# Looks for it by its name, by uv, and among the versions of pyenv; nothing is downloaded.
set -euo pipefail

is_version() { # a shim of pyenv is there for versions that are not switched on, and fails
  [ "$("$1" -c 'import ensurepip, sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null)" = "$2" ]
}

for version in 3.11 3.12 3.13 3.14; do
  for python in "python$version" \
    "$(UV_PYTHON_DOWNLOADS=never uv python find "$version" 2> /dev/null || true)" \
    "$(pyenv prefix "$(pyenv latest "$version" 2> /dev/null)" 2> /dev/null || true)/bin/python"; do
    if [ -n "$python" ] && is_version "$python" "$version"; then
      echo "$version $(command -v "$python")"
      break
    fi
  done
done
