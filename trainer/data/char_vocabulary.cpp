#include <tendril/trainer/data/char_vocabulary.h>

#include <algorithm>
#include <bit>

#include <tendril/core/error.h>
#include <tendril/core/file.h>
#include <tendril/core/json.h>

namespace tendril {
namespace {

// Calls body(code point, its place in the text) for every character.
template <class Body>
void for_each_character(std::string_view text, const Body& body) {
  TENDRIL_CHECK(is_utf8(text),
                "[CharVocabulary] the text is not valid UTF-8; bytes need no "
                "vocabulary, see TextDataset::bytes");
  for (size_t i = 0; i < text.size();) {
    // The number of leading ones in the first byte is the length (none: one byte).
    const auto lead = static_cast<uint8_t>(text[i]);
    const int ones = std::countl_one(lead);
    const size_t length = ones == 0 ? 1 : static_cast<size_t>(ones);
    auto code = static_cast<char32_t>(ones == 0 ? lead : lead & (0x7F >> ones));
    for (size_t j = 1; j < length; ++j)
      code = code << 6 | (static_cast<uint8_t>(text[i + j]) & 0x3F);
    body(code, i);
    i += length;
  }
}

void append_utf8(std::string& out, char32_t code) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
    return;
  }
  const int tails = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  const int lead = tails == 1 ? 0xC0 : tails == 2 ? 0xE0 : 0xF0;
  out += static_cast<char>(lead | static_cast<int>(code >> (6 * tails)));
  for (int i = tails - 1; i >= 0; --i) tail(6 * i);
}

std::string as_utf8(char32_t code) {
  std::string text;
  append_utf8(text, code);
  return text;
}

}  // namespace

CharVocabulary CharVocabulary::from_text(std::string_view text) {
  std::vector<bool> seen(0x110000);
  for_each_character(text, [&](char32_t code, size_t) { seen[code] = true; });
  CharVocabulary vocabulary;
  for (size_t code = 0; code < seen.size(); ++code)
    if (seen[code]) vocabulary.characters_.push_back(static_cast<char32_t>(code));
  return vocabulary;
}

std::vector<int64_t> CharVocabulary::encode(std::string_view text) const {
  std::vector<int64_t> ids;
  ids.reserve(text.size());
  for_each_character(text, [&](char32_t code, size_t place) {
    const auto found = std::lower_bound(characters_.begin(), characters_.end(), code);
    TENDRIL_CHECK(found != characters_.end() && *found == code, "[CharVocabulary] the character ",
                  json_quote(as_utf8(code)), " at byte ", place, " is not one of the ", size(),
                  " of the vocabulary");
    ids.push_back(found - characters_.begin());
  });
  return ids;
}

std::string CharVocabulary::decode(std::span<const int64_t> ids) const {
  std::string text;
  for (const int64_t id : ids) {
    TENDRIL_CHECK(id >= 0 && id < size(), "[CharVocabulary] there is no character ", id,
                  "; ids are in [0, ", size(), ")");
    append_utf8(text, characters_[static_cast<size_t>(id)]);
  }
  return text;
}

void CharVocabulary::save(const std::string& path) const {
  Json characters = Json::array();
  for (const char32_t code : characters_) characters.push_back(as_utf8(code));
  Json file = Json::object();
  file.set("type", "characters").set("characters", std::move(characters));
  write_text_file(path, file.dump(2) + "\n");
}

CharVocabulary CharVocabulary::load(const std::string& path) {
  CharVocabulary vocabulary;
  try {
    const Json file = Json::parse(read_text_file(path), path);
    TENDRIL_CHECK(file.at("type").as_string() == "characters",
                  "its type must be \"characters\"; got ", file.at("type").dump());
    for (const Json& item : file.at("characters").items()) {
      std::vector<char32_t>& known = vocabulary.characters_;
      const size_t before = known.size();
      for_each_character(item.as_string(), [&](char32_t code, size_t) { known.push_back(code); });
      TENDRIL_CHECK(known.size() == before + 1, "each entry must be one character; got ",
                    item.dump());
      TENDRIL_CHECK(before == 0 || known[before - 1] < known[before],
                    "characters must rise by code point; got ", item.dump(), " out of order");
    }
  } catch (const Error& error) {
    fail("[CharVocabulary] cannot load ", path, ": ", error.what());
  }
  return vocabulary;
}

}  // namespace tendril
