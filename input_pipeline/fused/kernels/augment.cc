// What changes each level by itself becomes a table of 256 levels for each channel;
// tables of ops that follow one another are put together, and looked up once.
#include "augment.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "simd.h"

namespace fused {
namespace {

constexpr int kChannels = 3;
constexpr int kLevels = 256;
constexpr uint8_t kGrey = 128;  // of what is uncovered, and of Cutout

using Table = uint8_t[kLevels];
using Tables = Table[kChannels];

// Moves from a whole number (factor 0) to a level (1) and beyond.
inline uint8_t Blend(float start, float level, float factor) {
  float mixed = start + factor * (level - start);
  if (factor > 1) mixed = std::min(std::max(mixed, 0.0f), 255.0f);
  return static_cast<uint8_t>(static_cast<int>(mixed));
}

// ---- Tables of levels.

uint8_t Posterized(int level, int bits) {
  // In the reference the shift wraps to uint8, and its kernel takes 7 at most.
  const int shift = std::min((8 - bits) & 255, 7);
  return level & (255 >> shift << shift);
}

uint8_t Solarized(int level, int threshold) {
  return level >= (threshold & 255) ? 255 - level : level;
}

uint8_t SolarizeAdded(int level, int addition) {
  return level < 128 ? std::min(255, level + std::min(addition, 255)) : level;
}

uint8_t Brightened(int level, float factor) {
  return static_cast<uint8_t>(static_cast<int>(std::min(level * factor, 255.0f)));
}

// Of ops that are the same for all images of a size and all channels.
uint8_t Changed(const Step& step, int level, int pixels) {
  const int whole = static_cast<int>(step.parameter);
  switch (step.kind) {
    case Kind::kInvert:
      return 255 - level;
    case Kind::kPosterize:
      return Posterized(level, whole);
    case Kind::kSolarize:
      return Solarized(level, whole);
    case Kind::kSolarizeAdd:
      return SolarizeAdded(level, whole);
    case Kind::kBrightness:
      return Brightened(level, step.parameter);
    default: {  // Contrast: the reference takes the mean of the histogram's bins
      const int grey = std::min(pixels / 256.0, 255.0);
      return Blend(grey, level, step.parameter);
    }
  }
}

void Count(const uint8_t* image, int pixels, int counts[kChannels][kLevels]) {
  // Four histograms, so that a level that follows itself does not wait for its sum.
  int parts[4][kChannels][kLevels] = {};
  for (int i = 0; i < pixels; ++i) {
    for (int c = 0; c < kChannels; ++c) ++parts[i & 3][c][*image++];
  }
  for (int c = 0; c < kChannels; ++c) {
    for (int level = 0; level < kLevels; ++level) {
      counts[c][level] = parts[0][c][level] + parts[1][c][level] + parts[2][c][level] +
                         parts[3][c][level];
    }
  }
}

// Finds the lowest and the highest level of each channel.
FUSED_LOOP void FindEnds(const uint8_t* image, int pixels, uint8_t low[kChannels],
                         uint8_t high[kChannels]) {
  typedef uint8_t Levels __attribute__((vector_size(32)));
  // The channels lie alike in every three of them.
  Levels lows[kChannels], highs[kChannels];
  for (int k = 0; k < kChannels; ++k) {
    lows[k] = ~Levels{};
    highs[k] = Levels{};
  }
  constexpr int kAtATime = kChannels * sizeof(Levels);
  const int n = kChannels * pixels;
  int begin = 0;
  for (; begin + kAtATime <= n; begin += kAtATime) {
    for (int k = 0; k < kChannels; ++k) {
      Levels levels;
      std::memcpy(&levels, image + begin + k * sizeof(Levels), sizeof(Levels));
      lows[k] = levels < lows[k] ? levels : lows[k];
      highs[k] = levels > highs[k] ? levels : highs[k];
    }
  }
  uint8_t ends[2][kAtATime];
  std::memcpy(ends[0], lows, kAtATime);
  std::memcpy(ends[1], highs, kAtATime);
  for (int c = 0; c < kChannels; ++c) {
    low[c] = kLevels - 1;
    high[c] = 0;
    for (int k = c; k < kAtATime; k += kChannels) {
      low[c] = std::min(low[c], ends[0][k]);
      high[c] = std::max(high[c], ends[1][k]);
    }
    for (int k = begin + c; k < n; k += kChannels) {
      low[c] = std::min(low[c], image[k]);
      high[c] = std::max(high[c], image[k]);
    }
  }
}

void AutoContrast(int low, int high, Table& table) {
  const float scale = high > low ? 255.0f / static_cast<float>(high - low) : 1.0f;
  const float offset = high > low ? -static_cast<float>(low) * scale : 0.0f;
  for (int level = low; level <= high; ++level) {  // there are no others
    const float stretched = static_cast<float>(level) * scale + offset;
    table[level] = static_cast<uint8_t>(static_cast<int>(stretched));
  }
}

void Equalize(const int counts[kLevels], int pixels, Table& table) {
  int high = kLevels - 1;
  while (high > 0 && !counts[high]) --high;
  const int step = (pixels - counts[high]) / 255;  // of all but the brightest
  int below = 0;
  for (int level = 0; level < kLevels; ++level) {
    table[level] = step ? std::min((below + step / 2) / step, 255) : level;
    below += counts[level];
  }
}

FUSED_LOOP void LookUp(const uint8_t* from, int pixels, const Tables& tables,
                       uint8_t* to) {
  for (int i = 0; i < kChannels * pixels; i += kChannels) {
    for (int c = 0; c < kChannels; ++c) to[i + c] = tables[c][from[i + c]];
  }
}

// ---- Ops of more than a level.

FUSED_LOOP void BlendAll(const float* starts, const uint8_t* levels, int n,
                         float factor, uint8_t* to) {
  if (factor > 1) {
    for (int i = 0; i < n; ++i) {
      const float mixed = starts[i] + factor * (levels[i] - starts[i]);
      const float clipped = std::min(std::max(mixed, 0.0f), 255.0f);
      to[i] = static_cast<uint8_t>(static_cast<int>(clipped));
    }
  } else {
    for (int i = 0; i < n; ++i) {
      const float mixed = starts[i] + factor * (levels[i] - starts[i]);
      to[i] = static_cast<uint8_t>(static_cast<int>(mixed));
    }
  }
}

// The grey of pixels, in the order of sums of TensorFlow's rgb_to_grayscale.
FUSED_LOOP void Greys(const uint8_t* levels, int pixels, float* greys) {
  const float whole = 1.0f / 255.0f;
  for (int i = 0; i < pixels; ++i) {
    const float red = levels[kChannels * i] * whole * 0.2989f;
    const float green = levels[kChannels * i + 1] * whole * 0.587f;
    const float blue = levels[kChannels * i + 2] * whole * 0.114f;
    greys[i] = static_cast<int>((red + green + blue) * 255.5f);
  }
}

void Color(const uint8_t* from, int pixels, float factor, uint8_t* to) {
  constexpr int kAtATime = 256;
  float greys[kAtATime], starts[kChannels * kAtATime];
  for (int begin = 0; begin < pixels; begin += kAtATime) {
    const int count = std::min(kAtATime, pixels - begin);
    const size_t first = static_cast<size_t>(kChannels) * begin;
    Greys(from + first, count, greys);
    for (int i = 0; i < count; ++i) {
      for (int c = 0; c < kChannels; ++c) starts[kChannels * i + c] = greys[i];
    }
    BlendAll(starts, from + first, kChannels * count, factor, to + first);
  }
}

FUSED_LOOP void Weigh(const uint8_t* levels, int n, float weight, float* weighed) {
  for (int i = 0; i < n; ++i) weighed[i] = levels[i] * weight;
}

// The mean of nine pixels, the middle one five times, from the first to the last row.
FUSED_LOOP void Smooth(const float* above, const float* here, const float* middle,
                       const float* below, int n, float* smooth) {
  for (int i = 0; i < n; ++i) {
    float sum = above[i] + above[i + 3] + above[i + 6];
    sum = sum + here[i] + middle[i] + here[i + 6];
    sum = sum + below[i] + below[i + 3] + below[i + 6];
    smooth[i] = static_cast<int>(sum);
  }
}

void Sharpness(const uint8_t* from, int height, int width, float factor, uint8_t* to) {
  const size_t n = static_cast<size_t>(kChannels) * width;
  std::memcpy(to, from, n * height);
  if (height < 3 || width < 3) return;
  const float once = 1.0f / 13.0f, five_times = 5.0f / 13.0f;
  const int inner = static_cast<int>(n) - 2 * kChannels;
  std::vector<float> rows(3 * n), middle(inner), smooth(inner);
  float* weighed[3] = {rows.data(), rows.data() + n, rows.data() + 2 * n};
  for (int y = 0; y < 2; ++y) Weigh(from + n * y, n, once, weighed[y]);
  for (int y = 1; y < height - 1; ++y) {
    Weigh(from + n * (y + 1), n, once, weighed[2]);
    const uint8_t* levels = from + n * y + kChannels;
    Weigh(levels, inner, five_times, middle.data());
    Smooth(weighed[0], weighed[1], middle.data(), weighed[2], inner, smooth.data());
    BlendAll(smooth.data(), levels, inner, factor, to + n * y + kChannels);
    std::rotate(weighed, weighed + 1, weighed + 3);
  }
}

void Move(const uint8_t* from, int pixels, const int32_t* sources, uint8_t* to) {
  constexpr int kRun = 8;
  int i = 0;
  for (; i + kRun <= pixels; i += kRun) {
    const int32_t* run = sources + i;
    int breaks = run[0] == 0;
    for (int k = 1; k < kRun; ++k) breaks |= run[k] - run[0] - k;
    uint8_t* pixel = to + static_cast<size_t>(kChannels) * i;
    if (!breaks) {  // neighbours stay neighbours
      std::memcpy(pixel, from + static_cast<size_t>(kChannels) * (run[0] - 1),
                  kChannels * kRun);
      continue;
    }
    for (int k = 0; k < kRun; ++k, pixel += kChannels) {
      static const uint8_t grey[kChannels] = {kGrey, kGrey, kGrey};
      std::memcpy(pixel,
                  run[k] ? from + static_cast<size_t>(kChannels) * (run[k] - 1) : grey,
                  kChannels);
    }
  }
  for (; i < pixels; ++i) {
    uint8_t* pixel = to + static_cast<size_t>(kChannels) * i;
    for (int c = 0; c < kChannels; ++c) {
      pixel[c] = sources[i]
                     ? from[static_cast<size_t>(kChannels) * (sources[i] - 1) + c]
                     : kGrey;
    }
  }
}

void Cutout(const uint8_t* from, int height, int width, const Step& step, uint8_t* to) {
  const size_t n = static_cast<size_t>(kChannels) * width;
  std::memcpy(to, from, n * height);
  const int half = static_cast<int>(step.parameter);
  const int top = std::max(step.center_y - half, 0);
  const int bottom = std::min(step.center_y + half, height);
  const int left = std::max(step.center_x - half, 0);
  const int right = std::min(step.center_x + half, width);
  if (left >= right) return;
  for (int y = top; y < bottom; ++y) {
    std::memset(to + n * y + kChannels * left, kGrey, kChannels * (right - left));
  }
}

// An image on its way through the ops: the newest state, and where the next one goes.
class Image {
 public:
  Image(const uint8_t* image, int height, int width, uint8_t* result)
      : height_(height), width_(width), result_(result), newest_(image) {}

