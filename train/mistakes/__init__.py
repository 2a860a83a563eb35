"""What an evaluation has got wrong: counted by class, and the worst of it shown."""
