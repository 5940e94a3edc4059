// Private to optim: work on large matrices in pieces, so that temporaries stay small.
#pragma once

#include <algorithm>

#include <tendril/autograd/functions.h>

namespace tendril::optim {

/// Some rows of a matrix; of tensors of other ranks, all.
struct Piece {
  int64_t begin, end;
  bool whole;

  /// A view of these rows of a tensor that has as many of them as the matrix.
  Tensor of(const Tensor& x) const { return whole ? x : slice(x, 0, begin, end); }
};

inline constexpr Piece kWhole{.begin = 0, .end = 0, .whole = true};

/// Calls body(piece) for one piece of x after the other. A matrix has pieces of about a million
/// elements: 4 MiB, where a whole embedding's gradient has hundreds.
template <class Body>
void for_each_piece(const Tensor& x, const Body& body) {
  constexpr int64_t kElements = int64_t{1} << 20;
  if (x.rank() != 2 || x.numel() <= kElements) return body(kWhole);
  const int64_t rows = x.size(0), step = std::max<int64_t>(1, kElements / x.size(1));
  for (int64_t begin = 0; begin < rows; begin += step)
    body(Piece{.begin = begin, .end = std::min(rows, begin + step), .whole = false});
}

}  // namespace tendril::optim
