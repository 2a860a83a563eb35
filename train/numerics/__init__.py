"""What 16 bits need: a scale of the loss, and devices that compute in them."""
