// The simplest tokenizer that is not bytes: every character (Unicode code point) is a token.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <tendril/core/api.h>

namespace tendril {

class TENDRIL_API CharVocabulary {
 public:
  /// The distinct characters of UTF-8 text; ids follow the order of their code points. Error for
  /// other text.
  static CharVocabulary from_text(std::string_view text);
  /// What save() wrote: {"type": "characters", "characters": ["\n", " ", "a", ...]}.
  static CharVocabulary load(const std::string& path);
  void save(const std::string& path) const;

  int64_t size() const { return static_cast<int64_t>(characters_.size()); }
  /// Error that names the first character which the vocabulary lacks.
  std::vector<int64_t> encode(std::string_view text) const;
  /// Error for ids out of range.
  std::string decode(std::span<const int64_t> ids) const;

  friend bool operator==(const CharVocabulary&, const CharVocabulary&) = default;

 private:
  std::vector<char32_t> characters_;  // rising
};

}  // namespace tendril
