// The two ops, by TensorFlow's C API. It compiles in seconds, where the headers of its C++
// API take a minute. The decoder is TensorFlow's own, called as its DecodeAndCropJpeg
// calls it.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "augment.h"
#include "resize.h"
#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_status.h"
#include "tensorflow/c/tf_tensor.h"
#include "tensorflow/c/tf_tstring.h"
#include "tensorflow/core/lib/jpeg/jpeg_mem.h"

namespace fused {
namespace {

constexpr int64_t kChannels = 3;

// ---- TensorFlow's pointers, given back.

struct Deleter {
  void operator()(TF_Status* status) const { TF_DeleteStatus(status); }
  void operator()(TF_Tensor* tensor) const { TF_DeleteTensor(tensor); }
};
using Status = std::unique_ptr<TF_Status, Deleter>;
using Tensor = std::unique_ptr<TF_Tensor, Deleter>;

Status NewStatus() { return Status(TF_NewStatus()); }

bool IsOk(const Status& status) { return TF_GetCode(status.get()) == TF_OK; }

void Fail(TF_OpKernelContext* context, const std::string& why) {
  const Status status = NewStatus();
  TF_SetStatus(status.get(), TF_INVALID_ARGUMENT, why.c_str());
  TF_OpKernelContext_Failure(context, status.get());
}

Tensor Input(TF_OpKernelContext* context, int number) {
  const Status status = NewStatus();
  TF_Tensor* tensor = nullptr;
  TF_GetInput(context, number, &tensor, status.get());
  return Tensor(tensor);
}

bool HasShape(const Tensor& tensor, const std::vector<int64_t>& shape) {
  if (!tensor || TF_NumDims(tensor.get()) != static_cast<int>(shape.size())) return false;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] >= 0 && TF_Dim(tensor.get(), i) != shape[i]) return false;
  }
  return true;
}

template <typename T>
T* Data(const Tensor& tensor) {
  return static_cast<T*>(TF_TensorData(tensor.get()));
}

Tensor Output(TF_OpKernelContext* context, TF_DataType type,
              const std::vector<int64_t>& shape) {
  const Status status = NewStatus();
  size_t bytes = TF_DataTypeSize(type);
  for (const int64_t side : shape) bytes *= side;
  Tensor tensor(TF_AllocateOutput(context, 0, type, shape.data(), shape.size(), bytes,
                                  status.get()));
  if (!IsOk(status)) TF_OpKernelContext_Failure(context, status.get());
  return IsOk(status) ? std::move(tensor) : nullptr;
}

// What the attributes of an op say, or a failure of its construction.
class Attributes {
 public:
  explicit Attributes(TF_OpKernelConstruction* construction)
      : construction_(construction), status_(NewStatus()) {}

  int Int(const char* name) {
    int32_t value = 0;
    TF_OpKernelConstruction_GetAttrInt32(construction_, name, &value, status_.get());
    return value;
  }

  TF_DataType Type(const char* name) {
    TF_DataType value = TF_FLOAT;
    TF_OpKernelConstruction_GetAttrType(construction_, name, &value, status_.get());
    return value;
  }

  std::string Text(const char* name) {
    std::string text(Size(name).second, '\0');
    TF_OpKernelConstruction_GetAttrString(construction_, name, &text[0], text.size(),
                                          status_.get());
    return text;
  }

  std::vector<int32_t> Ints(const char* name) {
    std::vector<int32_t> values(Size(name).first);
    TF_OpKernelConstruction_GetAttrInt32List(construction_, name, values.data(),
                                             values.size(), status_.get());
    return values;
  }

  std::vector<float> Floats(const char* name) {
    std::vector<float> values(Size(name).first);
    TF_OpKernelConstruction_GetAttrFloatList(construction_, name, values.data(),
                                             values.size(), status_.get());
    return values;
  }

  // Fails the construction unless a condition, and all reading, held.
  void Require(bool condition, const char* what) {
    if (IsOk(status_) && condition) return;
    if (IsOk(status_)) TF_SetStatus(status_.get(), TF_INVALID_ARGUMENT, what);
    TF_OpKernelConstruction_Failure(construction_, status_.get());
  }

 private:
  // How many a list has, and how many bytes a text.
  std::pair<int32_t, int32_t> Size(const char* name) {
    int32_t items = 0, bytes = 0;
    TF_OpKernelConstruction_GetAttrSize(construction_, name, &items, &bytes,
                                        status_.get());
    return {std::max(items, 0), std::max(bytes, 0)};
  }

