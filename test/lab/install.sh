#!/usr/bin/env bash
# Installs the programs that the lab (test/lab) runs: a real gateway daemon and independent clients.
# Where that cannot be, the lab's tests report themselves as skipped.
set -euo pipefail

packages=(systemd miniupnpd miniupnpd-nftables nftables miniupnpc natpmpc iproute2 iptables socat conntrack tcpdump)
packages+=(transmission-daemon qbittorrent-nox deluged deluge-web)
# Control points that are neither miniupnp's nor ours: searches, events, and the mappings of whoever uses libgupnp-igd.
packages+=(gupnp-tools gir1.2-gupnp-1.6 gir1.2-gupnpigd-1.0 python3-gi)
bash "$(dirname "$0")/../../scripts/apt-install.sh" lab "${packages[@]}"
