#!/usr/bin/env bash
# Installs what was built as users do, and runs the README's program: the wheel alone, with each of its extras, and on
# each Python that is here; and the sdist. Each has a clean environment.
#
#   scripts/smoke.sh PYTHON [dist]
set -euo pipefail
python=$1
dist=${2:-dist}
root=$(cd "$(dirname "$0")/.." && pwd)
wheel=$(ls "$root/$dist"/agent_messaging-*.whl)
sdist=$(ls "$root/$dist"/agent_messaging-*.tar.gz)
most=15  # packages of a base install

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" - "$root/README.md" > "$work/first.py" <<'PROGRAM'
import re, sys
print(re.search(r"^```python\n(.*?)^```$", open(sys.argv[1]).read(), re.M | re.S)[1])
PROGRAM

# Those of users: the others are for work on the package itself, or for the examples that `make frameworks` runs.
extras=$("$python" - "$wheel" $(basename -s .py "$root"/examples/frameworks/*.py) <<'PROGRAM'
import email, sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
[name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
found = email.message_from_bytes(wheel.read(name)).get_all("Provides-Extra")
examples = {name.partition("with_")[2] for name in sys.argv[2:]}
print(*(extra for extra in found if extra not in ("bench", "dev", "docs") and extra.replace("-", "_") not in examples))
PROGRAM
)

# try NAME PYTHON WHAT-TO-INSTALL
try() {
  local environment=$work/env-$1 folder=$work/run-$1 count
  mkdir "$folder"
  if command -v uv > /dev/null 2>&1; then
    uv venv --quiet --python "$2" "$environment"
    uv pip install --quiet --python "$environment/bin/python" "$3"
    count=$(uv pip list --quiet --python "$environment/bin/python" --format freeze | wc -l)
  else
    "$2" -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$3"
    count=$("$environment/bin/python" -m pip list --format freeze | grep -cvE '^(pip|setuptools)==')
  fi
  for _ in 1 2; do (cd "$folder" && "$environment/bin/python" "$work/first.py"); done
  (cd "$folder" && "$environment/bin/agent-messaging" inbox bob > /dev/null)
  echo "$1: $count packages, $("$environment/bin/python" --version)"
  if [ "$3" = "$wheel" ] && [ "$count" -gt "$most" ]; then
    echo "The base install has $count packages, and may have $most." >&2
    exit 1
  fi
  rm -rf "$environment"
}

try base "$python" "$wheel"
for extra in $extras; do try "$extra" "$python" "$wheel[$extra]"; done
try sdist "$python" "$sdist"
found=$("$root/scripts/find_pythons.sh")
while read -r version other; do try "python$version" "$other" "$wheel" < /dev/null; done <<< "$found"
