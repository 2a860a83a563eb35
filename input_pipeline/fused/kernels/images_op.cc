// Records to images: all that is done to a group of them, in one op.
#include <cstring>

#include "augment.h"
#include "draws.h"
#include "drawn_ops.h"
#include "example.h"
#include "jpeg.h"
#include "resize.h"
#include "tensorflow_api.h"

namespace fused {
namespace {

constexpr int64_t kChannels = 3;

enum class Crop { kRandom, kCentral, kWhole };

// Which ops an image gets: of each layer one of all, or each of a row of them by chance.
class Policy {
 public:
  explicit Policy(Attributes& attributes)
      : ops_(attributes),
        layers_(attributes.Int("num_layers")),
        choices_(attributes.Ints("choices")),
        chances_(attributes.Floats("chances")) {
    attributes.Require(layers_ >= 0, "num_layers is 0 or more");
    const size_t row = std::max<int64_t>(layers_, 1);
    attributes.Require(
        choices_.size() == chances_.size() && choices_.size() % row == 0,
        "choices and chances have rows of num_layers");
    attributes.Require(std::all_of(choices_.begin(), choices_.end(),
                                   [this](int op) { return op >= 0 && op < ops_.size(); }),
                       "choices are numbers of ops");
  }

  bool IsEmpty() const { return layers_ == 0; }
  const DrawnOps& ops() const { return ops_; }

  // Draws as randaugment.draw does, four numbers for an op, of which the first chooses.
  std::vector<Step> Draw(const Seed& seed, int size, const int32_t* tables) const {
    Draws draws(seed);
    const auto four = [&draws] {
      std::array<float, 4> numbers;
      for (float& number : numbers) number = draws.Float();
      return numbers;
    };
    const int rows = layers_ ? static_cast<int>(choices_.size() / layers_) : 0;
    const int row = rows ? static_cast<int>(four()[0] * rows) : 0;
    std::vector<Step> steps;
    for (int i = 0; i < layers_; ++i) {
      const std::array<float, 4> drawn = four();
      const int place = row * static_cast<int>(layers_) + i;
      if (rows && !(drawn[0] < chances_[place])) continue;
      const int op = rows ? choices_[place] : static_cast<int>(drawn[0] * ops_.size());
      steps.push_back(ops_.StepOf(op, drawn.data() + 1, size, size, tables));
    }
    return steps;
  }

 private:
  const DrawnOps ops_;
  const int64_t layers_;
  const std::vector<int32_t> choices_;
  const std::vector<float> chances_;
};

class MakeImages {
 public:
  explicit MakeImages(TF_OpKernelConstruction* construction)
      : MakeImages(Attributes(construction)) {}

  void Compute(TF_OpKernelContext* context) const {
    const Tensor serialized = Input(context, 0), index = Input(context, 1),
                 sources = Input(context, 2);
    if (!HasShape(serialized, {-1})) return Fail(context, "serialized is a vector");
    const int64_t count = TF_Dim(serialized.get(), 0);
    if (!HasShape(index, {count})) return Fail(context, "each record has an index");
    std::string why;
    for (int op = 0; op < policy_.ops().size(); ++op) {
      if (policy_.ops().HasTables(op, sources, int64_t{size_} * size_, &why)) continue;
      return Fail(context, why);
    }
    const Tensor images = Output(context, 0, Type(), {count, size_, size_, kChannels}),
                 labels = Output(context, 1, TF_INT32, {count}),
                 ok = Output(context, 2, TF_BOOL, {count});
    if (!images || !labels || !ok) return;
    const size_t bytes = kChannels * size_ * size_ * TF_DataTypeSize(Type());
    for (int64_t i = 0; i < count; ++i) {
      uint8_t* image = Data<uint8_t>(images) + i * bytes;
      int32_t* label = Data<int32_t>(labels) + i;
      const bool is_made =
          Make(Bytes(Data<TF_TString>(serialized)[i]), Data<int64_t>(index)[i],
               Data<int32_t>(sources), label, image);
      Data<bool>(ok)[i] = is_made;
      if (is_made) continue;
      *label = 0;
      std::memset(image, 0, bytes);
    }
  }

