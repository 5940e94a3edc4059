// What all kernels of an optimizer's step share: the values of parameters as their rules see them,
// and which parameters go together in a launch.
#pragma once

#include <cstring>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <tendril/core/cuda/tensor_batch.h>
#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/optimizer_kernels.h>
#include <tendril/core/ops/optimizer_step.h>
#include <tendril/core/cuda/runtime.cuh>
#include <tendril/core/cuda/vector.cuh>

namespace tendril::ops::cuda {

inline constexpr int kStepThreads = 256;

template <class P>
using state_t = std::conditional_t<std::is_same_v<P, double>, double, float>;

/// What the tables of all kernels begin with; the states follow.
enum StepRole { kParameter, kGradient, kMaster, kFirstState };

/// The parameter in the type of its state. A 16-bit one that was set from outside, so that it is
/// not the master's rounding, wins.
template <class P, class C>
__device__ C exact(P stored, C master) {
  return P(master).bits == stored.bits ? master : C(stored);
}

/// A rule of optimizer_rules.h with its coefficients rounded to the type of the state, once: they
/// are all that it holds. The way back to double and forth again is none in the compiled code.
template <class C, class Rule>
struct RoundedRule {
  static_assert(std::is_trivially_copyable_v<Rule> && sizeof(Rule) % sizeof(double) == 0);
  static constexpr int kNumbers = static_cast<int>(sizeof(Rule) / sizeof(double));
  C numbers[kNumbers];

  explicit RoundedRule(const Rule& rule) {
    double exact[kNumbers];
    memcpy(exact, &rule, sizeof(rule));
    for (int k = 0; k < kNumbers; ++k) numbers[k] = static_cast<C>(exact[k]);
  }
  __device__ C operator()(C p, C g, C* s) const {
    double wide[kNumbers];
#pragma unroll
    for (int k = 0; k < kNumbers; ++k) wide[k] = numbers[k];
    Rule rule;
    memcpy(&rule, wide, sizeof(rule));
    return rule(p, g, s);
  }
};

/// A piece of a parameter: its exact values, wherever they are. With kRounding, which is for bf16,
/// there is no master, and new values are rounded at random, with the numbers that the CPU takes.
template <class P, bool kRounding>
struct Weights {
  using C = state_t<P>;
  template <int N>
  using Values = tendril::cuda::Vector<C, N>;
  static constexpr bool kHasMaster = !std::is_same_v<P, C> && !kRounding;
  static_assert(!kRounding || std::is_same_v<P, bfloat16>);

  P* stored;
  C* master;      // null without kHasMaster
  int64_t begin;  // where the piece begins in its parameter, a multiple of 4
  RandomKey key;

  /// Elements [at, at + N) of the piece.
  template <int N>
  __device__ Values<N> load(int64_t at) const {
    const auto p = tendril::cuda::load_vector<P, N>(stored + at);
    Values<N> values{};
    if constexpr (kHasMaster) values = tendril::cuda::load_vector<C, N>(master + at);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      if constexpr (kHasMaster)
        values.v[j] = exact<P, C>(p.v[j], values.v[j]);
      else
        values.v[j] = C(p.v[j]);
    }
    return values;
  }

  /// `at` must be a multiple of N, which is 4 or 1 with kRounding.
  template <int N>
  __device__ void store(int64_t at, const Values<N>& values) const {
    tendril::cuda::Vector<P, N> p;
    if constexpr (kRounding) {
      const auto element = static_cast<uint64_t>(begin + at);
      static_assert(N == 4 || N == 1);
      const PhiloxBlock words = key.block(element / 4);
#pragma unroll
      for (int j = 0; j < 4; ++j)  // with N = 1 for the word that is the element's
        if (N == 4 || element % 4 == static_cast<uint64_t>(j))
          p.v[j % N].bits = tendril::cpu::round_at_random(values.v[j % N], words[j]);
    } else {
#pragma unroll
      for (int j = 0; j < N; ++j) p.v[j] = P(values.v[j]);
    }
    tendril::cuda::store_vector<P, N>(stored + at, p);
    if constexpr (kHasMaster) tendril::cuda::store_vector<C, N>(master + at, values);
  }
};

