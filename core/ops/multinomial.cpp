#include <tendril/core/ops/sampling.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/draw_order.h>
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
  double before = 0.0, block = 0.0;
  for (int64_t i = 0; i < size; ++i) {
    const double weight = convert<double>(weights[i]);
    TENDRIL_CHECK(weight >= 0.0 && std::isfinite(weight), "[multinomial] ", kBadWeight, "; got ",
                  weight, " in row ", index);
    row.positive += weight > 0.0;
    if (i > 0 && i % kDrawBlock == 0) before += std::exchange(block, 0.0);
    row.running[static_cast<size_t>(i)] = before + (block += weight);
  }
  const double total = row.running.back();
  TENDRIL_CHECK(row.positive > 0 && std::isfinite(total), "[multinomial] ", kBadRow, "; got ",
                total, " in row ", index);
}

// The first index whose running sum exceeds u * total: never one of weight 0.
int64_t invert(const std::vector<double>& running, uint32_t high, uint32_t low) {
  const double u = uniform_from_words(high, low);
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
    const double u = open_uniform_from_bits(key.bits(first_element + static_cast<uint64_t>(i)));
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

}  // namespace cpu

namespace cuda {  // multinomial.cu

void multinomial(const Tensor& weights, bool replacement, const RandomKey& key, const Tensor& out);

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

}  // namespace tendril::ops
