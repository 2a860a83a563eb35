"""The network: hosts reach each other and Google, and nobody else reaches them."""

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any

from common.console import named
from launch.doctor.case import Case, command
from launch.doctor.findings import Finding, fails, ok, unknown
from launch.job import ports
from launch.job.job_file import Job

# Linux gives NCCL's sockets ports of this range (from memory); its ends are looked at.
_NCCL = (32768, 60999)
_PRIVATE = [
    *map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
    ipaddress.ip_network("100.64.0.0/10"),
    ipaddress.ip_network("fc00::/7"),
]

Rule = dict[str, Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _ports(job: Job) -> tuple[int, ...]:
    """Return which ports of its hosts have to be open to each other."""
    return ports.of(job.machines) + _NCCL * job.has_several_gpu_hosts


def _allowed(job: Job) -> str:
    """Return the same for a rule."""
    found = [f"tcp:{port}" for port in ports.of(job.machines)]
    both = "-".join(map(str, _NCCL))
    return ",".join(found + [f"tcp:{both}"] * job.has_several_gpu_hosts)


def network(case: Case) -> Finding:
    """Check the subnetwork, and the rules of its network's firewall.

    Not looked at are rules that belong to a policy, of the organisation say, rules for
    machines with a tag, those that deny, and the network of a GKE cluster.
    """
    job = case.job
    if case.engine == "jobset":
        return unknown("the job runs in the network of its GKE cluster")
    of_project = f"--project={job.project}"
    path = f"projects/{job.project}/regions/{job.region}/subnetworks/{job.subnetwork}"
    found = case.google.get("compute", path)
    if found is None:
        words = ("networks", "subnets", "list", f"--network={job.network}", of_project)
        return fails(
            f"{job.region} has no subnetwork {job.subnetwork}",
            command("gcloud", "compute", *words),
        )
    if not found.get("privateIpGoogleAccess"):
        words = ("networks", "subnets", "update", job.subnetwork, of_project)
        flags = (f"--region={job.region}", "--enable-private-ip-google-access")
        return fails(
            f"{job.subnetwork} has no Private Google Access: hosts without external "
            "addresses reach no bucket",
            command("gcloud", "compute", *words, *flags),
        )
    rules = [rule for rule in _rules(case) if _opens(rule, _ports(job))]
    return _judged(case, rules, ipaddress.ip_network(found["ipCidrRange"]))


def _judged(case: Case, rules: list[Rule], subnet: Network) -> Finding:
    job, wanted = case.job, _ports(case.job)
    of_project = f"--project={job.project}"
    rule_command = ("gcloud", "compute", "firewall-rules")
    inside = f"--source-ranges={subnet}"
    if world := [rule["name"] for rule in rules if any(map(_is_public, _from(rule)))]:
        return fails(
            f"{named(world)} lets the internet reach {_text(wanted)}",
            "take these ports from it, not those that others need: "
            + " && ".join(
                command(*rule_command, "describe", name, of_project) for name in world
            ),
        )
    closed = [port for port in wanted if not _is_inside(rules, port, subnet)]
    if closed:
        words = ("create", f"{job.name}-hosts", f"--network={job.network}", of_project)
        flags = (f"--allow={_allowed(job)}", inside)
        return fails(
            f"no rule lets {subnet} reach {_text(closed)}",
            command(*rule_command, *words, *flags),
        )
    wider = {str(n): rule["name"] for rule in rules for n in _from(rule) if n != subnet}
    note = "".join(f"; {name} lets {where} in, too" for where, name in wider.items())
    if not wanted:
        return ok(f"{subnet} of {job.network}; a single host needs no port")
    return ok(f"{subnet} of {job.network}, {_text(wanted)} inside{note}")


def _text(ports: Iterable[int]) -> str:
    return ", ".join(map(str, ports))


def _rules(case: Case) -> Iterator[Rule]:
    """Yield what lets somebody in, of the job's network."""
    path = f"projects/{case.job.project}/global/firewalls"
    for rule in case.google.pages("compute", path, "items"):
        of_network = rule.get("network", "").rpartition("/")[2] == case.job.network
        is_in = rule.get("direction", "INGRESS") == "INGRESS" and rule.get("allowed")
        is_on = not rule.get("disabled") and _is_for(rule, case.account)
        if of_network and is_in and is_on:
            yield rule


def _is_for(rule: Rule, account: str) -> bool:
    """Whether a rule is for all machines, or for those of an account."""
    return not rule.get("targetTags") and account in rule.get(
        "targetServiceAccounts", [account]
    )


def _opens(rule: Rule, ports: Iterable[int]) -> bool:
    """Whether a rule opens one of these ports."""
    return any(_is_open(entry, port) for entry in rule["allowed"] for port in ports)


def _is_open(entry: Rule, port: int) -> bool:
    if entry["IPProtocol"] not in ("tcp", "6", "all"):
        return False
    ranges = (text.partition("-") for text in entry.get("ports", ["0-65535"]))
    return any(int(low) <= port <= int(high or low) for low, _, high in ranges)


def _from(rule: Rule) -> list[Network]:
    """Return from where a rule lets in; none where tags or accounts say it."""
    return [ipaddress.ip_network(one) for one in rule.get("sourceRanges", ())]


def _is_inside(rules: Iterable[Rule], port: int, subnet: Any) -> bool:
    """Whether a rule lets a whole subnetwork reach a port."""
    return any(
        _opens(rule, [port])
        and any(
            n.version == subnet.version and subnet.subnet_of(n) for n in _from(rule)
        )
        for rule in rules
    )


def _is_public(network: Network) -> bool:
    """Whether addresses of the internet are in a range."""
    return not any(
        network.version == private.version and network.subnet_of(private)  # pyright: ignore[reportArgumentType]
        for private in _PRIVATE
    )
