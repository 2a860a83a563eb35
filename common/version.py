"""The version of this project: here, and nowhere else."""

NAME, VERSION = "efficientnet-x", "0.2.0"
