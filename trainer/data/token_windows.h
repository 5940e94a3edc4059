// Windows over a long row of tokens, for language models.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <tendril/trainer/batch.h>

namespace tendril {

/// How tokens lie in memory: unsigned little-endian numbers of so many bytes.
enum class TokenWidth : uint8_t { u8 = 1, u16 = 2, u32 = 4 };

/// Window i covers the T + 1 tokens from i * stride on: T inputs and the T tokens that follow each
/// of them.
class TENDRIL_API TokenWindows {
 public:
  struct Tokens {
    std::shared_ptr<const void> owner;  // keeps `data` alive
    const void* data = nullptr;
    int64_t count = 0;
    TokenWidth width = TokenWidth::u8;
    int64_t vocab_size = int64_t{1} << 31;  // get() is an Error where a token is not below it
    std::string origin;                     // where they come from, for errors
  };
  /// `stride` 0 means T: windows side by side. Error unless T and stride are positive and there is
  /// at least one window.
  TokenWindows(Tokens tokens, int64_t T, int64_t stride);

  int64_t size() const { return (tokens_.count - T_ - 1) / stride_ + 1; }
  /// {"input_ids": i64 (T), "shift_labels": i64 (T)}, the latter one token ahead.
  Example get(int64_t index) const;
  /// The same over the tokens in [begin, end).
  TokenWindows part(int64_t begin, int64_t end) const;
  int64_t token_count() const { return tokens_.count; }

 private:
  Tokens tokens_;
  int64_t T_, stride_;
};

}  // namespace tendril
