"""How fast a given network is: latency, roofline, what its layers cost."""
