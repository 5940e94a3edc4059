#include <tendril/core/ops/sampling.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace {

constexpr int64_t kChunk = 16384;  // elements per parallel piece

// The running sums of one row, and how many of its weights are positive.
struct Row {
  std::vector<double> running;
  int64_t positive = 0;
};

template <class T>
void read_row(const T* weights, int64_t size, int64_t index, Row& row) {
  row.running.resize(static_cast<size_t>(size));
  row.positive = 0;
  double total = 0.0;
  for (int64_t i = 0; i < size; ++i) {
    const double weight = convert<double>(weights[i]);
    TENDRIL_CHECK(weight >= 0.0 && std::isfinite(weight),
                  "[multinomial] weights must be finite and not negative; got ", weight, " in row ",
                  index);
    row.positive += weight > 0.0;
    row.running[static_cast<size_t>(i)] = total += weight;
  }
  TENDRIL_CHECK(row.positive > 0 && std::isfinite(total),
                "[multinomial] the weights of a row must have a positive, finite sum; got ", total,
                " in row ", index);
}

// The first index whose running sum exceeds u * total: never one of weight 0.
int64_t invert(const std::vector<double>& running, uint32_t high, uint32_t low) {
  const double u = static_cast<double>((uint64_t{high} << 32 | low) >> 11) * 0x1p-53;
  auto found = std::upper_bound(running.begin(), running.end(), u * running.back());
  if (found == running.end())  // u * total was rounded up to total
    found = std::lower_bound(running.begin(), running.end(), running.back());
  return found - running.begin();
}

// Exponential race: index i arrives at time -log(u_i) / weight_i, and the order of arrival is that
// of draws without replacement (Efraimidis and Spirakis, "Weighted random sampling with a
// reservoir", 2006).
template <class T>
void race(const T* weights, int64_t size, uint64_t first_element, const RandomKey& key,
          std::vector<std::pair<double, int64_t>>& arrivals) {
  arrivals.clear();
  for (int64_t i = 0; i < size; ++i) {
    const double weight = convert<double>(weights[i]);
    if (weight == 0.0) continue;
    const double u = (key.bits(first_element + static_cast<uint64_t>(i)) + 0.5) * 0x1p-32;
    arrivals.emplace_back(-std::log(u) / weight, i);
  }
}

}  // namespace

namespace cpu {

// weights (rows, size) and out (rows, count), both dense
void multinomial(const Tensor& weights, bool replacement, const RandomKey& key, const Tensor& out) {
  const int64_t size = weights.size(-1), count = out.size(-1), rows = out.numel() / count;
  int64_t* drawn = out.data<int64_t>();
  visit_floating("multinomial", weights.dtype(), [&]<class T>(TypeTag<T>) {
    const T* data = weights.data<T>();
    parallel_for(rows, std::max<int64_t>(1, kChunk / size), [&](int64_t begin, int64_t end) {
      Row row;
      std::vector<std::pair<double, int64_t>> arrivals;
      for (int64_t r = begin; r < end; ++r) {
        read_row(data + r * size, size, r, row);
        TENDRIL_CHECK(replacement || count <= row.positive, "[multinomial] cannot draw ", count,
                      " different indices; row ", r, " has ", row.positive, " positive weights");
        if (replacement || count == 1) {
          for (int64_t i = r * count; i < (r + 1) * count; ++i) {
            const auto element = static_cast<uint64_t>(2 * i);
            drawn[i] = invert(row.running, key.bits(element), key.bits(element + 1));
          }
          continue;
        }
        race(data + r * size, size, static_cast<uint64_t>(r * size), key, arrivals);
        std::partial_sort(arrivals.begin(), arrivals.begin() + count, arrivals.end());
        for (int64_t i = 0; i < count; ++i)
          drawn[r * count + i] = arrivals[static_cast<size_t>(i)].second;
      }
    });
  });
}

void bernoulli(const Tensor& probability, const RandomKey& key, const Tensor& out) {
  visit_floating("bernoulli", probability.dtype(), [&]<class T>(TypeTag<T>) {
    const T* p = probability.data<T>();
    T* result = out.data<T>();
    parallel_for(out.numel(), kChunk, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const double value = convert<double>(p[i]);
        TENDRIL_CHECK(value >= 0.0 && value <= 1.0,
                      "[bernoulli] probabilities must lie in [0, 1]; got ", value);
        const bool one = key.bits(static_cast<uint64_t>(i)) < value * 0x1p32;
        result[i] = convert<T>(one ? 1.0 : 0.0);
      }
    });
  });
}

}  // namespace cpu

namespace cuda {

void bernoulli(const Tensor& probability, const RandomKey& key, const Tensor& out);  // sampling.cu

// The running sums are sequential, and their rounding decides which index is drawn: the same draws
// on every device come from the same loop. The host waits for the weights, as it mostly does anyway
// to see what was drawn.
void multinomial(const Tensor& weights, bool replacement, const RandomKey& key, const Tensor& out) {
  const Tensor here = Tensor::empty(weights.shape(), weights.dtype());
  copy(here, weights);
  const Tensor drawn = Tensor::empty(out.shape(), out.dtype());
  cpu::multinomial(here, replacement, key, drawn);
  copy(out, drawn);
}

}  // namespace cuda

Tensor multinomial(const Tensor& weights, int64_t count, bool replacement, const RandomKey& key) {
  visit_floating("multinomial", weights.dtype(), [](auto) {});
  TENDRIL_CHECK(weights.rank() >= 1 && weights.size(-1) > 0,
                "[multinomial] needs weights (..., V) with V above 0; got shape ", weights.shape());
  TENDRIL_CHECK(count >= 1, "[multinomial] count must be at least 1; got ", count);
  Shape shape = weights.shape();
  shape[shape.rank() - 1] = count;
  const Tensor result = Tensor::empty(shape, i64, weights.device());
  const Tensor dense = contiguous(weights);
  if (result.numel() > 0) TENDRIL_ON_DEVICE(weights, multinomial(dense, replacement, key, result));
  return result;
}

Tensor bernoulli(const Tensor& probability, const RandomKey& key) {
  visit_floating("bernoulli", probability.dtype(), [](auto) {});
  const Tensor dense = contiguous(probability);
  const Tensor result = Tensor::empty(dense.shape(), dense.dtype(), dense.device());
  if (result.numel() > 0) TENDRIL_ON_DEVICE(dense, bernoulli(dense, key, result));
  return result;
}

}  // namespace tendril::ops
