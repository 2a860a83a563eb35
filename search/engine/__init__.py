"""Many workers on one search: stores, leases, evaluations, files."""
