"""From records on a disk or in a bucket to batches: read, decoded, augmented, mixed."""
