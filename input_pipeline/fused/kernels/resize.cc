// Both methods work on rows of floats, three channels a pixel: bicubic sums four rows,
// then four pixels of the sum; bilinear mixes two pixels of a row, then two rows. That
// is the order of TensorFlow's kernels (resize_bicubic_op.cc, resize_bilinear_op.cc), on
// which the last bit depends.
#include "resize.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "simd.h"

namespace fused {
namespace {

constexpr int kChannels = 3;
constexpr int kBeyond = 4;  // numbers behind a row that are read or written in vain

// ---- Where an output pixel comes from, along one axis.

struct Cubic {
  int source[4];
  float weight[4];
};

struct Linear {
  int lower, upper;
  float share;  // of the upper
};

// The cubic kernel at 1,024 distances from a pixel, and one pixel further.
class CubicTable {
 public:
  static constexpr int kSteps = 1024;

  CubicTable() {
    const double a = -0.75;
    for (int i = 0; i <= kSteps; ++i) {
      float x = i * 1.0 / kSteps;
      near_[i] = ((a + 2) * x - (a + 3)) * x * x + 1;
      x += 1.0;
      far_[i] = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    }
  }

  float near(int step) const { return near_[step]; }
  float far(int step) const { return far_[step]; }

 private:
  float near_[kSteps + 1], far_[kSteps + 1];
};

std::vector<Cubic> CubicAxis(int from, int to) {
  static const CubicTable table;
  const float scale = from / static_cast<float>(to);
  std::vector<Cubic> axis(to);
  for (int i = 0; i < to; ++i) {
    const float position = static_cast<float>(i) * scale;
    const int pixel = static_cast<int>(std::floor(position));
    const float fraction = position - pixel;
    const int step = std::lrint(fraction * CubicTable::kSteps);
    const int rest = CubicTable::kSteps - step;
    axis[i] = {{},
               {table.far(step), table.near(step), table.near(rest), table.far(rest)}};
    for (int k = 0; k < 4; ++k) {
      axis[i].source[k] = std::min(std::max(pixel - 1 + k, 0), from - 1);
    }
  }
  return axis;
}

std::vector<Linear> LinearAxis(int from, int to, bool half_pixels) {
  const float scale = from / static_cast<float>(to);
  std::vector<Linear> axis(to);
  for (int i = 0; i < to; ++i) {
    const float at = static_cast<float>(i);
    const float position = half_pixels ? (at + 0.5f) * scale - 0.5f : at * scale;
    const float below = std::floor(position);
    const int lower = std::max(static_cast<int>(below), 0);
    const int upper = static_cast<int>(std::ceil(position));
    axis[i] = {std::min(lower, from - 1), std::min(upper, from - 1), position - below};
  }
  return axis;
}

// ---- Rows.

FUSED_LOOP void SumOfRows(const float* const rows[4], const float weight[4], int n,
                          float* sum) {
  const float *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
  const float wa = weight[0], wb = weight[1], wc = weight[2], wd = weight[3];
  for (int i = 0; i < n; ++i) {
    sum[i] = a[i] * wa + b[i] * wb + c[i] * wc + d[i] * wd;
  }
}

FUSED_LOOP void MixOfRows(const float* lower, const float* upper, float share, int n,
                          float* mixed) {
  for (int i = 0; i < n; ++i) mixed[i] = lower[i] + (upper[i] - lower[i]) * share;
}

FUSED_LOOP void ToFloats(const uint8_t* levels, int n, float* numbers) {
  for (int i = 0; i < n; ++i) numbers[i] = levels[i];
}

// Two pixels of a row, and of each the channel behind it, which nobody needs.
inline __m256 TwoPixels(const float* row, int first, int second) {
  const __m128 low = _mm_loadu_ps(row + kChannels * first);
  const __m128 high = _mm_loadu_ps(row + kChannels * second);
  return _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
}

inline __m256 TwoWeights(float first, float second) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_set1_ps(first)),
                              _mm_set1_ps(second), 1);
}

// Writes two pixels; what is beyond each is overwritten by the next.
inline void Store(__m256 two, float* pixels) {
  _mm_storeu_ps(pixels, _mm256_castps256_ps128(two));
  _mm_storeu_ps(pixels + kChannels, _mm256_extractf128_ps(two, 1));
}

// Two output pixels with their weights, each as often as it is multiplied.
struct CubicPair {
  int source[4][2];
  __m256 weight[4];
};

std::vector<CubicPair> InPairs(const std::vector<Cubic>& axis) {
  std::vector<CubicPair> pairs((axis.size() + 1) / 2);
  for (size_t i = 0; i < pairs.size(); ++i) {
    const Cubic& first = axis[2 * i];
    const Cubic& second = axis[std::min(2 * i + 1, axis.size() - 1)];
    for (int k = 0; k < 4; ++k) {
      pairs[i].source[k][0] = first.source[k];
      pairs[i].source[k][1] = second.source[k];
      pairs[i].weight[k] = TwoWeights(first.weight[k], second.weight[k]);
    }
  }
  return pairs;
}

void SumsOfPixels(const float* row, const std::vector<CubicPair>& pairs,
                  float* pixels) {
  for (const CubicPair& pair : pairs) {
    __m256 terms[4];
    for (int k = 0; k < 4; ++k) {
      terms[k] = _mm256_mul_ps(TwoPixels(row, pair.source[k][0], pair.source[k][1]),
                               pair.weight[k]);
    }
    const __m256 sum = _mm256_add_ps(_mm256_add_ps(terms[0], terms[1]), terms[2]);
    Store(_mm256_add_ps(sum, terms[3]), pixels);
    pixels += 2 * kChannels;
  }
}

struct LinearPair {
  int lower[2], upper[2];
  __m256 share;
};

