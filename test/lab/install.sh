#!/usr/bin/env bash
# Installs the programs that the lab (test/lab) runs: a real gateway daemon and independent clients.
# Where there is no apt it installs nothing and succeeds: the lab's tests then report themselves as skipped.
set -euo pipefail

packages=(systemd miniupnpd miniupnpd-nftables nftables miniupnpc natpmpc iproute2 socat conntrack tcpdump)
packages+=(transmission-daemon qbittorrent-nox deluged deluge-web)

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

# Packages start their daemons, here and at each boot. The lab starts its own, in networks of its own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi

echo "lab: installing ${missing[*]}"
"${apt[@]}" update </dev/null
"${apt[@]}" install --no-install-recommends "${missing[@]}" </dev/null
for daemon in miniupnpd transmission-daemon deluged deluge-web; do
  [[ " ${missing[*]} " != *" $daemon "* ]] || "${as_root[@]}" systemctl --quiet disable "$daemon" || true
done