  void Apply(const Step& step) {
    switch (step.kind) {
      case Kind::kNothing:
        return;
      case Kind::kAutoContrast:
        return StretchEnds();
      case Kind::kEqualize:
        return StretchCounts();
      case Kind::kColor:
        LookUpPending();
        Color(newest_, pixels(), step.parameter, next());
        break;
      case Kind::kSharpness:
        LookUpPending();
        Sharpness(newest_, height_, width_, step.parameter, next());
        break;
      case Kind::kMoved:
        LookUpPending();
        Move(newest_, pixels(), step.sources, next());
        break;
      case Kind::kCutout:
        LookUpPending();
        Cutout(newest_, height_, width_, step, next());
        break;
      default: {
        Table table;
        for (int level = 0; level < kLevels; ++level) {
          table[level] = Changed(step, level, pixels());
        }
        for (int c = 0; c < kChannels; ++c) Compose(c, table);
        return;
      }
    }
    newest_ = next();
  }

  void Finish() {
    LookUpPending();
    if (newest_ != result_) {
      std::memcpy(result_, newest_, static_cast<size_t>(kChannels) * pixels());
    }
  }

 private:
  int pixels() const { return height_ * width_; }

  // The one of two buffers in which the newest state is not.
  uint8_t* next() {
    if (newest_ != result_) return result_;
    other_.resize(static_cast<size_t>(kChannels) * pixels());
    return other_.data();
  }

