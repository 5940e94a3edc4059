// Language modelling over a text in memory.
//
//   const auto text = TextDataset::bytes(read_text_file("book.txt"), 256)->split();
//   Trainer trainer(model, args, {.train = text.train, .eval = text.eval});
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include <tendril/trainer/data/char_vocabulary.h>
#include <tendril/trainer/data/dataset.h>
#include <tendril/trainer/data/token_windows.h>

namespace tendril {

struct TextSplit;

/// Example i is {"input_ids": i64 (T), "shift_labels": i64 (T)}: the T tokens from i * stride on,
/// and for each of them the token that follows. `stride` 0 means T, windows side by side; 1 gives a
/// window for every token. A rest too short for a window is left out; Error when not even one
/// window of T + 1 tokens fits.
class TENDRIL_API TextDataset : public Dataset {
 public:
  /// Tokens are bytes, 256 of them.
  static std::shared_ptr<const TextDataset> bytes(std::string_view text, int64_t T,
                                                  int64_t stride = 0);
  static std::shared_ptr<const TextDataset> characters(std::string_view text,
                                                       const CharVocabulary& vocabulary, int64_t T,
                                                       int64_t stride = 0);
  /// What any tokenizer made; each in [0, 2^31).
  static std::shared_ptr<const TextDataset> tokens(std::span<const int64_t> tokens, int64_t T,
                                                   int64_t stride = 0);

  std::optional<int64_t> size() const override { return windows_.size(); }
  Example get(int64_t index) const override { return windows_.get(index); }

  /// The beginning and, for evaluation, the last `eval_fraction` of the tokens: no token is in
  /// both. Error when one of them is too short for a window.
  TextSplit split(double eval_fraction = 0.1) const;

 private:
  explicit TextDataset(TokenWindows windows) : windows_(std::move(windows)) {}
  static std::shared_ptr<const TextDataset> make(TokenWindows windows);

  TokenWindows windows_;
};

struct TextSplit {
  std::shared_ptr<const TextDataset> train, eval;
};

}  // namespace tendril
