#!/usr/bin/env bash
# Runs a sample of the tests on each Python that the package is for and that this machine has: the unit tests, conformance
# on SQLite, the test kit, and processes that are killed. Each Python has an environment of its own, in .venv/pythons.
#
#   scripts/pythons.sh [VERSION...]      such as 3.12 3.13; none is all. WORKERS=2 shares the machine with others.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- 3.11 3.12 3.13 3.14
sample=(tests/unit tests/conformance tests/client/test_kit.py tests/client/test_sync.py tests/processes/test_topics.py)

found=$(scripts/find_pythons.sh)

failed=
for version in "$@"; do
  python=$(sed -n "s/^$version //p" <<< "$found")
  if [ -z "$python" ]; then
    echo "Python $version: not on this machine, skipped"
    continue
  fi
  environment=.venv/pythons/$version
  if [ ! "$environment/.ready" -nt pyproject.toml ]; then
    echo "Python $version: making $environment with $python"
    if command -v uv > /dev/null 2>&1; then
      uv venv --quiet --allow-existing --python "$python" "$environment"
      uv pip install --quiet --python "$environment/bin/python" -e '.[dev]'
    else
      "$python" -m venv "$environment"
      "$environment/bin/python" -m pip install --quiet --disable-pip-version-check -e '.[dev]'
    fi
    touch "$environment/.ready"
  fi
  if "$environment/bin/python" -m pytest -q -n "${WORKERS:-4}" --dist load --maxschedchunk 2 --backend sqlite "${sample[@]}"; then
    echo "Python $version: passed"
  else
    failed="$failed $version"
  fi
done
if [ -n "$failed" ]; then
  echo "Failed on Python$failed." >&2
  exit 1
fi
