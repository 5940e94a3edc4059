// The update rules on a GPU: one pass over all parameters of a step that share dtypes and options.
//
// Per element of a 16-bit parameter 30 bytes move: gradient 2, parameter 2 + 2, master, mean and
// square 4 + 4 each.
#include <vector>

#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/optimizer_coefficients.h>
#include <tendril/core/cuda/runtime.cuh>
#include <tendril/core/cuda/tensor_batch.h>
#include <tendril/core/cuda/vector.cuh>

namespace tendril::ops::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kChunk = 8192;

template <class P>
using state_t = std::conditional_t<std::is_same_v<P, double>, double, float>;

// Neighbours per thread: 16 bytes of state.
template <class C>
constexpr int kRun = tendril::cuda::kVector<C>;

template <class T, int N>
__device__ tendril::cuda::Vector<T, N> load(const T* from) {
  return tendril::cuda::load_vector<T, N>(from);
}

// The parameter in the type of its state. A 16-bit one that was set from outside, so that it is not
// the master's rounding, wins.
template <class P, class C>
__device__ C exact(P stored, C master) {
  if constexpr (std::is_same_v<P, C>)
    return stored;
  else
    return P(master).bits == stored.bits ? master : C(stored);
}

// ---------------------------------------------------------------- AdamW

enum AdamWRole { kParameter, kGradient, kMaster, kMean, kSquare, kMaxSquare, kAdamWRoles };
using AdamWBatch = tendril::cuda::TensorBatch<kAdamWRoles, kChunk>;

template <class P, class G>
struct AdamWPointers {
  using C = state_t<P>;
  P* p;
  const G* g;
  C *master, *m, *v, *vmax;
};

// Elements [at, at + N).
template <bool kAmsGrad, int N, class P, class G>
__device__ void adamw_run(const AdamWPointers<P, G>& to, int64_t at,
                          const tendril::cpu::AdamWCoefficients<state_t<P>>& c) {
  using C = state_t<P>;
  using State = tendril::cuda::Vector<C, N>;
  auto p = load<P, N>(to.p + at);
  const auto g = load<G, N>(to.g + at);
  State m = load<C, N>(to.m + at), v = load<C, N>(to.v + at), master{}, vmax{};
  if constexpr (!std::is_same_v<P, C>) master = load<C, N>(to.master + at);
  if constexpr (kAmsGrad) vmax = load<C, N>(to.vmax + at);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    const C value = tendril::cpu::adamw_element<kAmsGrad>(
        exact<P, C>(p.v[j], master.v[j]), static_cast<C>(g.v[j]), m.v[j], v.v[j], vmax.v[j], c);
    master.v[j] = value;
    p.v[j] = P(value);
  }
  tendril::cuda::store_vector<P, N>(to.p + at, p);
  tendril::cuda::store_vector<C, N>(to.m + at, m);
  tendril::cuda::store_vector<C, N>(to.v + at, v);
  if constexpr (!std::is_same_v<P, C>) tendril::cuda::store_vector<C, N>(to.master + at, master);
  if constexpr (kAmsGrad) tendril::cuda::store_vector<C, N>(to.vmax + at, vmax);
}

template <bool kAmsGrad, class P, class G>
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(const __grid_constant__ AdamWBatch batch,
                 const tendril::cpu::AdamWCoefficients<state_t<P>> c) {
  using C = state_t<P>;
  constexpr int N = kRun<C>;
  const auto piece = batch.piece(blockIdx.x);
  const AdamWPointers<P, G> to = {
      batch.at<P>(piece, kParameter), batch.at<const G>(piece, kGradient),
      batch.at<C>(piece, kMaster),    batch.at<C>(piece, kMean),
      batch.at<C>(piece, kSquare),    batch.at<C>(piece, kMaxSquare)};
  const int64_t vectors = piece.aligned ? piece.size / N : 0;
  for (int64_t i = threadIdx.x; i < vectors; i += kThreads) adamw_run<kAmsGrad, N>(to, i * N, c);
  for (int64_t i = vectors * N + threadIdx.x; i < piece.size; i += kThreads)
    adamw_run<kAmsGrad, 1>(to, i, c);
}