/// Those of a piece of a batch whose entries have a RandomKey with them where kRounding is.
template <class P, bool kRounding, class Batch>
__device__ Weights<P, kRounding> weights_of(const Batch& batch,
                                            const typename Batch::Piece& piece) {
  Weights<P, kRounding> weights = {batch.template at<P>(piece, kParameter),
                                   batch.template at<state_t<P>>(piece, kMaster),
                                   piece.begin,
                                   {}};
  if constexpr (kRounding) weights.key = batch.entries[piece.tensor].extra;
  return weights;
}

/// What such a batch has with each tensor.
template <bool kRounding>
using StepExtra = std::conditional_t<kRounding, RandomKey, tendril::cuda::NothingElse>;

inline void* data_or_null(const Tensor& x) { return x.defined() ? x.raw_data() : nullptr; }

/// Fills in what is the same for all rules. 16 bytes are what the widest accesses need, and no less
/// than the narrower ones do.
template <class Entry, class Update>
void finish_entry(Entry& entry, const Update& update, const Tensor& gradient) {
  entry.data[kParameter] = update.parameter.raw_data();
  entry.data[kGradient] = gradient.raw_data();
  entry.data[kMaster] = data_or_null(update.master);
  entry.size = update.parameter.numel();
  entry.aligned = true;
  for (const void* pointer : entry.data)
    if (!tendril::cuda::aligned16(pointer)) entry.aligned = false;
  if constexpr (std::is_same_v<decltype(entry.extra), RandomKey>) entry.extra = *update.rounding;
}

/// An update, and its gradient: dense, in the dtype of the parameter or of its state.
template <class Update>
using WithGradient = std::pair<const Update*, Tensor>;

/// Calls launch(updates) for each set of them that has the same dtypes and the same rule.
template <class Update, class Launch>
void for_each_set(std::span<const Update> updates, const Launch& launch) {
  std::vector<WithGradient<Update>> rest, set, others;
  for (const Update& update : updates) {
    const DType dtype = update.parameter.dtype();
    const Tensor& given = update.gradient;
    rest.emplace_back(&update,
                      contiguous(given.dtype() == dtype ? given : cast(given, state_dtype(dtype))));
  }
  while (!rest.empty()) {
    const auto& [first, gradient] = rest.front();
    for (const auto& entry : rest) {
      const Update& update = *entry.first;
      // A rule with a NaN is not even like itself; its set is its update alone.
      const bool alike =
          &entry == &rest.front() || (update.parameter.dtype() == first->parameter.dtype() &&
                                      entry.second.dtype() == gradient.dtype() &&
                                      update.rounding.has_value() == first->rounding.has_value() &&
                                      update.rule == first->rule);
      (alike ? set : others).push_back(entry);
    }
    launch(std::span<const WithGradient<Update>>(set));
    set.clear();
    rest = std::exchange(others, {});
  }
}

/// run(TypeTag of the parameter, TypeTag of the gradient, whether it is rounded at random) for the
/// types of a set.
template <class Update, class Run>
void visit_types(const char* op, const WithGradient<Update>& first, const Run& run) {
  const DType parameter = first.first->parameter.dtype(), gradient = first.second.dtype();
  const bool rounding = first.first->rounding.has_value();
  visit_floating(op, parameter, [&]<class P>(TypeTag<P> p) {
    const auto with_gradient = [&](auto rounds) {
      if (gradient == parameter) return run(p, p, rounds);
      if constexpr (is_half<P>) run(p, TypeTag<float>{}, rounds);
    };
    if constexpr (std::is_same_v<P, bfloat16>)
      if (rounding) return with_gradient(std::true_type{});
    with_gradient(std::false_type{});
  });
}

}  // namespace tendril::ops::cuda
