// TensorFlow's own decoder of JPEGs, called as its ops call it.
#ifndef INPUT_PIPELINE_FUSED_JPEG_H_
#define INPUT_PIPELINE_FUSED_JPEG_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "draws.h"

namespace fused {

// Reads height and width from the header; false if that is none, or claims more pixels
// than these.
bool ReadSides(std::string_view encoded, int64_t max_pixels, int* height, int* width);

// Decodes a window within the image to uint8[height, width, 3]; false if that cannot be.
bool Decode(std::string_view encoded, const Window& window, std::vector<uint8_t>* crop);

}  // namespace fused

#endif  // INPUT_PIPELINE_FUSED_JPEG_H_
