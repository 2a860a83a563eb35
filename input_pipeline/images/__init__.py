"""What is in the headers of images, read without decoding them."""
