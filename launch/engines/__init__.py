"""What gets machines for a job: each engine renders its file and is driven by it."""