 private:
  explicit MakeImages(Attributes attributes)
      : policy_(attributes),
        image_field_(attributes.Text("image_field")),
        label_field_(attributes.Text("label_field")),
        label_offset_(attributes.Int("label_offset")),
        num_labels_(attributes.Int("num_labels")),
        max_pixels_(attributes.Int("max_pixels")),
        seed_(attributes.Int("seed")),
        size_(static_cast<int>(attributes.Int("size"))),
        method_(static_cast<Method>(attributes.NumberOf(
            "resize", {"bicubic", "bilinear", "bilinear_half_pixels"}))),
        pixels_(static_cast<Pixels>(
            attributes.NumberOf("pixels", {"float", "floor", "nearest"}))),
        crop_(static_cast<Crop>(
            attributes.NumberOf("crop", {"random", "central", "whole"}))),
        central_share_(attributes.Float("central_share")),
        flips_(attributes.Bool("flip")) {
    const std::vector<float> areas = attributes.Floats("area_range"),
                             ratios = attributes.Floats("aspect_ratio_range");
    // What checks.SHARES and checks.RATIOS allow, rounded to floats.
    const auto is_range = [](const std::vector<float>& range, float least, float most) {
      return range.size() == 2 && least <= range[0] && range[0] <= range[1] &&
             range[1] <= most;
    };
    attributes.Require(is_range(areas, 1e-6f, 1), "area_range is none");
    attributes.Require(is_range(ratios, 0.01f, 100), "aspect_ratio_range is none");
    attributes.Require(size_ > 0, "size has to be positive");
    attributes.Require(central_share_ > 0 && central_share_ <= 1,
                       "central_share lies within 0..1");
    attributes.Require(attributes.Type("T") == Type(), "T is not what pixels gives");
    attributes.Require(pixels_ != Pixels::kFloat || policy_.IsEmpty(),
                       "ops are for whole levels");
    if (areas.size() == 2 && ratios.size() == 2) {
      range_ = {{areas[0], areas[1]}, {ratios[0], ratios[1]}};
    }
  }

  // False of a record that is bad, or rare.
  bool Make(std::string_view serialized, int64_t index, const int32_t* sources,
            int32_t* label, void* image) const {
    std::string_view encoded;
    int64_t number = 0;
    int height = 0, width = 0;
    if (!ParseExample(serialized, image_field_, label_field_, &encoded, &number)) {
      return false;
    }
    number -= label_offset_;
    if (number < 0 || number >= num_labels_ ||
        !ReadSides(encoded, max_pixels_, &height, &width)) {
      return false;
    }
    *label = static_cast<int32_t>(number);
    thread_local std::vector<uint8_t> crop, resized;
    const ImageSeeds seeds = SeedsOf(seed_, index);
    const Window window = WindowOf(height, width, seeds.crop);
    if (!Decode(encoded, window, &crop)) return false;
    const bool is_mirrored = flips_ && IsMirrored(seeds.crop);
    const auto resize = [&](void* to) {
      Resize(crop.data(), window.height, window.width, size_, method_, is_mirrored,
             pixels_, to);
    };
    if (policy_.IsEmpty()) {
      resize(image);
      return true;
    }
    resized.resize(kChannels * size_ * size_);
    resize(resized.data());
    Augment(resized.data(), size_, size_, policy_.Draw(seeds.augment, size_, sources),
            static_cast<uint8_t*>(image));
    return true;
  }

  Window WindowOf(int height, int width, const Seed& seed) const {
    switch (crop_) {
      case Crop::kRandom:
        return RandomWindow(height, width, range_, central_share_, seed);
      case Crop::kCentral:
        return CentralWindow(height, width, central_share_);
      default:
        return {0, 0, height, width};
    }
  }

  TF_DataType Type() const { return pixels_ == Pixels::kFloat ? TF_FLOAT : TF_UINT8; }

  const Policy policy_;
  const std::string image_field_, label_field_;
  const int64_t label_offset_, num_labels_, max_pixels_, seed_;
  const int size_;
  const Method method_;
  const Pixels pixels_;
  const Crop crop_;
  const float central_share_;
  const bool flips_;
  CropRange range_ = {};
};

const bool registered = Register<MakeImages>(
    "EfficientnetxImages",
    {"serialized: string", "index: int64", "sources: int32"},
    {"image_field: string", "label_field: string", "label_offset: int",
     "num_labels: int", "max_pixels: int", "size: int", "resize: string",
     "pixels: string", "crop: string", "central_share: float", "T: {uint8, float}", "seed: int = 0", "flip: bool = false",
     "area_range: list(float) = [1, 1]", "aspect_ratio_range: list(float) = [1, 1]",
     "ops: string = ''", "parameters: list(float) = [0]", "tables: list(int) = [0]",
     "num_layers: int = 0", "choices: list(int) = []", "chances: list(float) = []"},
    {"image: T", "label: int32", "ok: bool"});

}  // namespace
}  // namespace fused
