"""
libgupnp-igd as chat programs use it: maps a port of this host (PROTOCOL EXTERNAL ADDRESS INTERNAL LEASE), renews it by
itself, and prints what comes of it as JSON lines. SIGUSR1 takes it back.
"""

import json
import signal
import sys

import gi

gi.require_version("GUPnPIgd", "1.0")
from gi.repository import GLib, GUPnPIgd  # noqa: E402

protocol, external, address, internal, lease = sys.argv[1:]


def tell(**fact):
    print(json.dumps(fact), flush=True)


def mapped(_igd, _protocol, external_ip, _replaces, external_port, local_ip, local_port, _description):
    tell(kind="mapped", address=external_ip, port=external_port, to=f"{local_ip}:{local_port}")


def failed(_igd, error, _protocol, external_port, _description):
    tell(kind="failed", port=external_port, error=error.message)


def remove():
    igd.remove_port(protocol, int(external))
    return GLib.SOURCE_REMOVE


igd = GUPnPIgd.SimpleIgd.new()
igd.connect("mapped-external-port", mapped)
igd.connect("error-mapping-port", failed)
igd.add_port(protocol, int(external), address, int(internal), int(lease), "libgupnp-igd")
GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGUSR1, remove)
GLib.MainLoop().run()