// ---------------------------------------------------------------- SGD

enum SgdRole { kSgdParameter, kSgdGradient, kSgdMaster, kSgdBuffer, kSgdRoles };
using SgdBatch = tendril::cuda::TensorBatch<kSgdRoles, kChunk>;

template <class P, class G>
struct SgdPointers {
  using C = state_t<P>;
  P* p;
  const G* g;
  C *master, *buffer;
};

template <bool kMomentum, int N, class P, class G>
__device__ void sgd_run(const SgdPointers<P, G>& to, int64_t at,
                        const tendril::cpu::SgdCoefficients<state_t<P>>& c) {
  using C = state_t<P>;
  tendril::cuda::Vector<C, N> master{}, buffer{};
  auto p = load<P, N>(to.p + at);
  const auto g = load<G, N>(to.g + at);
  if constexpr (!std::is_same_v<P, C>) master = load<C, N>(to.master + at);
  if constexpr (kMomentum) buffer = load<C, N>(to.buffer + at);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    const C value = tendril::cpu::sgd_element<kMomentum>(exact<P, C>(p.v[j], master.v[j]),
                                                         static_cast<C>(g.v[j]), buffer.v[j], c);
    master.v[j] = value;
    p.v[j] = P(value);
  }
  tendril::cuda::store_vector<P, N>(to.p + at, p);
  if constexpr (!std::is_same_v<P, C>) tendril::cuda::store_vector<C, N>(to.master + at, master);
  if constexpr (kMomentum) tendril::cuda::store_vector<C, N>(to.buffer + at, buffer);
}

template <bool kMomentum, class P, class G>
__global__ void __launch_bounds__(kThreads)
    sgd_kernel(const __grid_constant__ SgdBatch batch,
               const tendril::cpu::SgdCoefficients<state_t<P>> c) {
  using C = state_t<P>;
  constexpr int N = kRun<C>;
  const auto piece = batch.piece(blockIdx.x);
  const SgdPointers<P, G> to = {batch.at<P>(piece, kSgdParameter),
                                batch.at<const G>(piece, kSgdGradient),
                                batch.at<C>(piece, kSgdMaster), batch.at<C>(piece, kSgdBuffer)};
  const int64_t vectors = piece.aligned ? piece.size / N : 0;
  for (int64_t i = threadIdx.x; i < vectors; i += kThreads) sgd_run<kMomentum, N>(to, i * N, c);
  for (int64_t i = vectors * N + threadIdx.x; i < piece.size; i += kThreads)
    sgd_run<kMomentum, 1>(to, i, c);
}

// ---------------------------------------------------------------- which parameters go together

void* data_or_null(const Tensor& x) { return x.defined() ? x.raw_data() : nullptr; }

// Dense, in the dtype of the parameter or of its state.
Tensor usable_gradient(const Tensor& gradient, DType parameter) {
  return contiguous(gradient.dtype() == parameter ? gradient
                                                  : cast(gradient, state_dtype(parameter)));
}

const Tensor& extra_state(const AdamWUpdate& update) { return update.state.max_square; }
const Tensor& extra_state(const SgdUpdate& update) { return update.state.buffer; }

AdamWBatch::Entry entry(const AdamWUpdate& update, const Tensor& gradient) {
  const AdamWState& state = update.state;
  return {{update.parameter.raw_data(), gradient.raw_data(), data_or_null(state.master),
           state.mean.raw_data(), state.square.raw_data(), data_or_null(state.max_square)},
          update.parameter.numel(),
          /*aligned=*/true};
}

SgdBatch::Entry entry(const SgdUpdate& update, const Tensor& gradient) {
  return {{update.parameter.raw_data(), gradient.raw_data(), data_or_null(update.state.master),
           data_or_null(update.state.buffer)},
          update.parameter.numel(),
          /*aligned=*/true};
}

