#include <tendril/trainer/data/text_dataset.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <tendril/core/error.h>

namespace tendril {
namespace {

// Tokens in memory of their own, no wider than they need.
template <class T>
TokenWindows::Tokens packed(std::span<const int64_t> tokens, TokenWidth width) {
  auto values = std::make_shared<const std::vector<T>>(tokens.begin(), tokens.end());
  return {.owner = values,
          .data = values->data(),
          .count = static_cast<int64_t>(values->size()),
          .width = width,
          .origin = "the text"};
}

}  // namespace

std::shared_ptr<const TextDataset> TextDataset::make(TokenWindows windows) {
  return std::shared_ptr<const TextDataset>(new TextDataset(std::move(windows)));
}

std::shared_ptr<const TextDataset> TextDataset::bytes(std::string_view text, int64_t T,
                                                      int64_t stride) {
  auto copy = std::make_shared<const std::string>(text);
  TokenWindows::Tokens tokens{.owner = copy,
                              .data = copy->data(),
                              .count = static_cast<int64_t>(copy->size()),
                              .width = TokenWidth::u8,
                              .origin = "the text"};
  return make(TokenWindows(std::move(tokens), T, stride));
}

std::shared_ptr<const TextDataset> TextDataset::characters(std::string_view text,
                                                           const CharVocabulary& vocabulary,
                                                           int64_t T, int64_t stride) {
  return tokens(vocabulary.encode(text), T, stride);
}

std::shared_ptr<const TextDataset> TextDataset::tokens(std::span<const int64_t> tokens, int64_t T,
                                                       int64_t stride) {
  for (size_t i = 0; i < tokens.size(); ++i)
    TENDRIL_CHECK(tokens[i] >= 0 && tokens[i] < int64_t{1} << 31, "[TextDataset] token ", i, " is ",
                  tokens[i], "; tokens must be in [0, 2^31)");
  const bool narrow =
      std::all_of(tokens.begin(), tokens.end(), [](int64_t token) { return token < 256; });
  return make(TokenWindows(
      narrow ? packed<uint8_t>(tokens, TokenWidth::u8) : packed<uint32_t>(tokens, TokenWidth::u32),
      T, stride));
}

TextSplit TextDataset::split(double eval_fraction) const {
  TENDRIL_CHECK(eval_fraction > 0 && eval_fraction < 1,
                "[TextDataset] eval_fraction must be between 0 and 1; got ", eval_fraction);
  const int64_t count = windows_.token_count();
  const auto eval = static_cast<int64_t>(std::ceil(static_cast<double>(count) * eval_fraction));
  const int64_t border = std::max<int64_t>(count - eval, 0);
  return {make(windows_.part(0, border)), make(windows_.part(border, count))};
}

}  // namespace tendril
