#!/bin/sh
# Make .venv and install exactly what constraints.txt names. Starts at once when nothing changed; an interrupted run is mended by the next.
set -eu
cd "$(dirname "$0")/.."
unset PYTHONPATH PYTHONHOME 2>/dev/null || true
venv=.venv busy=.setup.stamp
key=$(cat requirements.txt constraints.txt pyproject.toml scripts/setup.sh | cksum)

usable() { "$1" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
if [ ! -e "$busy" ] && [ "$(cat $venv/installed.stamp 2>/dev/null)" = "$key" ] && usable $venv/bin/python; then exit 0; fi

# A killed process may stay in the table as a zombie until its parent looks; it installs nothing any more.
alive() { kill -0 "$1" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }

# The busy file holds the number of the process that installs. Left behind by a dead one, it says that .venv is half made.
if [ -e "$busy" ]; then
  other=$(cat "$busy")
  if [ -n "$other" ] && alive "$other"; then
    echo "Set-up is already running as process $other. Wait until it ends, then try again. (If it is not mmkit's: rm $busy)" >&2; exit 1
  fi
  echo "The last set-up was interrupted. Starting afresh."
  rm -rf "$venv"
fi
echo $$ > "$busy"

# A candidate must really start: version managers leave names behind that only print an error.
find_python() {
  lame=""
  for name in python3.11 python3.12 python3.13 python3; do
    "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
    if "$name" -c 'import venv, ensurepip' >/dev/null 2>&1; then echo "$name"; return; fi
    lame=$name
  done
  if [ -n "$lame" ]; then echo "$lame was found, but it cannot create environments (ensurepip is missing). On Debian or Ubuntu: apt-get install ${lame}-venv" >&2
  else echo "No Python 3.11 or newer was found as python3.11, python3.12, python3.13 or python3. Install one, then try again." >&2; fi
  rm -f "$busy"; return 1
}
if ! usable $venv/bin/python; then
  python=$(find_python)
  echo "Making $venv with $($python --version)."
  "$python" -m venv --clear "$venv"
fi

# setuptools comes first, so that building mmkit itself fetches nothing that constraints.txt does not name.
echo "Installing the pinned packages: two to four minutes, once."
pip() { $venv/bin/python -m pip --disable-pip-version-check "$@"; }
pip install --quiet -c constraints.txt setuptools
pip install --quiet -c constraints.txt -r requirements.txt --no-build-isolation -e ".[lab,encoders]"
pip check
echo "$key" > $venv/installed.stamp
rm -f "$busy"