// 16 bytes are what the widest accesses need, and no less than the narrower ones do.
template <class Entry>
bool all_aligned(const Entry& entry) {
  for (const void* pointer : entry.data)
    if (!tendril::cuda::aligned16(pointer)) return false;
  return true;
}

// Calls launch(first, gradient of it, entries) for each set of updates with the same dtypes, extra
// state and options.
template <class Batch, class Update, class Launch>
void for_each_set(std::span<const Update> updates, const Launch& launch) {
  std::vector<Tensor> gradients;  // alive until all is queued
  for (const Update& update : updates)
    gradients.push_back(usable_gradient(update.gradient, update.parameter.dtype()));
  std::vector<bool> done(updates.size());
  for (size_t i = 0; i < updates.size(); ++i) {
    if (done[i]) continue;
    std::vector<typename Batch::Entry> entries;
    for (size_t j = i; j < updates.size(); ++j) {
      if (done[j] || updates[j].parameter.dtype() != updates[i].parameter.dtype() ||
          gradients[j].dtype() != gradients[i].dtype() ||
          extra_state(updates[j]).defined() != extra_state(updates[i]).defined() ||
          !(updates[j].options == updates[i].options))
        continue;
      done[j] = true;
      entries.push_back(entry(updates[j], gradients[j]));
      entries.back().aligned = all_aligned(entries.back());
    }
    launch(updates[i], gradients[i].dtype(), entries);
  }
}

// run(TypeTag of the parameter, TypeTag of the gradient)
template <class Run>
void visit_types(const char* op, DType parameter, DType gradient, const Run& run) {
  visit_floating(op, parameter, [&]<class P>(TypeTag<P> p) {
    if (gradient == parameter) return run(p, p);
    if constexpr (is_half<P>) run(p, TypeTag<float>{});
  });
}

}  // namespace

void adamw_steps(std::span<const AdamWUpdate> updates) {
  const cudaStream_t stream = tendril::cuda::stream(updates[0].parameter.device());
  for_each_set<AdamWBatch>(updates, [&](const AdamWUpdate& first, DType gradient,
                                        std::span<const AdamWBatch::Entry> entries) {
    visit_types("adamw_step", first.parameter.dtype(), gradient,
                [&]<class P, class G>(TypeTag<P>, TypeTag<G>) {
                  const auto c = coefficients<state_t<P>>(first.options);
                  const auto kernel = first.state.max_square.defined() ? adamw_kernel<true, P, G>
                                                                       : adamw_kernel<false, P, G>;
                  tendril::cuda::for_each_batch<kAdamWRoles, kChunk>(
                      entries, [&](const AdamWBatch& batch) {
                        kernel<<<batch.chunks(), kThreads, 0, stream>>>(batch, c);
                      });
                });
  });
  TENDRIL_CUDA_CHECK_LAUNCH("adamw_step");
}

void sgd_steps(std::span<const SgdUpdate> updates) {
  const cudaStream_t stream = tendril::cuda::stream(updates[0].parameter.device());
  for_each_set<SgdBatch>(updates, [&](const SgdUpdate& first, DType gradient,
                                      std::span<const SgdBatch::Entry> entries) {
    visit_types(
        "sgd_step", first.parameter.dtype(), gradient,
        [&]<class P, class G>(TypeTag<P>, TypeTag<G>) {
          const auto c = coefficients<state_t<P>>(first.options);
          const auto kernel =
              first.state.buffer.defined() ? sgd_kernel<true, P, G> : sgd_kernel<false, P, G>;
          tendril::cuda::for_each_batch<kSgdRoles, kChunk>(entries, [&](const SgdBatch& batch) {
            kernel<<<batch.chunks(), kThreads, 0, stream>>>(batch, c);
          });
        });
  });
  TENDRIL_CUDA_CHECK_LAUNCH("sgd_step");
}

}  // namespace tendril::ops::cuda
