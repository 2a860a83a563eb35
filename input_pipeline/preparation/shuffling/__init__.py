"""TFRecords in an order that training cannot shuffle: noticed, and written anew."""
