// Attention on CUDA: describes the problem to the kernels and chooses between those on tensor cores
// and the general ones. The output lies in memory as (B, T, H, D), so that joining the heads is a
// view; so do the gradients, of one length side by side, so that those of a joint projection to q,
// k and v are one dense tensor already.

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include <tendril/core/cuda.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/strided.h>
#include <tendril/core/ops/attention_kernels.cuh>

namespace tendril::ops::cuda {
namespace {

constexpr int64_t kLongest = int64_t{1} << 29;  // Tq and Tk: sums of both fit in 32 bits

HeadView view(const Tensor& x) {
  const Strides& strides = x.strides();
  return {x.raw_data(), strides[0], strides[1], strides[2], strides[3]};
}

// Whether rows of 16-bit numbers can be read 16 bytes at a time.
bool has_aligned_rows(const Tensor& x) {
  if (x.strides()[3] != 1 || reinterpret_cast<uintptr_t>(x.raw_data()) % 16 != 0) return false;
  for (int64_t axis = 0; axis < 3; ++axis)
    if (x.size(axis) > 1 && x.strides()[axis] % 8 != 0) return false;
  return true;
}

Tensor with_aligned_rows(const Tensor& x) { return has_aligned_rows(x) ? raw(x) : clone(x); }

bool is_fast(const Tensor& q, const AttentionSettings& settings) {
  return size_of(q.dtype()) == 2 && q.size(3) % 8 == 0 && q.size(3) > 0 && q.size(3) <= 128 &&
         settings.scale > 0.0 && tendril::cuda::properties(q.device()).major >= 8;
}

#ifdef TENDRIL_HAVE_SM90A
// Whether bulk copies can read (B, heads, length, D): they know no tensor that repeats itself.
bool is_spread_out(const HeadView& x, int64_t B, int64_t heads, int64_t length) {
  return (B == 1 || x.batch > 0) && (heads == 1 || x.head > 0) && (length == 1 || x.row > 0);
}

// Whether Hopper's own products serve. TENDRIL_WGMMA=0 in the environment leaves them out.
template <class Problem>
bool is_hopper(const Tensor& q, const Problem& problem) {
  static const bool allowed = [] {
    const char* setting = std::getenv("TENDRIL_WGMMA");
    return !setting || std::string_view(setting) != "0";
  }();
  const tendril::cuda::Properties& device = tendril::cuda::properties(q.device());
  const bool fits = (problem.D > 32 && problem.D <= 64) || problem.D > 96;  // little padding
  const auto of_queries = [&](const HeadView& x) {
    return is_spread_out(x, problem.B, problem.H, problem.bounds.Tq);
  };
  const auto of_keys = [&](const HeadView& x) {
    return is_spread_out(x, problem.B, problem.Hk, problem.bounds.Tk);
  };
  bool readable = of_queries(problem.q) && of_keys(problem.k) && of_keys(problem.v);
  if constexpr (requires { problem.g; }) readable = readable && of_queries(problem.g);
  return allowed && fits && readable && device.major == 9 && device.minor == 0 && !problem.drops &&
         problem.mask_kind == MaskKind::none;
}
#endif

void fast_forward(const Tensor& q, const AttentionForward& problem,
                  const PackedSequences* sequences, cudaStream_t stream) {
#ifdef TENDRIL_HAVE_SM90A
  if (!sequences && is_hopper(q, problem))
    return hopper_attention_forward(problem, q.dtype(), stream);
#endif
  fast_attention_forward(problem, sequences, q.dtype(), stream);
}

void fast_backward(const Tensor& q, const AttentionBackward& problem,
                   const PackedSequences* sequences, cudaStream_t stream) {
  fast_attention_deltas(problem, q.dtype(), stream);
#ifdef TENDRIL_HAVE_SM90A
  if (!sequences && is_hopper(q, problem))
    return hopper_attention_backward(problem, q.dtype(), stream);
#endif
  fast_attention_backward(problem, sequences, q.dtype(), stream);
}

// The mask as the kernels read it: bool, or in the type of the scores.
Tensor readable_mask(const Tensor& q, const Tensor& mask) {
  if (!mask.defined() || mask.dtype() == bool_) return mask;
  return cast(mask, accumulate_dtype(q.dtype()));
}

void describe(AttentionProblem& problem, const Tensor& q, const Tensor& k, const Tensor& mask,
              const AttentionSettings& settings) {
  TENDRIL_CHECK(q.size(2) < kLongest && k.size(2) < kLongest,
                "[scaled_dot_product_attention] needs fewer than ", kLongest,
                " queries and keys on CUDA; got ", q.size(2), " and ", k.size(2));
  problem.B = q.size(0);
  problem.H = q.size(1);
  problem.Hk = k.size(1);
  problem.D = q.size(3);
  problem.bounds = {q.size(2), k.size(2), settings.causal, settings.window};
  problem.all_queries = q.size(2);
  problem.scale = settings.scale;
  problem.drops = settings.dropout > 0.0;
  problem.key = settings.key;
  problem.drop_below = drop_threshold(settings.dropout);
  problem.kept = 1.0 / (1.0 - settings.dropout);
  if (!mask.defined()) return;
  problem.mask_kind = mask.dtype() == bool_ ? MaskKind::boolean : MaskKind::additive;
  problem.mask = mask.raw_data();
  const Strides strides =
      broadcast_strides(mask.shape(), mask.strides(), {q.size(0), q.size(1), q.size(2), k.size(2)});
  std::copy(strides.begin(), strides.end(), problem.mask_strides);
}

// (B, H, T, D), in memory (B, T, H, D).
Tensor empty_heads(const Tensor& like) {
  const Shape& shape = like.shape();
  return transpose(
      Tensor::empty({shape[0], shape[2], shape[1], shape[3]}, like.dtype(), like.device()), 1, 2);
}

AttentionGradients empty_gradients(const Tensor& q, const Tensor& k) {
  if (q.size(2) != k.size(2)) return {empty_heads(q), empty_heads(k), empty_heads(k)};
  const int64_t H = q.size(1), Hk = k.size(1);
  const Tensor joint =
      Tensor::empty({q.size(0), q.size(2), H + 2 * Hk, q.size(3)}, q.dtype(), q.device());
  const auto part = [&](int64_t first, int64_t heads) {
    return transpose(narrow(joint, 2, first, heads), 1, 2);
  };
  return {part(0, H), part(H, Hk), part(H + Hk, Hk)};
}

AttentionResult forward(const Tensor& q, const Tensor& k, const Tensor& v,
                        const AttentionSettings& settings, const PackedSequences* sequences) {
  const AttentionResult result{
      empty_heads(q),
      Tensor::empty({q.size(0), q.size(1), q.size(2)}, accumulate_dtype(q.dtype()), q.device())};
  const cudaStream_t stream = tendril::cuda::stream(q.device());
  const Tensor mask = readable_mask(q, settings.mask);
  AttentionForward problem;
  describe(problem, q, k, mask, settings);
  problem.output = view(result.output);
  problem.lse = result.lse.raw_data();
  if (is_fast(q, settings)) {
    const Tensor queries = with_aligned_rows(q), keys = with_aligned_rows(k),
                 values = with_aligned_rows(v);
    problem.q = view(queries), problem.k = view(keys), problem.v = view(values);
    fast_forward(q, problem, sequences, stream);
  } else {
    problem.q = view(q), problem.k = view(k), problem.v = view(v);
    general_attention_forward(problem, sequences, q.dtype(), stream);
  }
  return result;
}

AttentionGradients backward(const Tensor& g, const Tensor& q, const Tensor& k, const Tensor& v,
                            const AttentionResult& result, const AttentionSettings& settings,
                            const PackedSequences* sequences) {
  const AttentionGradients gradients = empty_gradients(q, k);
  const cudaStream_t stream = tendril::cuda::stream(q.device());
  const Tensor mask = readable_mask(q, settings.mask);
  const bool fast =
      is_fast(q, settings) && fast_attention_backward_bytes(q.size(3)) <=
                                  tendril::cuda::properties(q.device()).shared_bytes_per_block;
  // The fast kernels keep lse beside delta, as powers of 2.
  const Tensor delta = Tensor::empty({q.size(0), q.size(1), q.size(2), fast ? 2 : 1},
                                     result.lse.dtype(), q.device());
  AttentionBackward problem;
  describe(problem, q, k, mask, settings);
  problem.dq = view(gradients.q), problem.dk = view(gradients.k), problem.dv = view(gradients.v);
  problem.lse = result.lse.raw_data();
  problem.delta = delta.raw_data();
  const auto ready = [&](const Tensor& x) { return fast ? with_aligned_rows(x) : x; };
  const Tensor upstream = ready(g), queries = ready(q), keys = ready(k), values = ready(v),
               output = ready(result.output);
  problem.g = view(upstream), problem.output = view(output);
  problem.q = view(queries), problem.k = view(keys), problem.v = view(values);
  if (fast)
    fast_backward(q, problem, sequences, stream);
  else
    general_attention_backward(problem, sequences, q.dtype(), stream);
  return gradients;
}

}  // namespace

AttentionResult attention(const Tensor& q, const Tensor& k, const Tensor& v,
                          const AttentionSettings& settings) {
  return forward(q, k, v, settings, nullptr);
}

AttentionGradients attention_backward(const Tensor& g, const Tensor& q, const Tensor& k,
                                      const Tensor& v, const AttentionResult& result,
                                      const AttentionSettings& settings) {
  return backward(g, q, k, v, result, settings, nullptr);
}

AttentionResult packed_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                 const AttentionSettings& settings,
                                 const PackedSequences& sequences) {
  return forward(q, k, v, settings, &sequences);
}

AttentionGradients packed_attention_backward(const Tensor& g, const Tensor& q, const Tensor& k,
                                             const Tensor& v, const AttentionResult& result,
                                             const AttentionSettings& settings,
                                             const PackedSequences& sequences) {
  return backward(g, q, k, v, result, settings, &sequences);
}

}  // namespace tendril::ops::cuda
