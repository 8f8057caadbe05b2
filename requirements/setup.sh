#!/usr/bin/env bash
# Makes the environment that `make` uses; does nothing when it is already as the lock files say. An environment runs the code of
# one checkout, so another checkout is refused it while the first exists. Reads VENV, PYTHON, TORCH_INDEX, and TAKE_OVER: not
# empty, the environment is moved to this checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv} python=${PYTHON:-python3.11} torch_index=${TORCH_INDEX:-}

fail() { echo "make setup: $*" >&2; exit 1; }

# Says how far pip is, by what it says itself: a terminal has one line that counts the packages, a log every 25th and large ones.
tell() {
  local step=$1 total=$2 count=0 name='' size line
  while read -r line; do
    case $line in
      "Collecting "*)
        count=$((count + 1)) name=${line#Collecting } name=${name%% *}
        if [ -t 1 ]; then
          printf '\r\033[Kmake setup: %s: %d of %d packages, %s' "$step" "$count" "$total" "$name"
        elif [ $((count % 25)) = 0 ]; then
          echo "make setup: $step: $count of $total packages"
        fi
        ;;
      "Ignoring "*": markers "*) total=$((total - 1)) ;; # it is for other platforms
      "Requirement already satisfied: "*) count=$((count + 1)) ;;
      "Downloading "*" "[MG]"B)")
        size=${line##*(} size=${size%)}
        if [ -t 1 ]; then
          printf ', %s' "$size"
        elif [[ $size = [0-9][0-9][0-9]* || $size = *GB ]]; then
          echo "make setup: $step: downloading $name, $size"
        fi
        ;;
      "Installing collected packages"*)
        [ ! -t 1 ] || printf '\r\033[K'
        echo "make setup: $step: all $count packages are here and are unpacked now"
        ;;
    esac
  done
}

# Installs from one lock file, or from what is given in its place.
install() {
  local step=$1 lock=$2
  shift 2
  PYTHONUNBUFFERED=1 "$venv/bin/pip" install --disable-pip-version-check --no-deps --progress-bar off "$@" |
    tell "$step" "$(grep -c '^[^ #]*==' "$lock")"
}

java_is_17() {
  local java=${JAVA_HOME:+$JAVA_HOME/bin/}java version
  version=$("$java" -version 2>&1 | sed -nE '1,3s/.*version "([0-9]+).*/\1/p') || return 1
  [ -n "$version" ] && [ "$version" -ge 17 ]
}

if ! java_is_17; then
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "make setup: installing Java 17, which TorchServe runs on, by apt-get: a minute or two"
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless; } >/dev/null ||
      fail "apt-get could not install openjdk-17-jre-headless; install Java 17 by hand and call this again"
  else
    fail "TorchServe needs Java 17: install it (Debian and Ubuntu: sudo apt-get install openjdk-17-jre-headless) or set JAVA_HOME"
  fi
fi

here=$(pwd -P)
owner=$(cat "$venv/.visor-checkout" 2>/dev/null) || owner=$here
if [ "$owner" != "$here" ]; then
  if [ ! -e "$owner/requirements/setup.sh" ]; then
    echo "make setup: $venv ran the code of $owner, which is gone; it runs the code of $here now"
  elif [ -n "${TAKE_OVER:-}" ]; then
    echo "make setup: $venv ran the code of $owner; it runs the code of $here now"
  else
    fail "$venv runs the code of another checkout, $owner; make this one an environment of its own (VENV=FOLDER)," \
      "or move that one here (make setup VENV=$venv TAKE_OVER=1)"
  fi
fi

want=$(cat requirements/torch.txt requirements/visor.txt <(echo "$torch_index") | sha256sum | cut -d' ' -f1)
stamp=$venv/.visor-lock
if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
  command -v "$python" >/dev/null || python=python3
  "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null ||
    fail "Python 3.11 is needed and $python is not; install it (Debian 12: apt-get install python3.11-venv) or set PYTHON="
  rm -f "$stamp"
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv" ||
    fail "$python cannot make an environment; on Debian and Ubuntu: sudo apt-get install python3.11-venv"
  size=8
  [ -z "$torch_index" ] || size=2.5
  echo "make setup: installing into $venv, once, in two steps, which take minutes, most of them for downloads, and" \
    "about $size GB of disk"
  if [ -n "$torch_index" ]; then
    # The same versions as locked, as a pair; other wheels have other hashes, so none are checked for these two.
    mapfile -t pair < <(sed -nE 's/^((torch|torchvision)==[^ ]+).*/\1/p' requirements/torch.txt)
    install "1 of 2, torch" <(printf '%s\n' "${pair[@]}") --index-url "$torch_index" "${pair[@]}"
  else
    install "1 of 2, torch" requirements/torch.txt --require-hashes -r requirements/torch.txt
  fi
  install "2 of 2, all else" requirements/visor.txt --require-hashes -r requirements/visor.txt
  echo "$want" >"$stamp"
fi
# The code itself, editable, which is quick: again where the environment was another checkout's, or the project's metadata changed.
project=$(sha256sum <pyproject.toml | cut -d' ' -f1)
if [ "$(cat "$venv/.visor-checkout" "$venv/.visor-project" 2>/dev/null)" != "$here"$'\n'"$project" ] || [ ! -x "$venv/bin/visor" ]; then
  rm -f "$venv/.visor-project"
  echo "$here" >"$venv/.visor-checkout"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
  echo "$project" >"$venv/.visor-project"
fi
