// Ops on pixels, of which some are drawn, as both ops of TensorFlow's have them.
#ifndef INPUT_PIPELINE_FUSED_DRAWN_OPS_H_
#define INPUT_PIPELINE_FUSED_DRAWN_OPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "augment.h"
#include "tensorflow_api.h"

namespace fused {

// What there is to draw from: the attributes "ops", "parameters" and "tables", and an
// input of tables int32[tables, pixels].
class DrawnOps {
 public:
  explicit DrawnOps(Attributes& attributes);

  int size() const { return static_cast<int>(kinds_.size()); }

  // Whether the tables that an op names are there, of so many pixels each, and name none
  // but these; else says why not.
  bool HasTables(int op, const Tensor& tables, int64_t pixels, std::string* why) const;

  // An op with what is drawn for it: the sign, and Cutout's centre, in [0, 1).
  Step StepOf(int op, const float draw[3], int height, int width,
              const int32_t* tables) const;

 private:
  std::vector<Kind> kinds_;
  std::vector<float> parameters_;
  std::vector<int32_t> tables_;  // of an op that moves pixels, the first of its two
};

}  // namespace fused

#endif  // INPUT_PIPELINE_FUSED_DRAWN_OPS_H_
