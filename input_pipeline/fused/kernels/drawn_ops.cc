#include "drawn_ops.h"

#include <algorithm>

namespace fused {

DrawnOps::DrawnOps(Attributes& attributes) {
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

bool DrawnOps::HasTables(int op, const Tensor& tables, int64_t pixels,
                         std::string* why) const {
  if (!HasShape(tables, {-1, pixels})) {
    *why = "sources has the shape [tables, H * W]";
    return false;
  }
  if (kinds_[op] != Kind::kMoved) return true;
  for (const int64_t table : {int64_t{tables_[op]}, int64_t{tables_[op]} + 1}) {
    if (table < 0 || table >= TF_Dim(tables.get(), 0)) {
      *why = "no such table: " + std::to_string(table);
      return false;
    }
    if (!AreWithin(Data<int32_t>(tables) + table * pixels, pixels)) {
      *why = "sources name pixels from 1, or 0 for none";
      return false;
    }
  }
  return true;
}

Step DrawnOps::StepOf(int op, const float draw[3], int height, int width,
                      const int32_t* tables) const {
  const int64_t pixels = static_cast<int64_t>(height) * width;
  const int64_t table = tables_[op] + (draw[0] < 0.5f ? 1 : 0);
  return {kinds_[op], parameters_[op], static_cast<int>(draw[1] * height),
          static_cast<int>(draw[2] * width),
          kinds_[op] == Kind::kMoved ? tables + table * pixels : nullptr};
}

}  // namespace fused