std::vector<LinearPair> InPairs(const std::vector<Linear>& axis) {
  std::vector<LinearPair> pairs((axis.size() + 1) / 2);
  for (size_t i = 0; i < pairs.size(); ++i) {
    const Linear& first = axis[2 * i];
    const Linear& second = axis[std::min(2 * i + 1, axis.size() - 1)];
    pairs[i] = {{first.lower, second.lower},
                {first.upper, second.upper},
                TwoWeights(first.share, second.share)};
  }
  return pairs;
}

void MixesOfPixels(const float* row, const std::vector<LinearPair>& pairs,
                   float* pixels) {
  for (const LinearPair& pair : pairs) {
    const __m256 lower = TwoPixels(row, pair.lower[0], pair.lower[1]);
    const __m256 upper = TwoPixels(row, pair.upper[0], pair.upper[1]);
    const __m256 more = _mm256_mul_ps(_mm256_sub_ps(upper, lower), pair.share);
    Store(_mm256_add_ps(lower, more), pixels);
    pixels += 2 * kChannels;
  }
}

FUSED_LOOP void ToLevels(const float* numbers, int n, float rounding, uint8_t* levels) {
  for (int i = 0; i < n; ++i) {
    const float clipped = std::min(std::max(numbers[i], 0.0f), 255.0f);
    levels[i] = static_cast<uint8_t>(static_cast<int>(clipped + rounding));
  }
}

// The rows of an image as floats. Output rows follow one another and share sources, so
// the last ones are kept.
class Rows {
 public:
  static constexpr int kKept = 4;

  Rows(const uint8_t* image, int width) : image_(image), n_(width * kChannels) {
    for (auto& row : kept_) row.resize(n_ + kBeyond);
  }

  // Valid until kKept other rows have been asked for, in ascending order.
  const float* Get(int y) {
    const int place = y % kKept;
    if (held_[place] != y) {
      ToFloats(image_ + static_cast<size_t>(y) * n_, n_, kept_[place].data());
      held_[place] = y;
    }
    return kept_[place].data();
  }

 private:
  const uint8_t* const image_;
  const int n_;
  std::vector<float> kept_[kKept];
  int held_[kKept] = {-1, -1, -1, -1};
};

// Takes finished rows, in order.
class Output {
 public:
  Output(int size, Pixels pixels, void* resized)
      : n_(size * kChannels), pixels_(pixels), row_(n_ + kBeyond), resized_(resized) {}

  // Where the next row is to be written, and up to kBeyond more.
  float* row() { return row_.data(); }

  void Finish(int y) {
    const size_t begin = static_cast<size_t>(y) * n_;
    if (pixels_ == Pixels::kFloat) {
      std::memcpy(static_cast<float*>(resized_) + begin, row(), n_ * sizeof(float));
    } else {
      // TensorFlow's QuantizeV2 adds the half in float, too.
      const float rounding = pixels_ == Pixels::kNearest ? 0.5f : 0.0f;
      ToLevels(row(), n_, rounding, static_cast<uint8_t*>(resized_) + begin);
    }
  }

 private:
  const int n_;
  const Pixels pixels_;
  std::vector<float> row_;
  void* const resized_;
};

void Bicubic(const uint8_t* image, int height, int width, int size, bool mirrored,
             Output& output) {
  const std::vector<Cubic> rows = CubicAxis(height, size);
  std::vector<Cubic> columns = CubicAxis(width, size);
  if (mirrored) std::reverse(columns.begin(), columns.end());
  const std::vector<CubicPair> pairs = InPairs(columns);
  const int n = width * kChannels;
  std::vector<float> sum(n + kBeyond);
  Rows floats(image, width);
  for (int y = 0; y < size; ++y) {
    const float* sources[4];
    for (int k = 0; k < 4; ++k) sources[k] = floats.Get(rows[y].source[k]);
    SumOfRows(sources, rows[y].weight, n, sum.data());
    SumsOfPixels(sum.data(), pairs, output.row());
    output.Finish(y);
  }
}

void Bilinear(const uint8_t* image, int height, int width, int size, bool half_pixels,
              bool mirrored, Output& output) {
  const std::vector<Linear> rows = LinearAxis(height, size, half_pixels);
  std::vector<Linear> columns = LinearAxis(width, size, half_pixels);
  if (mirrored) std::reverse(columns.begin(), columns.end());
  const std::vector<LinearPair> pairs = InPairs(columns);
  const int n = size * kChannels;
  Rows floats(image, width);
  // The two rows that were mixed last: where an image is enlarged, they serve again.
  std::vector<float> mixed[2] = {std::vector<float>(n + kBeyond),
                                 std::vector<float>(n + kBeyond)};
  int held[2] = {-1, -1};
  for (int y = 0; y < size; ++y) {
    const int wanted[2] = {rows[y].lower, rows[y].upper};
    if (held[1] == wanted[0]) {
      std::swap(mixed[0], mixed[1]);
      std::swap(held[0], held[1]);
    }
    for (int k = 0; k < 2; ++k) {
      if (held[k] == wanted[k]) continue;
      MixesOfPixels(floats.Get(wanted[k]), pairs, mixed[k].data());
      held[k] = wanted[k];
    }
    MixOfRows(mixed[0].data(), mixed[1].data(), rows[y].share, n, output.row());
    output.Finish(y);
  }
}

}  // namespace

void Resize(const uint8_t* image, int height, int width, int size, Method method,
            bool mirrored, Pixels pixels, void* resized) {
  Output output(size, pixels, resized);
  if (method == Method::kBicubic) {
    Bicubic(image, height, width, size, mirrored, output);
  } else {
    Bilinear(image, height, width, size, method == Method::kBilinearHalfPixels, mirrored,
             output);
  }
}

}  // namespace fused