  void StretchEnds() {
    LookUpPending();
    uint8_t low[kChannels], high[kChannels];
    FindEnds(newest_, pixels(), low, high);
    for (int c = 0; c < kChannels; ++c) {
      Table table = {};
      AutoContrast(low[c], high[c], table);
      Compose(c, table);
    }
  }

  void StretchCounts() {
    LookUpPending();
    int counts[kChannels][kLevels];
    Count(newest_, pixels(), counts);
    for (int c = 0; c < kChannels; ++c) {
      Table table;
      Equalize(counts[c], pixels(), table);
      Compose(c, table);
    }
  }

  // Puts a table behind what is pending for a channel; all channels get one in turn.
  void Compose(int channel, const Table& table) {
    for (int level = 0; level < kLevels; ++level) {
      uint8_t& entry = pending_[channel][level];
      entry = table[is_pending_ ? entry : level];
    }
    if (channel == kChannels - 1) is_pending_ = true;
  }

  void LookUpPending() {
    if (!is_pending_) return;
    is_pending_ = false;
    LookUp(newest_, pixels(), pending_, next());
    newest_ = next();
  }

  const int height_, width_;
  uint8_t* const result_;
  const uint8_t* newest_;
  std::vector<uint8_t> other_;
  Tables pending_;
  bool is_pending_ = false;
};

}  // namespace

bool KindOf(const std::string& name, Kind* kind) {
  static const std::map<std::string, Kind> kinds = {
      {"", Kind::kNothing},
      {"AutoContrast", Kind::kAutoContrast},
      {"Equalize", Kind::kEqualize},
      {"Invert", Kind::kInvert},
      {"Rotate", Kind::kMoved},
      {"Posterize", Kind::kPosterize},
      {"Solarize", Kind::kSolarize},
      {"Color", Kind::kColor},
      {"Contrast", Kind::kContrast},
      {"Brightness", Kind::kBrightness},
      {"Sharpness", Kind::kSharpness},
      {"ShearX", Kind::kMoved},
      {"ShearY", Kind::kMoved},
      {"TranslateX", Kind::kMoved},
      {"TranslateY", Kind::kMoved},
      {"Cutout", Kind::kCutout},
      {"SolarizeAdd", Kind::kSolarizeAdd},
  };
  const auto found = kinds.find(name);
  if (found == kinds.end()) return false;
  *kind = found->second;
  return true;
}

FUSED_LOOP bool AreWithin(const int32_t* sources, int pixels) {
  uint32_t most = 0;  // a negative one is more than any number of pixels
  for (int i = 0; i < pixels; ++i) {
    most = std::max(most, static_cast<uint32_t>(sources[i]));
  }
  return most <= static_cast<uint32_t>(pixels);
}

void Augment(const uint8_t* image, int height, int width,
             const std::vector<Step>& steps, uint8_t* augmented) {
  Image state(image, height, width, augmented);
  for (const Step& step : steps) state.Apply(step);
  state.Finish();
}

}  // namespace fused
