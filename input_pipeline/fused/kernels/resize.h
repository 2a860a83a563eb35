// Resize of a crop, bit for bit as TensorFlow's kernels.
#ifndef INPUT_PIPELINE_FUSED_RESIZE_H_
#define INPUT_PIPELINE_FUSED_RESIZE_H_

#include <cstdint>

namespace fused {

enum class Method { kBicubic, kBilinear, kBilinearHalfPixels };

// What becomes of a level's fraction: it stays, is dropped, or is rounded, halves up;
// the last two within 0..255.
enum class Pixels { kFloat, kFloor, kNearest };

// Resizes uint8[height, width, 3] to [size, size, 3], mirrored left and right if asked:
// float where the fraction stays, else uint8. All sides are 1 or more.
void Resize(const uint8_t* image, int height, int width, int size, Method method,
            bool mirrored, Pixels pixels, void* resized);

}  // namespace fused

#endif  // INPUT_PIPELINE_FUSED_RESIZE_H_
