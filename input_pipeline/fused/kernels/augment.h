// The ops of RandAugment, bit for bit as input_pipeline/randaugment.py has them.
#ifndef INPUT_PIPELINE_FUSED_AUGMENT_H_
#define INPUT_PIPELINE_FUSED_AUGMENT_H_

#include <cstdint>
#include <string>
#include <vector>

namespace fused {

enum class Kind {
  kNothing,
  kAutoContrast,
  kEqualize,
  kInvert,
  kPosterize,
  kSolarize,
  kColor,
  kContrast,
  kBrightness,
  kSharpness,
  kMoved,  // Rotate, ShearX, ShearY, TranslateX, TranslateY
  kCutout,
  kSolarizeAdd,
};

// Finds a kind by its name in randaugment.OP_NAMES; "" is kNothing.
bool KindOf(const std::string& name, Kind* kind);

// One op with all that is drawn for it.
struct Step {
  Kind kind;
  // Bits that stay, threshold, factor, half of the side or addition; see randaugment.
  float parameter;
  int center_y, center_x;  // of Cutout
  // Of kMoved: for each pixel of the result its source's number from 1, or 0 for grey.
  const int32_t* sources;
};

// Whether all sources are numbers of pixels from 1, or 0.
bool AreWithin(const int32_t* sources, int pixels);

// Applies steps in turn to uint8[height, width, 3], which is only read.
void Augment(const uint8_t* image, int height, int width,
             const std::vector<Step>& steps, uint8_t* augmented);

}  // namespace fused

#endif  // INPUT_PIPELINE_FUSED_AUGMENT_H_
