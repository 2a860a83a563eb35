// An Example is features = 1, of entries = 1, each of a name = 1 and a feature = 2; that
// is one of bytes_list = 1, float_list = 2 and int64_list = 3, whose values = 1; numbers
// are packed. All of these have a length, so a tag is one byte: number * 8 + 2.
#include "example.h"

#include <optional>

namespace fused {
namespace {

constexpr uint8_t kFirst = 1 << 3 | 2, kSecond = 2 << 3 | 2, kThird = 3 << 3 | 2;

// Takes parts off the begin of a message; once one is not as asked for, there is none.
class Reader {
 public:
  explicit Reader(std::string_view message) : rest_(message) {}

  bool IsAtEnd() const { return rest_.empty(); }

  // A number of 28 bits at most: no message, and no label, is larger.
  std::optional<uint32_t> Number() {
    uint32_t number = 0;
    for (size_t i = 0; i < 4 && i < rest_.size(); ++i) {
      const uint8_t byte = rest_[i];
      number |= static_cast<uint32_t>(byte & 127) << (7 * i);
      if (byte < 128) {
        rest_.remove_prefix(i + 1);
        return number;
      }
    }
    return std::nullopt;
  }

  // What has this tag, and lies here.
  std::optional<std::string_view> Part(uint8_t tag) {
    if (rest_.empty() || static_cast<uint8_t>(rest_[0]) != tag) return std::nullopt;
    rest_.remove_prefix(1);
    const std::optional<uint32_t> size = Number();
    if (!size || *size > rest_.size()) return std::nullopt;
    const std::string_view part = rest_.substr(0, *size);
    rest_.remove_prefix(*size);
    return part;
  }

 private:
  std::string_view rest_;
};

// The part of this tag if a message has it and nothing else.
std::optional<std::string_view> OnlyPart(std::string_view message, uint8_t tag) {
  Reader reader(message);
  const std::optional<std::string_view> part = reader.Part(tag);
  return part && reader.IsAtEnd() ? part : std::nullopt;
}

std::optional<std::string_view> OnlyText(std::string_view feature) {
  const std::optional<std::string_view> list = OnlyPart(feature, kFirst);
  return list ? OnlyPart(*list, kFirst) : std::nullopt;
}

std::optional<uint32_t> OnlyNumber(std::string_view feature) {
  const std::optional<std::string_view> list = OnlyPart(feature, kThird);
  const std::optional<std::string_view> packed =
      list ? OnlyPart(*list, kFirst) : std::nullopt;
  if (!packed) return std::nullopt;
  Reader reader(*packed);
  const std::optional<uint32_t> number = reader.Number();
  return number && reader.IsAtEnd() ? number : std::nullopt;
}

}  // namespace

bool ParseExample(std::string_view serialized, const std::string& text_field,
                  const std::string& number_field, std::string_view* text,
                  int64_t* number) {
  const std::optional<std::string_view> features = OnlyPart(serialized, kFirst);
  if (!features) return false;
  int texts = 0, numbers = 0;
  for (Reader entries(*features); !entries.IsAtEnd();) {
    const std::optional<std::string_view> entry = entries.Part(kFirst);
    if (!entry) return false;
    Reader reader(*entry);
    const std::optional<std::string_view> name = reader.Part(kFirst);
    const std::optional<std::string_view> feature = reader.Part(kSecond);
    if (!name || !feature || !reader.IsAtEnd()) return false;
    if (*name == text_field) {
      const std::optional<std::string_view> found = OnlyText(*feature);
      if (!found) return false;
      *text = *found;
      ++texts;
    } else if (*name == number_field) {
      const std::optional<uint32_t> found = OnlyNumber(*feature);
      if (!found) return false;
      *number = *found;
      ++numbers;
    }
  }
  return texts == 1 && numbers == 1;
}

}  // namespace fused
