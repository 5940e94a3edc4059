// multinomial on a GPU, with the CPU's draws: the same random words, the same order of summation.
#include <tendril/core/ops/sampling.h>

#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/draw_order.h>
#include <tendril/core/ops/sort.h>
#include <tendril/core/cuda/indices.cuh>
#include <tendril/core/cuda/runtime.cuh>

namespace tendril::ops::cuda {
namespace {

using namespace tendril::cuda;

constexpr const char* kOp = "multinomial";
constexpr const char* kTooFew =
    "a row has fewer positive weights than different indices are to be drawn";

// What kernels say about bad weights.
struct Complaints {
  IndexFault* fault;
  HostText op, weight, row, few;
  explicit Complaints(Device device)
      : fault(index_fault(device)), op(kOp), weight(kBadWeight), row(kBadRow), few(kTooFew) {}
};

__device__ bool acceptable(double weight) { return weight >= 0.0 && isfinite(weight); }

// 0 for a weight that is reported elsewhere.
template <class T>
__device__ double weight_at(const T* weights, int64_t i) {
  const double weight = convert<double>(weights[i]);
  return acceptable(weight) ? weight : 0.0;
}

// weights (rows, size) -> sums (rows, blocks) of kDrawBlock weights each, a thread per sum.
template <class T>
__global__ void block_sums_kernel(const T* weights, double* sums, int64_t total, int64_t blocks,
                                  int64_t size, Complaints complaints) {
  for (int64_t p = first_index(); p < total; p += index_step()) {
    const Quotient place = divide(p, blocks);  // row, block
    const T* const row = weights + place.quotient * size;
    const int64_t begin = place.rest * kDrawBlock, end = min(begin + kDrawBlock, size);
    double sum = 0.0;
    for (int64_t i = begin; i < end; ++i) {
      const double weight = convert<double>(row[i]);
      if (acceptable(weight))
        sum += weight;
      else
        complaints.fault->report_value(complaints.op, complaints.weight, weight);
    }
    sums[p] = sum;
  }
}

// sums (rows, blocks) become running sums: a thread per row.
__global__ void running_kernel(double* sums, int64_t rows, int64_t blocks, Complaints complaints) {
  for (int64_t r = first_index(); r < rows; r += index_step()) {
    double* const row = sums + r * blocks;
    for (int64_t b = 1; b < blocks; ++b) row[b] += row[b - 1];
    const double total = row[blocks - 1];
    if (!(total > 0.0 && isfinite(total)))
      complaints.fault->report_value(complaints.op, complaints.row, total);
  }
}

// The first of `count` ascending numbers that is above (or reaches) the target; count if none is.
__device__ int64_t first_beyond(const double* running, int64_t count, double target, bool reach) {
  int64_t low = 0, high = count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    const bool beyond = reach ? running[middle] >= target : running[middle] > target;
    if (beyond)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

// running (rows, blocks) -> drawn (rows, count): a thread per draw.
template <class T>
__global__ void invert_kernel(const T* weights, const double* running, RandomKey key,
                              int64_t* drawn, int64_t total, int64_t count, int64_t blocks,
                              int64_t size) {
  for (int64_t p = first_index(); p < total; p += index_step()) {
    const int64_t r = divide(p, count).quotient;
    const double* const sums = running + r * blocks;
    const auto element = static_cast<uint64_t>(2 * p);
    const double u = uniform_from_words(key.bits(element), key.bits(element + 1));
    double target = u * sums[blocks - 1];
    int64_t block = first_beyond(sums, blocks, target, false);
    const bool reach = block == blocks;  // u * total was rounded up to total
    if (reach) {
      target = sums[blocks - 1];
      block = first_beyond(sums, blocks, target, true);
    }
    // Sums that are not finite have been reported and may lead nowhere.
    block = min(block, blocks - 1);
    const int64_t begin = block * kDrawBlock, end = min(begin + kDrawBlock, size);
    const double before = block > 0 ? sums[block - 1] : 0.0;
    double own = 0.0;
    int64_t found = begin;
    for (int64_t i = begin; i < end; ++i) {
      own += weight_at(weights + r * size, i);
      const double sum = before + own;
      if (reach ? sum >= target : sum > target) {
        found = i;
        break;
      }
    }
    drawn[p] = found;
  }
}

// When index i arrives in an exponential race; NaN, which sorts last, for one that never does.
template <class T>
__global__ void arrivals_kernel(const T* weights, RandomKey key, double* arrivals, int64_t total) {
  for (int64_t p = first_index(); p < total; p += index_step()) {
    const double weight = weight_at(weights, p);
    const double u = open_uniform_from_bits(key.bits(static_cast<uint64_t>(p)));
    arrivals[p] = weight > 0.0 ? -log(u) / weight : nan("");
  }
}

// arrived (rows, count): the last of each row must have arrived at all.
__global__ void check_arrivals_kernel(const double* arrived, int64_t rows, int64_t count,
                                      Complaints complaints) {
  for (int64_t r = first_index(); r < rows; r += index_step())
    if (isnan(arrived[r * count + count - 1]))
      complaints.fault->report_value(complaints.op, complaints.few, static_cast<double>(count));
}

unsigned int blocks_of(int64_t total) { return blocks_for(total, kThreads, 1 << 20); }

// Running sums of the weights, (rows, blocks).
Tensor running_sums(const Tensor& weights, int64_t rows, int64_t size) {
  const Device device = weights.device();
  const int64_t blocks = (size + kDrawBlock - 1) / kDrawBlock;
  const Tensor sums = Tensor::empty({rows, blocks}, f64, device);
  visit_floating(kOp, weights.dtype(), [&]<class T>(TypeTag<T>) {
    block_sums_kernel<<<blocks_of(rows * blocks), kThreads, 0, stream(device)>>>(
        weights.data<T>(), sums.data<double>(), rows * blocks, blocks, size, Complaints(device));
  });
  TENDRIL_CUDA_CHECK_LAUNCH(kOp);
  running_kernel<<<blocks_of(rows), kThreads, 0, stream(device)>>>(sums.data<double>(), rows,
                                                                   blocks, Complaints(device));
  TENDRIL_CUDA_CHECK_LAUNCH(kOp);
  return sums;
}

void draw_different(const Tensor& weights, int64_t rows, int64_t count, const RandomKey& key,
                    const Tensor& out) {
  const Device device = weights.device();
  const Tensor arrivals = Tensor::empty({rows, weights.numel() / rows}, f64, device);
  visit_floating(kOp, weights.dtype(), [&]<class T>(TypeTag<T>) {
    arrivals_kernel<<<blocks_of(weights.numel()), kThreads, 0, stream(device)>>>(
        weights.data<T>(), key, arrivals.data<double>(), weights.numel());
  });
  TENDRIL_CUDA_CHECK_LAUNCH(kOp);
  TENDRIL_CHECK(count <= arrivals.size(1), "[multinomial] cannot draw ", count,
                " different indices from ", arrivals.size(1), " weights");
  const Sorted first = topk(arrivals, count, -1, /*largest=*/false);
  check_arrivals_kernel<<<blocks_of(rows), kThreads, 0, stream(device)>>>(
      first.values.data<double>(), rows, count, Complaints(device));
  TENDRIL_CUDA_CHECK_LAUNCH(kOp);
  copy(Tensor::view(out.storage(), out.offset(), {rows, count}, {count, 1}, i64), first.indices);
}

}  // namespace

// weights (rows, size) and out (rows, count), both dense
void multinomial(const Tensor& weights, bool replacement, const RandomKey& key, const Tensor& out) {
  const int64_t size = weights.size(-1), count = out.size(-1), rows = out.numel() / count;
  const Tensor sums = running_sums(weights, rows, size);
  if (!replacement && count > 1) return draw_different(weights, rows, count, key, out);
  visit_floating(kOp, weights.dtype(), [&]<class T>(TypeTag<T>) {
    invert_kernel<<<blocks_of(out.numel()), kThreads, 0, stream(weights.device())>>>(
        weights.data<T>(), sums.data<double>(), key, out.data<int64_t>(), out.numel(), count,
        sums.size(1), size);
  });
  TENDRIL_CUDA_CHECK_LAUNCH(kOp);
}

}  // namespace tendril::ops::cuda
