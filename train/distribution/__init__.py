"""Devices, processes and replicas."""
