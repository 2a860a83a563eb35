"""One network that contains all networks of a space, and what chooses among them."""
