// TensorFlow's C API as the ops use it. It compiles in seconds, where the headers of its
// C++ API take a minute.
#ifndef INPUT_PIPELINE_FUSED_TENSORFLOW_API_H_
#define INPUT_PIPELINE_FUSED_TENSORFLOW_API_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_status.h"
#include "tensorflow/c/tf_tensor.h"
#include "tensorflow/c/tf_tstring.h"

namespace fused {

// ---- TensorFlow's pointers, given back.

struct Deleter {
  void operator()(TF_Status* status) const { TF_DeleteStatus(status); }
  void operator()(TF_Tensor* tensor) const { TF_DeleteTensor(tensor); }
};
using Status = std::unique_ptr<TF_Status, Deleter>;
using Tensor = std::unique_ptr<TF_Tensor, Deleter>;

inline Status NewStatus() { return Status(TF_NewStatus()); }

inline bool IsOk(const Status& status) { return TF_GetCode(status.get()) == TF_OK; }

inline void Fail(TF_OpKernelContext* context, const std::string& why) {
  const Status status = NewStatus();
  TF_SetStatus(status.get(), TF_INVALID_ARGUMENT, why.c_str());
  TF_OpKernelContext_Failure(context, status.get());
}

inline Tensor Input(TF_OpKernelContext* context, int number) {
  const Status status = NewStatus();
  TF_Tensor* tensor = nullptr;
  TF_GetInput(context, number, &tensor, status.get());
  return Tensor(tensor);
}

inline bool HasShape(const Tensor& tensor, const std::vector<int64_t>& shape) {
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

inline std::string_view Bytes(const TF_TString& text) {
  return {TF_StringGetDataPointer(&text), TF_StringGetSize(&text)};
}

inline Tensor Output(TF_OpKernelContext* context, int number, TF_DataType type,
                     const std::vector<int64_t>& shape) {
  const Status status = NewStatus();
  size_t bytes = TF_DataTypeSize(type);
  for (const int64_t side : shape) bytes *= side;
  Tensor tensor(TF_AllocateOutput(context, number, type, shape.data(), shape.size(),
                                  bytes, status.get()));
  if (!IsOk(status)) TF_OpKernelContext_Failure(context, status.get());
  return IsOk(status) ? std::move(tensor) : nullptr;
}

// What the attributes of an op say, or a failure of its construction.
class Attributes {
 public:
  explicit Attributes(TF_OpKernelConstruction* construction)
      : construction_(construction), status_(NewStatus()) {}

  int64_t Int(const char* name) {
    int64_t value = 0;
    TF_OpKernelConstruction_GetAttrInt64(construction_, name, &value, status_.get());
    return value;
  }

  float Float(const char* name) {
    float value = 0;
    TF_OpKernelConstruction_GetAttrFloat(construction_, name, &value, status_.get());
    return value;
  }

  bool Bool(const char* name) {
    TF_Bool value = false;
    TF_OpKernelConstruction_GetAttrBool(construction_, name, &value, status_.get());
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

  // The number of a text among others; fails the construction if it is none of them.
  int NumberOf(const char* name, const std::vector<std::string>& texts) {
    const auto found = std::find(texts.begin(), texts.end(), Text(name));
    Require(found != texts.end(), std::string("unknown ") + name);
    return static_cast<int>(found - texts.begin());
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

  // Fails the construction unless a condition, and all reading, held; once.
  void Require(bool condition, const std::string& what) {
    if (has_failed_ || (IsOk(status_) && condition)) return;
    if (IsOk(status_)) TF_SetStatus(status_.get(), TF_INVALID_ARGUMENT, what.c_str());
    TF_OpKernelConstruction_Failure(construction_, status_.get());
    has_failed_ = true;
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
  bool has_failed_ = false;
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

inline void AnyShape(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
}

template <typename Kernel>
bool Register(const char* name, const std::vector<const char*>& inputs,
              const std::vector<const char*>& attributes,
              const std::vector<const char*>& outputs) {
  TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder(name);
  for (const char* input : inputs) TF_OpDefinitionBuilderAddInput(op, input);
  for (const char* attribute : attributes) TF_OpDefinitionBuilderAddAttr(op, attribute);
  for (const char* output : outputs) TF_OpDefinitionBuilderAddOutput(op, output);
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

}  // namespace fused

#endif  // INPUT_PIPELINE_FUSED_TENSORFLOW_API_H_
