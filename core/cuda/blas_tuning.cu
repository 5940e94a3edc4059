// Times cuBLASLt's choices for a product and compares their bits, on operands that are drawn for
// it: those of the caller may be such that every order of the sums gives the same (zeros, ones).

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include <tendril/core/creation.h>
#include <tendril/core/cuda/blas_problem.cuh>
#include <tendril/core/cuda/block.cuh>

namespace tendril::cuda {
namespace {

constexpr int kRounds = 3;            // the first only warms up
constexpr double kWorthwhile = 0.98;  // of the first choice's time: less is noise
constexpr int kCompareThreads = 256, kMostCompareBlocks = 1024;

// Word: an element's bits. Matrices as BlasMatrix has them, `rows` each.
template <class Word>
__global__ void __launch_bounds__(kCompareThreads)
    compare_kernel(const Word* a, const Word* b, BlasMatrix c, int64_t batch, int64_t rows,
                   int64_t columns, int64_t* result) {
  unsigned different = 0;
  for (int64_t row = blockIdx.x; row < batch * rows; row += gridDim.x) {
    const int64_t at = row / rows * c.batch_stride + row % rows * c.ld;
    for (int64_t i = threadIdx.x; i < columns; i += blockDim.x) different += a[at + i] != b[at + i];
  }
  __shared__ unsigned shared[kWarp];
  different = block_sum(different, shared);
  if (threadIdx.x == 0)  // whole numbers: their order does not matter
    atomicAdd(reinterpret_cast<unsigned long long*>(result),
              static_cast<unsigned long long>(different));
}

// The numbers between the first and the last of a matrix, or a batch of them.
int64_t extent(const BlasMatrix& x, int64_t rows, int64_t columns, int64_t batch) {
  if (x.column_major) std::swap(rows, columns);
  return (batch - 1) * x.batch_stride + (rows - 1) * x.ld + columns;
}

// The product on operands of its own, with room for two results.
struct Trial {
  Tensor a, b, c, first, second;
  BlasProduct product;

  explicit Trial(const BlasProduct& p)
      : a(drawn(p, extent(p.a, p.m, p.k, p.batch), p.in, 1)),
        b(drawn(p, extent(p.b, p.k, p.n, p.batch), p.in, 2)),
        first(Tensor::empty({extent(p.c, p.m, p.n, p.batch)}, p.out, p.device)),
        second(Tensor::empty(first.shape(), p.out, p.device)),
        product(p) {
    if (p.accumulate) c = drawn(p, first.numel(), p.out, 3);
    product.a.data = a.raw_data();
    product.b.data = b.raw_data();
    product.c.data = (p.accumulate ? c : first).raw_data();
  }

  static Tensor drawn(const BlasProduct& p, int64_t count, DType dtype, uint64_t seed) {
    return randn({count}, dtype, RandomKey{seed, 0, tendril::Stream::data}, p.device);
  }

  // Waits.
  bool has_equal_results() const {
    const Tensor different = zeros({1}, i64, product.device);
    const auto start = [&]<class Word>(Word) {
      compare_kernel<Word><<<blocks_for(product.batch * product.m, 1, kMostCompareBlocks),
                             kCompareThreads, 0, stream(product.device)>>>(
          static_cast<const Word*>(first.raw_data()), static_cast<const Word*>(second.raw_data()),
          product.c, product.batch, product.m, product.n, different.data<int64_t>());
    };
    if (size_of(product.out) == 4)
      start(uint32_t{});
    else
      start(uint16_t{});
    TENDRIL_CUDA_CHECK_LAUNCH(product.op);
    return different.item<int64_t>() == 0;
  }
};

// The fastest, if it is clearly faster than the first. One run at a time, with a rest between them:
// under full load, when power sets the clock, timings told less about a training step on an H200.
template <class Clock>
int fastest_of(const std::vector<int>& choices, const Clock& clock) {
  std::vector<double> best(choices.size(), 1e30);
  for (int round = 0; round < kRounds; ++round)
    for (size_t i = 0; i < choices.size(); ++i) {
      const double milliseconds = clock(choices[i]);
      if (round > 0) best[i] = std::min(best[i], milliseconds);
    }
  const auto fastest = std::min_element(best.begin(), best.end());
  return *fastest < kWorthwhile * best[0] ? choices[fastest - best.begin()] : choices[0];
}

}  // namespace

bool is_worth_tuning(const BlasProduct& p) {
  const double flops = 2.0 * static_cast<double>(p.m) * static_cast<double>(p.n) *
                       static_cast<double>(p.k) * static_cast<double>(p.batch);
  const double least = tuned_product_flops();
  return size_of(p.in) == 2 && least > 0.0 && flops >= least;
}

BlasChoice fastest_choice(const BlasProduct& p, BlasProblem& problem, const BlasChoice* choices,
                          int count) {
  std::optional<Trial> trial;
  try {
    trial.emplace(p);
  } catch (const Error&) {  // no memory to spare
    return choices[0];
  }
  const auto run = [&](const BlasChoice& choice, const Tensor& out) {
    run_product(trial->product, problem, choice, out.raw_data());
  };
  run(choices[0], trial->first);
  std::vector<int> equal;  // choices with the bits of the first
  for (int i = 0; i < count; ++i) {
    try {
      run(choices[i], trial->second);
    } catch (const Error&) {  // a choice that cannot be used after all
      continue;
    }
    if (trial->has_equal_results()) equal.push_back(i);
  }
  if (equal.empty() || equal[0] != 0) return choices[0];  // the first does not repeat itself
  return choices[fastest_of(equal, [&](int choice) {
    Event start(p.device), end(p.device);
    start.record();
    run(choices[choice], trial->second);
    end.record();
    return end.milliseconds_since(start);
  })];
}

}  // namespace tendril::cuda
