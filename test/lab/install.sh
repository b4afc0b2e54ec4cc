#!/usr/bin/env bash
# Installs the programs that the lab (test/lab) runs: a real gateway daemon and independent clients.
# Where there is no apt it installs nothing and succeeds: the lab's tests then report themselves as skipped.
set -euo pipefail

packages=(systemd miniupnpd miniupnpd-nftables nftables miniupnpc natpmpc iproute2 socat conntrack tcpdump)

if ! command -v apt-get >/dev/null; then
  echo 'lab: this system has no apt-get, so nothing was installed and the lab tests will be skipped.'
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo 'lab: everything is installed.'
  exit 0
fi

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
# The lock is waited for: a fresh machine often still runs its own first upgrade.
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -q -y)

echo "lab: installing ${missing[*]}"
"${apt[@]}" update </dev/null
"${apt[@]}" install --no-install-recommends "${missing[@]}" </dev/null
