#include <tendril/trainer/data/token_windows.h>

#include <algorithm>
#include <bit>
#include <utility>

#include <tendril/trainer/data/index_check.h>

namespace tendril {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are little-endian");

// out[i] = tokens[i]; returns the largest.
template <class T>
int64_t widen(const void* tokens, int64_t begin, int64_t count, int64_t* out) {
  const T* const source = static_cast<const T*>(tokens) + begin;
  T most = 0;
  for (int64_t i = 0; i < count; ++i) {
    most = std::max(most, source[i]);
    out[i] = static_cast<int64_t>(source[i]);
  }
  return static_cast<int64_t>(most);
}

int64_t widen(const TokenWindows::Tokens& tokens, int64_t begin, int64_t count, int64_t* out) {
  switch (tokens.width) {
    case TokenWidth::u8:
      return widen<uint8_t>(tokens.data, begin, count, out);
    case TokenWidth::u16:
      return widen<uint16_t>(tokens.data, begin, count, out);
    case TokenWidth::u32:
      return widen<uint32_t>(tokens.data, begin, count, out);
  }
  fail("[tokens] ", tokens.origin, ": no such token width");
}

}  // namespace

TokenWindows::TokenWindows(Tokens tokens, int64_t T, int64_t stride)
    : tokens_(std::move(tokens)), T_(T), stride_(stride == 0 ? T : stride) {
  TENDRIL_CHECK(T >= 1 && T < tokens_.count, "[tokens] ", tokens_.origin, " has ", tokens_.count,
                " tokens; a window of T = ", T, " needs T + 1 of them, and T at least 1");
  TENDRIL_CHECK(stride_ >= 1, "[tokens] the stride must be positive (0: T); got ", stride);
}

Example TokenWindows::get(int64_t index) const {
  require_index("tokens", index, size());
  const Tensor window = Tensor::empty({T_ + 1}, i64);
  int64_t* const values = window.data<int64_t>();
  const int64_t begin = index * stride_;
  if (widen(tokens_, begin, T_ + 1, values) >= tokens_.vocab_size) {
    const int64_t bad = std::find_if(values, values + T_ + 1,
                                     [&](int64_t token) { return token >= tokens_.vocab_size; }) -
                        values;
    fail("[tokens] ", tokens_.origin, ": token ", begin + bad, " is ", values[bad],
         "; tokens must be below ", tokens_.vocab_size);
  }
  // Two views of one block: the targets are the inputs, one place on.
  return {{"input_ids", Tensor::view(window.storage(), 0, {T_}, {1}, i64)},
          {"shift_labels", Tensor::view(window.storage(), 1, {T_}, {1}, i64)}};
}

TokenWindows TokenWindows::part(int64_t begin, int64_t end) const {
  TENDRIL_CHECK(begin >= 0 && begin <= end && end <= tokens_.count, "[tokens] ", tokens_.origin,
                " has no part [", begin, ", ", end, "); it has ", tokens_.count, " tokens");
  Tokens tokens = tokens_;
  tokens.data =
      static_cast<const char*>(tokens_.data) + begin * static_cast<int64_t>(tokens_.width);
  tokens.count = end - begin;
  tokens.origin += detail::concat(" from token ", begin, " to ", end);
  return TokenWindows(std::move(tokens), T_, stride_);
}

}  // namespace tendril
