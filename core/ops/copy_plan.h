// Private to core: how a strided copy is walked, on the CPU as on a GPU.
#pragma once

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include <tendril/core/ops/convert.h>
#include <tendril/core/shape.h>

namespace tendril::ops {

struct CopyAxis {
  int64_t size, to, from;  // strides in elements
};

/// The axes of a copy in the order of the destination's memory, with as few axes as possible.
struct CopyPlan {
  std::array<CopyAxis, Shape::kMaxRank + 2> axes;
  int64_t rank = 0;
  int64_t to_shift = 0, from_shift = 0;  // where the walk starts, in elements

  CopyPlan(const Shape& shape, const Strides& to, const Strides& from) {
    for (int64_t i = 0; i < shape.rank(); ++i) {
      if (shape[i] == 1) continue;
      CopyAxis axis{shape[i], to[i], from[i]};
      if (axis.to < 0) {  // walk the destination upwards
        to_shift += axis.to * (axis.size - 1);
        from_shift += axis.from * (axis.size - 1);
        axis.to = -axis.to, axis.from = -axis.from;
      }
      axes[rank++] = axis;
    }
    std::stable_sort(axes.begin(), axes.begin() + rank,
                     [](const CopyAxis& a, const CopyAxis& b) { return a.to > b.to; });
    merge();
    if (rank >= 2) bring_source_axis_inwards();
    while (rank < 2) {
      std::copy_backward(axes.begin(), axes.begin() + rank, axes.begin() + rank + 1);
      axes[0] = {1, 0, 0};
      ++rank;
    }
  }

  /// Whether the source is dense along another axis than the destination: the second innermost.
  bool transposed() const {
    const CopyAxis &row = axes[rank - 2], &column = axes[rank - 1];
    return row.size > 1 && std::abs(row.from) < std::abs(column.from) && row.from != 0;
  }

 private:
  // Two neighbours become one axis when the outer one continues where the inner one ends.
  void merge() {
    int64_t kept = 0;
    for (int64_t i = 1; i < rank; ++i) {
      CopyAxis& outer = axes[kept];
      const CopyAxis& inner = axes[i];
      if (outer.to == inner.to * inner.size && outer.from == inner.from * inner.size)
        outer = {outer.size * inner.size, inner.to, inner.from};
      else
        axes[++kept] = inner;
    }
    rank = std::min(rank, kept + 1);
  }

  // When the source is dense along another axis than the destination, that axis becomes the
  // second innermost, so that square tiles use whole cache lines on both sides.
  void bring_source_axis_inwards() {
    int64_t dense = rank - 1;
    for (int64_t i = rank - 2; i >= 0; --i)
      if (axes[i].from != 0 && std::abs(axes[i].from) < std::abs(axes[dense].from)) dense = i;
    if (dense < rank - 1)
      std::rotate(axes.begin() + dense, axes.begin() + dense + 1, axes.begin() + rank - 1);
  }
};

/// A number as an element of a dtype: its first size_of(dtype) bytes.
struct ElementBytes {
  alignas(8) char bytes[8] = {};

  ElementBytes(DType dtype, double value) {
    visit_dtype(dtype, [&]<class T>(TypeTag<T>) {
      const T converted = convert<T>(value);
      std::memcpy(bytes, &converted, sizeof converted);
    });
  }
};

}  // namespace tendril::ops
