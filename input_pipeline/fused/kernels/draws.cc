// The floats and doubles below are those of TensorFlow's kernels (stateless_random_ops.cc,
// sample_distorted_bounding_box_op.cc), and so is their order: on a last bit it depends
// whether a window is a row higher, and on that all numbers behind it.
#include "draws.h"

#include <algorithm>
#include <cmath>

#include "xla/tsl/lib/random/exact_uniform_int.h"
#include "xla/tsl/lib/random/random_distributions_utils.h"

namespace fused {
namespace {

using tsl::random::PhiloxRandom;

constexpr int kAttempts = 10;
constexpr float kLeastCovered = 0.1f;  // of the image
constexpr int64_t kSeeds = (int64_t{1} << 31) - 1;

// The generator of a seed, whose bits a generator of a fixed key has mixed.
PhiloxRandom Scrambled(const Seed& seed) {
  PhiloxRandom::ResultType counter;
  for (int i = 0; i < 4; ++i) {
    counter[i] = static_cast<uint32_t>(static_cast<uint64_t>(seed[i / 2]) >> 32 * (i % 2));
  }
  PhiloxRandom::Key key;
  key[0] = 0x3ec8f720;
  key[1] = 0x02461e29;
  const PhiloxRandom::ResultType mixed = PhiloxRandom(counter, key)();
  key[0] = mixed[0];
  key[1] = mixed[1];
  counter[0] = counter[1] = 0;
  counter[2] = mixed[2];
  counter[3] = mixed[3];
  return PhiloxRandom(counter, key);
}

int Columns(int rows, float aspect_ratio) {
  return static_cast<int>(std::lrintf(rows * aspect_ratio));
}

// The most rows with which a window is not wider than an image.
int RowsThatFit(int rows, int width, float aspect_ratio) {
  if (Columns(rows, aspect_ratio) <= width) return rows;
  constexpr float kLittle = 0.0000001;
  const int fitting = static_cast<int>((width + 0.5 - kLittle) / aspect_ratio);
  return Columns(fitting, aspect_ratio) > width ? fitting - 1 : fitting;
}

// Draws the height of a window, and its place; false if it does not come to the areas.
bool DrawWindow(int height, int width, const float areas[2], float aspect_ratio,
                Draws& draws, Window* window) {
  const float least = areas[0] * width * height, most = areas[1] * width * height;
  const auto rows_of = [aspect_ratio](float area) {
    return static_cast<int>(std::lrintf(std::sqrt(area / aspect_ratio)));
  };
  const int most_rows =
      std::min(RowsThatFit(rows_of(most), width, aspect_ratio), height);
  int rows = std::min(rows_of(least), most_rows);
  if (rows < most_rows) rows += draws.Below(most_rows - rows + 1);

  // A row more or less, where it is rounding that left the range.
  int columns = Columns(rows, aspect_ratio);
  float area = columns * rows;
  for (const int more : {1, -1}) {
    if (more > 0 ? !(area < least) : !(area > most)) continue;
    rows += more;
    columns = Columns(rows, aspect_ratio);
    area = columns * rows;
  }
  if (area < least || area > most || columns > width || rows > height || columns <= 0 ||
      rows <= 0) {
    return false;
  }
  const int top = rows < height ? draws.Below(height - rows) : 0;
  const int left = columns < width ? draws.Below(width - columns) : 0;
  *window = {top, left, rows, columns};
  return true;
}

}  // namespace

Draws::Draws(const Seed& seed) : generator_(Scrambled(seed)), used_(4) {}

uint32_t Draws::Bits() {
  if (used_ == 4) {
    block_ = generator_();
    used_ = 0;
  }
  return block_[used_++];
}

float Draws::Float() { return tsl::random::Uint32ToFloat(Bits()); }

uint32_t Draws::Below(uint32_t end) {
  return tsl::random::ExactUniformInt<uint32_t>(end, [this] { return Bits(); });
}

int64_t Draws::Int64(int64_t end) {
  const uint64_t low = Bits(), high = Bits();
  return static_cast<int64_t>((low | high << 32) % static_cast<uint64_t>(end));
}

ImageSeeds SeedsOf(int64_t seed, int64_t index) {
  Draws draws({seed, index});
  ImageSeeds seeds;
  for (Seed* one : {&seeds.crop, &seeds.augment}) {
    for (int64_t& half : *one) half = draws.Int64(kSeeds);
  }
  return seeds;
}

bool IsMirrored(const Seed& crop) {
  return Draws({crop[0] + 1, crop[1] + 1}).Float() < 0.5f;
}

Window CentralWindow(int height, int width, float share) {
  const int shorter = std::min(height, width);
  const int side = std::max(static_cast<int>(share * static_cast<float>(shorter)), 1);
  return {(height - side + 1) / 2, (width - side + 1) / 2, side, side};
}

Window RandomWindow(int height, int width, const CropRange& range, float central_share,
                    const Seed& seed) {
  Draws draws(seed);
  const float* ratios = range.aspect_ratios;
  const float image_area = static_cast<float>(height * width);
  for (int i = 0; i < kAttempts; ++i) {
    const float aspect_ratio = draws.Float() * (ratios[1] - ratios[0]) + ratios[0];
    Window window;
    if (!DrawWindow(height, width, range.areas, aspect_ratio, draws, &window)) continue;
    const float area = static_cast<float>(window.height * window.width);
    if (area / image_area < kLeastCovered) continue;
    if (window.height == height && window.width == width) break;  // as if none fitted
    return window;
  }
  return CentralWindow(height, width, central_share);
}

}  // namespace fused
