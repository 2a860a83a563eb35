"""What the pixels of ImageNet are normalised by. Imports no framework."""

# By colour, of pixels in 0..255.
MEAN_RGB = (0.485 * 255, 0.456 * 255, 0.406 * 255)
STD_RGB = (0.229 * 255, 0.224 * 255, 0.225 * 255)
