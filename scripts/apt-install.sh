#!/usr/bin/env bash
# Installs packages that tests and benchmarks run, without their daemons: apt-install.sh WHAT PACKAGE...
# Where there is no apt it installs nothing and succeeds: what needs them then says what is missing.
set -euo pipefail

what=$1
shift

if ! command -v apt-get >/dev/null; then
  echo "$what: this system has no apt-get, so nothing was installed."
  exit 0
fi

missing=()
for package in "$@"; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "$what: everything is installed."
  exit 0
fi

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
# The lock is waited for: a fresh machine often still runs its own first upgrade.
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -q -y)

# Packages start their daemons, here and at each boot. Tests and benchmarks start their own, in networks of their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi

echo "$what: installing ${missing[*]}"
"${apt[@]}" update </dev/null
"${apt[@]}" install --no-install-recommends "${missing[@]}" </dev/null
command -v systemctl >/dev/null || exit 0
for daemon in miniupnpd transmission-daemon deluged deluge-web haproxy nginx rinetd; do
  [[ " ${missing[*]}" != *" $daemon"* ]] || "${as_root[@]}" systemctl --quiet disable "$daemon" || true
done
