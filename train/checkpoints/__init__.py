"""What a kill cannot spoil: checkpoints are staged, verified, committed, owned."""
