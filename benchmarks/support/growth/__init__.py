"""What grows with a data set, a run or a search, made up in any size."""
