"""gRPC heeds https_proxy, as the client of gs:// does, and no proxy knows the hosts."""

import os
from collections.abc import Iterable, Mapping


def past_proxies(
    hosts: Iterable[str], environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the variables by which a process reaches hosts, and itself, directly.

    Args:
      hosts: names or addresses.
      environment: what it names besides stays.
    """
    there = [environment.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    named = dict.fromkeys(filter(None, [*there, *hosts, "localhost"]))
    return dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(named))
