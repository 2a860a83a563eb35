// Ops on the pixels of one image, by numbers that are drawn already.
#include "augment.h"
#include "drawn_ops.h"
#include "tensorflow_api.h"

namespace fused {
namespace {

constexpr int64_t kChannels = 3;

class AugmentImage {
 public:
  explicit AugmentImage(TF_OpKernelConstruction* construction)
      : AugmentImage(Attributes(construction)) {}

  void Compute(TF_OpKernelContext* context) const {
    const Tensor image = Input(context, 0), chosen = Input(context, 1),
                 draws = Input(context, 2), sources = Input(context, 3);
    if (!HasShape(image, {-1, -1, kChannels}) || !HasShape(chosen, {-1})) {
      return Fail(context, "image has the shape [H, W, 3], chosen [N]");
    }
    const int64_t height = TF_Dim(image.get(), 0), width = TF_Dim(image.get(), 1),
                  count = TF_Dim(chosen.get(), 0);
    if (!HasShape(draws, {count, 3})) return Fail(context, "draws has the shape [N, 3]");
    std::string why;
    std::vector<Step> steps(count);
    for (int64_t i = 0; i < count; ++i) {
      const int32_t op = Data<int32_t>(chosen)[i];
      if (op < 0 || op >= ops_.size()) {
        return Fail(context, "no such op: " + std::to_string(op));
      }
      if (!ops_.HasTables(op, sources, height * width, &why)) return Fail(context, why);
      const float* draw = Data<float>(draws) + 3 * i;
      for (int k = 0; k < 3; ++k) {
        if (!(draw[k] >= 0 && draw[k] < 1)) return Fail(context, "draws lie within 0..1");
      }
      steps[i] = ops_.StepOf(op, draw, height, width, Data<int32_t>(sources));
    }
    const Tensor result = Output(context, 0, TF_UINT8, {height, width, kChannels});
    if (!result) return;
    Augment(Data<uint8_t>(image), height, width, steps, Data<uint8_t>(result));
  }

 private:
  explicit AugmentImage(Attributes attributes) : ops_(attributes) {}

  const DrawnOps ops_;
};

const bool registered = Register<AugmentImage>(
    "EfficientnetxAugment",
    {"image: uint8", "chosen: int32", "draws: float", "sources: int32"},
    {"ops: string", "parameters: list(float)", "tables: list(int)"},
    {"augmented: uint8"});

}  // namespace
}  // namespace fused
