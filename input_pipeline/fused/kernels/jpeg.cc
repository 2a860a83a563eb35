#include "jpeg.h"

#include "tensorflow/core/lib/jpeg/jpeg_mem.h"

namespace fused {
namespace {

constexpr int kChannels = 3;

}  // namespace

bool ReadSides(std::string_view encoded, int64_t max_pixels, int* height, int* width) {
  // Before libjpeg is asked, which complains on its own of what is no JPEG.
  if (encoded.substr(0, 3) != "\xff\xd8\xff") return false;
  int channels = 0;
  return tensorflow::jpeg::GetImageInfo(encoded.data(), encoded.size(), width, height,
                                        &channels) &&
         static_cast<int64_t>(*height) * *width <= max_pixels;
}

bool Decode(std::string_view encoded, const Window& window, std::vector<uint8_t>* crop) {
  tensorflow::jpeg::UncompressFlags flags;
  flags.components = kChannels;
  flags.dct_method = JDCT_IFAST;  // as of TensorFlow's ops where nobody chooses
  flags.crop = true;
  flags.crop_y = window.top;
  flags.crop_x = window.left;
  flags.crop_height = window.height;
  flags.crop_width = window.width;
  const auto allocate = [&](int width, int height, int components) -> uint8_t* {
    if (width != window.width || height != window.height || components != kChannels) {
      return nullptr;
    }
    crop->resize(static_cast<size_t>(kChannels) * width * height);
    return crop->data();
  };
  return tensorflow::jpeg::Uncompress(encoded.data(), encoded.size(), flags, nullptr,
                                      allocate) != nullptr;
}

}  // namespace fused
