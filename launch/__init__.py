"""From a config to a slice: the rehearsal of a run on a slice that is not there."""