  TF_OpKernelConstruction* const construction_;
  const Status status_;
};

// ---- Bytes of a JPEG to pixels.

class CropResize {
 public:
  explicit CropResize(TF_OpKernelConstruction* construction) {
    Attributes attributes(construction);
    size_ = attributes.Int("size");
    const std::vector<std::string> methods = {"bicubic", "bilinear",
                                              "bilinear_half_pixels"};
    const std::vector<std::string> pixels = {"float", "floor", "nearest"};
    method_ = static_cast<Method>(NumberOf(attributes.Text("resize"), methods));
    pixels_ = static_cast<Pixels>(NumberOf(attributes.Text("pixels"), pixels));
    attributes.Require(size_ > 0, "size has to be positive");
    attributes.Require(static_cast<int>(method_) >= 0, "unknown resize");
    attributes.Require(static_cast<int>(pixels_) >= 0, "unknown pixels");
    attributes.Require(attributes.Type("T") == Type(), "T is not what pixels gives");
  }

  void Compute(TF_OpKernelContext* context) const {
    const Tensor encoded = Input(context, 0), window = Input(context, 1),
                 mirrored = Input(context, 2);
    if (!HasShape(encoded, {}) || !HasShape(window, {4}) || !HasShape(mirrored, {})) {
      return Fail(context, "encoded and mirrored are scalars, window has 4 numbers");
    }
    thread_local std::vector<uint8_t> crop;
    const int32_t* sides = Data<int32_t>(window);
    if (!Decode(*Data<TF_TString>(encoded), sides, &crop)) {
      return Fail(context, "invalid JPEG data or crop window");
    }
    const Tensor image = Output(context, Type(), {size_, size_, kChannels});
    if (!image) return;
    Resize(crop.data(), sides[2], sides[3], size_, method_, *Data<bool>(mirrored),
           pixels_, TF_TensorData(image.get()));
  }

 private:
  static int NumberOf(const std::string& name, const std::vector<std::string>& names) {
    const auto found = std::find(names.begin(), names.end(), name);
    return found == names.end() ? -1 : static_cast<int>(found - names.begin());
  }

  // Decodes a window (top, left, height, width); false if that cannot be.
  static bool Decode(const TF_TString& encoded, const int32_t* window,
                     std::vector<uint8_t>* crop) {
    tensorflow::jpeg::UncompressFlags flags;
    flags.components = kChannels;
    flags.dct_method = JDCT_IFAST;  // as of TensorFlow's ops where nobody chooses
    flags.crop = true;
    flags.crop_y = window[0];
    flags.crop_x = window[1];
    flags.crop_height = window[2];
    flags.crop_width = window[3];
    const auto allocate = [&](int width, int height, int components) -> uint8_t* {
      if (width != window[3] || height != window[2] || components != kChannels) {
        return nullptr;
      }
      crop->resize(kChannels * width * height);
      return crop->data();
    };
    // A JPEG's sides have 16 bits; of larger numbers the sums in Uncompress overflow.
    const auto is_side = [](int32_t number) { return number >= 0 && number < 1 << 16; };
    // As TensorFlow's op knows a JPEG, before libjpeg is asked.
    const std::string_view bytes(TF_StringGetDataPointer(&encoded),
                                 TF_StringGetSize(&encoded));
    return bytes.substr(0, 3) == "\xff\xd8\xff" &&
           std::all_of(window, window + 4, is_side) && window[2] > 0 && window[3] > 0 &&
           tensorflow::jpeg::Uncompress(bytes.data(), bytes.size(), flags, nullptr,
                                        allocate) != nullptr;
  }

  TF_DataType Type() const { return pixels_ == Pixels::kFloat ? TF_FLOAT : TF_UINT8; }

  int size_;
  Method method_;
  Pixels pixels_;
};

// ---- Ops on pixels, of which some are drawn.

class AugmentImage {
 public:
  explicit AugmentImage(TF_OpKernelConstruction* construction) {
    Attributes attributes(construction);
    bool are_known = true;
    const std::string names = attributes.Text("ops");
    for (size_t begin = 0; begin <= names.size();) {
      const size_t end = std::min(names.find(',', begin), names.size());
      Kind kind = Kind::kNothing;
      are_known &= KindOf(names.substr(begin, end - begin), &kind);
      kinds_.push_back(kind);
      begin = end + 1;
    }
    parameters_ = attributes.Floats("parameters");
    tables_ = attributes.Ints("tables");
    attributes.Require(are_known, "unknown op");
    attributes.Require(
        parameters_.size() == kinds_.size() && tables_.size() == kinds_.size(),
        "each op has a parameter and a table");
  }

