// Times cuBLASLt's choices for a product on its own operands, and compares their bits.

#include <algorithm>
#include <vector>

#include <tendril/core/cuda/blas_problem.cuh>
#include <tendril/core/cuda/block.cuh>

namespace tendril::cuda {
namespace {

constexpr int kRounds = 3;            // the first only warms up
constexpr double kWorthwhile = 0.98;  // of the first choice's time: less is noise
constexpr int kCompareThreads = 256, kMostCompareBlocks = 1024;
constexpr int64_t kTelling = 8;  // one of so many numbers must tell something

struct Comparison {
  int64_t different, telling;  // telling: neither zero nor infinite nor NaN
};

// Word: an element's bits; those without the sign that are smaller than `infinity` are finite.
template <class Word>
__global__ void __launch_bounds__(kCompareThreads)
    compare_kernel(const Word* a, const Word* b, int64_t rows, int64_t columns, int64_t ld,
                   Word infinity, Comparison* result) {
  unsigned different = 0, telling = 0;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x)
    for (int64_t i = threadIdx.x; i < columns; i += blockDim.x) {
      const Word x = a[row * ld + i], size = x & static_cast<Word>(~Word{0} >> 1);
      different += x != b[row * ld + i];
      telling += size != 0 && size < infinity;
    }
  __shared__ unsigned shared[kWarp];
  different = block_sum(different, shared);
  telling = block_sum(telling, shared);
  if (threadIdx.x == 0) {  // whole numbers: their order does not matter
    atomicAdd(reinterpret_cast<unsigned long long*>(&result->different), different);
    atomicAdd(reinterpret_cast<unsigned long long*>(&result->telling), telling);
  }
}

// A result of a product, laid out like C.
Tensor scratch_for(const BlasProduct& p) {
  const int64_t matrices = p.batch > 1 ? (p.batch - 1) * p.c.batch_stride : 0;
  return Tensor::empty({matrices + (p.m - 1) * p.c.ld + p.n}, p.out, p.device);
}

// How far `a` and `b`, the first matrix of the batch, have the same bits. Waits.
Comparison compare(const BlasProduct& p, const void* a, const void* b) {
  const Tensor counters = Tensor::empty({2}, i64, p.device);
  const cudaStream_t on = stream(p.device);
  auto* result = static_cast<Comparison*>(counters.raw_data());
  TENDRIL_CUDA_CHECK(cudaMemsetAsync(result, 0, sizeof *result, on));
  const auto start = [&]<class Word>(Word infinity) {
    compare_kernel<Word><<<blocks_for(p.m, 1, kMostCompareBlocks), kCompareThreads, 0, on>>>(
        static_cast<const Word*>(a), static_cast<const Word*>(b), p.m, p.n, p.c.ld, infinity,
        result);
  };
  if (p.out == f32)
    start(uint32_t{0x7F800000});
  else
    start(static_cast<uint16_t>(p.out == bf16 ? 0x7F80 : 0x7C00));
  TENDRIL_CUDA_CHECK_LAUNCH(p.op);
  const std::vector<int64_t> counts = counters.to_vector<int64_t>();
  return {counts[0], counts[1]};
}

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
  Tensor first_result, result;
  try {
    if (p.accumulate) first_result = scratch_for(p);
    result = scratch_for(p);
  } catch (const Error&) {  // no memory to spare
    return choices[0];
  }
  void* first = p.accumulate ? first_result.raw_data() : const_cast<void*>(p.c.data);
  run_product(p, problem, choices[0], first);

  std::vector<int> equal;  // choices with the bits of the first
  for (int i = 0; i < count; ++i) {
    try {
      run_product(p, problem, choices[i], result.raw_data());
    } catch (const Error&) {  // a choice that cannot be used after all
      continue;
    }
    const Comparison comparison = compare(p, first, result.raw_data());
    if (comparison.telling < p.m * p.n / kTelling) return {};
    if (comparison.different == 0) equal.push_back(i);
  }
  if (equal.empty() || equal[0] != 0) return choices[0];  // the first does not repeat itself
  return choices[fastest_of(equal, [&](int choice) {
    Event start(p.device), end(p.device);
    start.record();
    run_product(p, problem, choices[choice], result.raw_data());
    end.record();
    return end.milliseconds_since(start);
  })];
}

}  // namespace tendril::cuda
