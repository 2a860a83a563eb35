// What is drawn for an image, number for number as TensorFlow's stateless ops draw it.
#ifndef INPUT_PIPELINE_FUSED_DRAWS_H_
#define INPUT_PIPELINE_FUSED_DRAWS_H_

#include <array>
#include <cstdint>

#include "xla/tsl/lib/random/philox_random.h"

namespace fused {

using Seed = std::array<int64_t, 2>;

// The numbers that tf.random.stateless_uniform draws from a seed, one after another.
class Draws {
 public:
  explicit Draws(const Seed& seed);

  uint32_t Bits();
  // In [0, 1).
  float Float();
  // In [0, end), as the sampler of crops draws it.
  uint32_t Below(uint32_t end);
  // In [0, end), as stateless_uniform does.
  int64_t Int64(int64_t end);

 private:
  tsl::random::PhiloxRandom generator_;
  tsl::random::PhiloxRandom::ResultType block_;
  int used_;
};

// Seeds of an image, as dataset.py's _image_seeds has them.
struct ImageSeeds {
  Seed crop, augment;
};
ImageSeeds SeedsOf(int64_t seed, int64_t index);

// As preprocess.is_mirrored.
bool IsMirrored(const Seed& crop);

// A part of an image.
struct Window {
  int top, left, height, width;
};

// Shares of an image's area, and width / height, from the smallest to the largest.
struct CropRange {
  float areas[2], aspect_ratios[2];
};

// As preprocess.central_window; the share is of the shorter side.
Window CentralWindow(int height, int width, float share);

// As preprocess.random_window; that share is of the central window where none fits.
Window RandomWindow(int height, int width, const CropRange& range, float central_share,
                    const Seed& seed);

}  // namespace fused

#endif  // INPUT_PIPELINE_FUSED_DRAWS_H_
