#include <tendril/core/ops/embedding.h>

#include <span>
#include <vector>

#include <tendril/core/creation.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/elements.h>
#include <tendril/core/ops/indexing.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace {

Shape with_channels(const Shape& shape, int64_t channels) {
  Shape result = shape;
  result.push_back(channels);
  return result;
}

}  // namespace

namespace cpu {
namespace {

Tensor embedding(const Tensor& indices, const Tensor& weight) {
  const int64_t channels = weight.size(1);
  const Tensor rows = checked_indices("embedding", indices, weight.size(0));
  const int64_t* index = rows.data<int64_t>();
  const Tensor y = Tensor::empty(with_channels(indices.shape(), channels), weight.dtype());
  visit_floating("embedding", weight.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* table = weight.data<T>();
    T* out = y.data<T>();
    const int64_t row_stride = weight.strides()[0], step = weight.strides()[1];
    parallel_for(rows.numel(), rows_per_chunk(channels), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const T* row = table + index[n] * row_stride;
        T* target = out + n * channels;
        if (step == 1)
          std::copy_n(row, channels, target);
        else
          for (int64_t c = 0; c < channels; ++c) target[c] = row[c * step];
      }
    });
  });
  return y;
}

// Positions sorted by index, stably: those of index v are order[first[v] .. first[v + 1]).
struct Buckets {
  std::vector<int64_t> first, order, used;  // used: the indices that occur

  Buckets(std::span<const int64_t> indices, int64_t classes)
      : first(static_cast<size_t>(classes) + 1), order(indices.size()) {
    for (const int64_t v : indices) ++first[static_cast<size_t>(v) + 1];
    for (int64_t v = 0; v < classes; ++v) {
      const auto next = static_cast<size_t>(v) + 1;
      if (first[next] > 0) used.push_back(v);
      first[next] += first[next - 1];
    }
    std::vector<int64_t> free(first);
    for (size_t n = 0; n < indices.size(); ++n)
      order[static_cast<size_t>(free[static_cast<size_t>(indices[n])]++)] = static_cast<int64_t>(n);
  }
};

// Threads share the rows of the table, not the positions: no two write the same row, and every row
// is summed in the order of the positions.
void embedding_backward_add(const Tensor& dweight, const Tensor& g, const Tensor& indices,
                            std::optional<int64_t> padding) {
  const int64_t channels = g.shape().back(), classes = dweight.size(0);
  const Tensor rows = checked_indices("embedding_backward", indices, classes);
  const Buckets buckets(rows.span<const int64_t>(), classes);
  visit_floating("embedding_backward", g.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const Elements<T> in(g), out(dweight);
    const auto add_rows = [&](int64_t v) {
      const auto buffer = scratch<C>(channels), sum_buffer = scratch<C>(channels);
      C* sum = out.target(v * channels, channels, sum_buffer.get());
      const C* before = out.read(v * channels, channels, sum_buffer.get());
      if (sum != before) std::copy_n(before, channels, sum);
      const auto last = static_cast<size_t>(buckets.first[static_cast<size_t>(v) + 1]);
      for (auto i = static_cast<size_t>(buckets.first[static_cast<size_t>(v)]); i < last; ++i) {
        const C* row = in.read(buckets.order[i] * channels, channels, buffer.get());
        for (int64_t c = 0; c < channels; ++c) sum[c] += row[c];
      }
      out.write(v * channels, channels, sum);
    };
    parallel_for(static_cast<int64_t>(buckets.used.size()), rows_per_chunk(channels),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i)
                     if (const int64_t v = buckets.used[static_cast<size_t>(i)]; v != padding)
                       add_rows(v);
                 });
  });
}

}  // namespace
}  // namespace cpu

namespace cuda {  // embedding.cu
Tensor embedding(const Tensor& indices, const Tensor& weight);
void embedding_backward_add(const Tensor& dweight, const Tensor& g, const Tensor& indices,
                            std::optional<int64_t> padding);
}  // namespace cuda

Tensor embedding(const Tensor& indices, const Tensor& weight, std::optional<int64_t> padding_idx) {
  TENDRIL_CHECK(weight.rank() == 2, "[embedding] weight must have shape (V, C); got ",
                weight.shape(), "; reshape it to two axes");
  TENDRIL_CHECK(is_floating(weight.dtype()), "[embedding] needs a floating-point weight; got ",
                weight.dtype(), "; cast it with to(weight, f32)");
  TENDRIL_CHECK(!padding_idx || (*padding_idx >= 0 && *padding_idx < weight.size(0)),
                "[embedding] padding_idx out of range; got ", padding_idx.value_or(0),
                " for a table of ", weight.size(0), " rows; it must be in [0, ", weight.size(0),
                ")");
  require_same_device("embedding", weight, indices);
  return TENDRIL_ON_DEVICE(weight, embedding(indices, weight));
}

namespace {

void check_backward(const Tensor& g, const Tensor& indices) {
  require_same_device("embedding_backward", g, indices);
  TENDRIL_CHECK(g.rank() >= 1 && g.shape() == with_channels(indices.shape(), g.shape().back()),
                "[embedding_backward] gradient and indices do not fit; got ", g.shape(), " and ",
                indices.shape(), "; the gradient must be (..., C) for indices (...)");
}

}  // namespace

void embedding_backward_add(const Tensor& sum, const Tensor& g, const Tensor& indices,
                            std::optional<int64_t> padding_idx) {
  check_backward(g, indices);
  require_same_device("embedding_backward", g, sum);
  TENDRIL_CHECK(sum.is_contiguous() && sum.dtype() == g.dtype() && sum.rank() == 2 &&
                    sum.size(1) == g.shape().back(),
                "[embedding_backward] the sum must be dense ", g.dtype(), " (V, ", g.shape().back(),
                "); got ", sum.dtype(), " ", sum.shape());
  TENDRIL_ON_DEVICE(g, embedding_backward_add(sum, g, indices, padding_idx));
  sum.bump_version();
}

Tensor embedding_backward(const Tensor& g, const Tensor& indices, int64_t classes,
                          std::optional<int64_t> padding_idx) {
  check_backward(g, indices);
  const Tensor sum = zeros({classes, g.shape().back()}, g.dtype(), g.device());
  embedding_backward_add(sum, g, indices, padding_idx);
  return sum;
}

}  // namespace tendril::ops
