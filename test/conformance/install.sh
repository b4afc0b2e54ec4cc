#!/usr/bin/env bash
# Installs the forwarders that the conformance suite (test/conformance) runs beside natward.
# Where there is no apt it installs nothing and succeeds: the programs that are missing then say so themselves.
set -euo pipefail

packages=(haproxy nginx-light libnginx-mod-stream socat rinetd)

if ! command -v apt-get >/dev/null; then
  echo 'conformance: this system has no apt-get, so nothing was installed.'
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo 'conformance: everything is installed.'
  exit 0
fi

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
# The lock is waited for: a fresh machine often still runs its own first upgrade.
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -q -y)

# Packages start their daemons, here and at each boot. The suite starts its own, on loopback.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi

echo "conformance: installing ${missing[*]}"
"${apt[@]}" update </dev/null
"${apt[@]}" install --no-install-recommends "${missing[@]}" </dev/null
command -v systemctl >/dev/null || exit 0
for daemon in haproxy nginx rinetd; do
  for package in "${missing[@]}"; do
    [[ "$package" != "$daemon"* ]] || "${as_root[@]}" systemctl --quiet disable "$daemon" || true
  done
done
