"""Salt's own Python client, kept open: one JSON request a line in, one reply a line out."""

import json
import os
import platform
import sys
import time

import salt.client
import salt.config
import salt.utils.event
import salt.version

config = os.path.join(sys.argv[1], "master")
options = salt.config.client_config(config)
client = salt.client.LocalClient(config)
events = salt.utils.event.get_event("master", sock_dir=options["sock_dir"], opts=options, listen=True)


def ping(target, seconds):
    began = time.perf_counter()
    answers = client.cmd(target, "test.ping", timeout=seconds)
    return {"seconds": time.perf_counter() - began, "answers": answers}


def started(nodes, seconds):
    """Wait until each of these minions has said that it is up, counted from the last call."""
    missing = set(nodes)
    end = time.monotonic() + seconds
    while missing and time.monotonic() < end:
        event = events.get_event(wait=1, tag="salt/minion/", match_type="startswith", full=True)
        if event and event["tag"].endswith("/start"):
            missing.discard(event["tag"].split("/")[2])
    return {"missing": sorted(missing)}


def versions():
    return {"salt": salt.version.__version__, "python": platform.python_version()}


calls = {"ping": ping, "started": started, "versions": versions}
# Subscribed from here on.
print(json.dumps(versions()), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps(calls[request.pop("call")](**request)), flush=True)
