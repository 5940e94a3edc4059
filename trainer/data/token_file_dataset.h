// Language modelling over a file of tokens, of any size: it is mapped, not read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <tendril/trainer/data/dataset.h>
#include <tendril/trainer/data/token_windows.h>

namespace tendril {

struct TokenFileOptions {
  TokenWidth width = TokenWidth::u16;  // u32 reads files of 32-bit signed numbers, too
  int64_t stride = 0;                  // between windows; 0: T
  int64_t vocab_size = 0;              // tokens must be below it; 0: below 2^31
};

/// A file of nothing but unsigned little-endian numbers, as nanoGPT's .bin. Examples are those of
/// TextDataset: {"input_ids": i64 (T), "shift_labels": i64 (T)}.
class TENDRIL_API TokenFileDataset : public Dataset {
 public:
  /// Error unless the file is whole tokens, at least T + 1 of them. Tokens are checked by get(), as
  /// they are read.
  TokenFileDataset(const std::string& path, int64_t T, const TokenFileOptions& options = {});

  std::optional<int64_t> size() const override { return windows_.size(); }
  Example get(int64_t index) const override { return windows_.get(index); }
  int64_t token_count() const { return windows_.token_count(); }

 private:
  TokenWindows windows_;
};

}  // namespace tendril
