#!/usr/bin/env bash
# Installs the built wheel as users do, with each extra, each in a clean environment, and runs the README's program.
#
#   scripts/smoke.sh PYTHON [dist]
set -euo pipefail
python=$1
dist=${2:-dist}
root=$(cd "$(dirname "$0")/.." && pwd)
wheel=$(ls "$root/$dist"/agent_messaging-*.whl)
most=15  # packages of a base install

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" - "$root/README.md" > "$work/first.py" <<'PROGRAM'
import re, sys
print(re.search(r"^```python\n(.*?)^```$", open(sys.argv[1]).read(), re.M | re.S)[1])
PROGRAM

for extra in "" postgres redis zstd; do
  environment=$work/env-${extra:-base}
  folder=$work/run-${extra:-base}
  mkdir "$folder"
  if command -v uv > /dev/null 2>&1; then
    uv venv --quiet --python "$python" "$environment"
    uv pip install --quiet --python "$environment/bin/python" "$wheel${extra:+[$extra]}"
    count=$(uv pip list --quiet --python "$environment/bin/python" --format freeze | wc -l)
  else
    "$python" -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel${extra:+[$extra]}"
    count=$("$environment/bin/python" -m pip list --format freeze | grep -cvE '^(pip|setuptools)==')
  fi
  for _ in 1 2; do (cd "$folder" && "$environment/bin/python" "$work/first.py"); done
  (cd "$folder" && "$environment/bin/agent-messaging" inbox bob > /dev/null)
  for driver in asyncpg redis zstandard; do
    "$environment/bin/python" -c "import $driver" 2> /dev/null && drivers="${drivers:-} $driver" || true
  done
  echo "${extra:-base}: $count packages; drivers:${drivers:- none}"
  drivers=
  if [ -z "$extra" ] && [ "$count" -gt "$most" ]; then
    echo "The base install has $count packages, and may have $most." >&2
    exit 1
  fi
done
