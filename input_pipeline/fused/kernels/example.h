// The two fields of a tf.train.Example that make an image and its label.
#ifndef INPUT_PIPELINE_FUSED_EXAMPLE_H_
#define INPUT_PIPELINE_FUSED_EXAMPLE_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace fused {

// Finds the one text of a field and the one whole number of another in a serialized
// Example. Only of the form that prepare writes, and most programs: each feature is
// named before its value, these two are there once, and nothing is unknown. False of any
// other, of which TensorFlow's parser has to tell what it holds.
bool ParseExample(std::string_view serialized, const std::string& text_field,
                  const std::string& number_field, std::string_view* text,
                  int64_t* number);

}  // namespace fused

#endif  // INPUT_PIPELINE_FUSED_EXAMPLE_H_
