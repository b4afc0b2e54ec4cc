"""
A control point of GUPnP on eth0: finds a gateway's WANIPConnection, subscribes, asks for the external address, and
prints what it hears as JSON lines, until it is ended.
"""

import json
import sys

import gi

gi.require_version("GSSDP", "1.6")
gi.require_version("GUPnP", "1.6")
from gi.repository import GLib, GObject, GSSDP, GUPnP  # noqa: E402

VARIABLES = {
    "ExternalIPAddress": GObject.TYPE_STRING,
    "ConnectionStatus": GObject.TYPE_STRING,
    "PortMappingNumberOfEntries": GObject.TYPE_UINT,
    "SystemUpdateID": GObject.TYPE_UINT,
}


def tell(**fact):
    print(json.dumps(fact), flush=True)


def external_address(proxy):
    action = GUPnP.ServiceProxyAction.new_from_list("GetExternalIPAddress", [], [])
    proxy.call_action(action, None)
    _, values = action.get_result_list(["NewExternalIPAddress"], [GObject.TYPE_STRING])
    return values[0]


def available(_point, proxy):
    tell(kind="available", type=proxy.get_service_type(), address=external_address(proxy))
    for name, kind in VARIABLES.items():
        proxy.add_notify(name, kind, lambda _proxy, name, value, _data: tell(kind="event", name=name, value=value), None)
    proxy.connect("subscription-lost", lambda _proxy, error: tell(kind="subscription-lost", error=error.message))
    proxy.set_subscribed(True)
    known.append(proxy)


def unavailable(_point, proxy):
    tell(kind="unavailable", type=proxy.get_service_type())


known = []
context = GUPnP.Context.new_full("eth0", None, 0, GSSDP.UDAVersion.VERSION_1_0)
point = GUPnP.ControlPoint.new(context, sys.argv[1])
point.connect("service-proxy-available", available)
point.connect("service-proxy-unavailable", unavailable)
point.set_active(True)
tell(kind="searching")
GLib.MainLoop().run()
