"""What small data and short runs need: weights of classes, an early end, words."""