  void Compute(TF_OpKernelContext* context) const {
    const Tensor image = Input(context, 0), chosen = Input(context, 1),
                 draws = Input(context, 2), sources = Input(context, 3);
    if (!HasShape(image, {-1, -1, kChannels}) || !HasShape(chosen, {-1})) {
      return Fail(context, "image has the shape [H, W, 3], chosen [N]");
    }
    const int64_t height = TF_Dim(image.get(), 0), width = TF_Dim(image.get(), 1),
                  count = TF_Dim(chosen.get(), 0);
    if (!HasShape(draws, {count, 3}) || !HasShape(sources, {-1, height * width})) {
      return Fail(context, "draws has the shape [N, 3], sources [tables, H * W]");
    }
    std::vector<Step> steps(count);
    for (int64_t i = 0; i < count; ++i) {
      const int32_t op = Data<int32_t>(chosen)[i];
      if (op < 0 || op >= static_cast<int32_t>(kinds_.size())) {
        return Fail(context, "no such op: " + std::to_string(op));
      }
      const float* draw = Data<float>(draws) + 3 * i;
      for (int k = 0; k < 3; ++k) {
        if (!(draw[k] >= 0 && draw[k] < 1)) return Fail(context, "draws lie within 0..1");
      }
      const int64_t table = tables_[op] + (draw[0] < 0.5f ? 1 : 0);
      if (kinds_[op] == Kind::kMoved &&
          (table < 0 || table >= TF_Dim(sources.get(), 0))) {
        return Fail(context, "no such table: " + std::to_string(table));
      }
      steps[i] = {kinds_[op], parameters_[op], static_cast<int>(draw[1] * height),
                  static_cast<int>(draw[2] * width), nullptr};
      if (kinds_[op] != Kind::kMoved) continue;
      steps[i].sources = Data<int32_t>(sources) + table * height * width;
      if (!AreWithin(steps[i].sources, height * width)) {
        return Fail(context, "sources name pixels from 1, or 0 for none");
      }
    }
    const Tensor result = Output(context, TF_UINT8, {height, width, kChannels});
    if (!result) return;
    Augment(Data<uint8_t>(image), height, width, steps, Data<uint8_t>(result));
  }

 private:
  std::vector<Kind> kinds_;
  std::vector<float> parameters_;
  std::vector<int32_t> tables_;
};

// ---- Registration, when the library is loaded.

template <typename Kernel>
void* Create(TF_OpKernelConstruction* construction) {
  return new Kernel(construction);
}

template <typename Kernel>
void Compute(void* kernel, TF_OpKernelContext* context) {
  static_cast<Kernel*>(kernel)->Compute(context);
}

template <typename Kernel>
void Delete(void* kernel) {
  delete static_cast<Kernel*>(kernel);
}

void AnyShape(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
}

template <typename Kernel>
bool Register(const char* name, const std::vector<const char*>& inputs,
              const std::vector<const char*>& attributes, const char* output) {
  TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder(name);
  for (const char* input : inputs) TF_OpDefinitionBuilderAddInput(op, input);
  for (const char* attribute : attributes) TF_OpDefinitionBuilderAddAttr(op, attribute);
  TF_OpDefinitionBuilderAddOutput(op, output);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(op, &AnyShape);
  const Status status = NewStatus();
  TF_RegisterOpDefinition(op, status.get());
  if (!IsOk(status)) return false;
  TF_RegisterKernelBuilder(name,
                           TF_NewKernelBuilder(name, "CPU", &Create<Kernel>,
                                               &Compute<Kernel>, &Delete<Kernel>),
                           status.get());
  return IsOk(status);
}

const bool registered =
    Register<CropResize>("EfficientnetxCropResize",
                         {"encoded: string", "window: int32", "mirrored: bool"},
                         {"size: int", "resize: string", "pixels: string",
                          "T: {uint8, float}"},
                         "image: T") &&
    Register<AugmentImage>("EfficientnetxAugment",
                           {"image: uint8", "chosen: int32", "draws: float",
                            "sources: int32"},
                           {"ops: string", "parameters: list(float)",
                            "tables: list(int)"},
                           "augmented: uint8");

}  // namespace
}  // namespace fused
